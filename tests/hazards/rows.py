"""The rows of the tables: what went wrong elsewhere, or here, and what people did to break this package."""

import tomllib
from pathlib import Path

TABLES = ("hazards.toml", "attacks.toml")


def rows_of(*tables):
    folder = Path(__file__).parent
    return [row for table in tables for row in tomllib.loads((folder / table).read_text(encoding="utf-8"))["hazard"]]
