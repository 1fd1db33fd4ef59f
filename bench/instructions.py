"""How many instructions an operation takes, counted by valgrind.

It is the difference between two runs of different length, so that the interpreter's start
is in neither. Counts hardly vary, and say nothing of what the processor waits for.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from harness import OPERATIONS

GROUPS = ["make+drop", "clone+drop", "deref", "out-and-back"]
NAMES = ["VMExternRef", "object()", "weakref.ref", "dict of handles"]
SHORT, LONG = 10, 30    # calls of OPERATIONS each; in both, the interpreter has specialized the code

PROGRAM = """
import json, sys
from harness import Statement
run = Statement("", *json.loads(sys.argv[1])).repeated()
for _ in range(int(sys.argv[2])):
    run()
"""


def counted(group, answer):
    return group["name"] in GROUPS and answer.name in NAMES


def count(statement):
    """Instructions of one operation."""
    return (whole(statement, LONG) - whole(statement, SHORT)) / (LONG - SHORT) / OPERATIONS


def whole(statement, calls):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
               sys.executable, "-c", PROGRAM, json.dumps([statement.setup, statement.code]), str(calls)]
    result = subprocess.run(command, cwd=Path(__file__).parent, env={**os.environ, "PYTHONHASHSEED": "0"},
                            capture_output=True, text=True, check=True)
    return int(re.search(r"Collected : (\d+)", result.stderr)[1])
