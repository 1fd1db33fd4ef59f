"""The commands of `python -m externref`, one a module: its arguments, and what it runs."""
