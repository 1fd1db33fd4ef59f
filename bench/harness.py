"""What pytest and ratios.py share: statements, repeated so that nanoseconds can be told.

A function called once per operation would cost more than the operation. So a statement
is repeated in the body of one function, where every name it uses is a local variable:
no rival pays for a look-up that another is spared. The garbage collector stays on, as it
is in a program.
"""

import builtins
from collections.abc import Callable
from dataclasses import dataclass

OPERATIONS = 1000   # in one call of a repeated statement
COPIES = 100        # of it written out, so that the loop around them costs next to nothing


@dataclass(frozen=True)
class Statement:
    """One answer, externref's or a rival's, to the question of a file."""

    name: str
    setup: str      # run once, before; raises ImportError if the rival is not installed
    code: str       # what is timed: one line

    def repeated(self) -> Callable[[], None]:
        """A function that runs the code OPERATIONS times."""
        scope = {**vars(builtins)}
        exec(self.setup, scope)
        names = compile(self.code, self.name, "exec").co_names
        arguments = ", ".join(f"{name}={name}" for name in names if name in scope)
        lines = [
            f"def run({arguments}):",
            f"  for _ in range({OPERATIONS // COPIES}):",
            *[f"    {self.code}"] * COPIES,
        ]
        exec("\n".join(lines), scope)
        return scope["run"]
