"""How much memory does a live reference take? Also: `python bench/bench_memory.py`.

It is the growth of the resident set while a list, allocated before, is filled with
references to as many values, made before; a process of its own for each rival.
"""

import gc
import resource
import subprocess
import sys
from pathlib import Path

from harness import Statement
from rivals import CFFI_COMPILED, CTYPES, EXTERNREF, HANDLES, PLAIN, WEAKREF

LIVE = 1_000_000

STATEMENTS = [
    Statement("VMExternRef", EXTERNREF, "VMExternRef(x)"),
    Statement("VMExternRef, moved out", EXTERNREF, "VMExternRef(x).into_raw()"),    # with the int
    Statement("object()", PLAIN, "object()"),
    Statement("tuple", PLAIN, "(x,)"),
    Statement("slots class", PLAIN, "Slots(x)"),
    Statement("dict of handles", HANDLES, "handles.setdefault(next_handle(), x)"),  # with the int
    Statement("weakref.ref", WEAKREF, "ref(x)"),
    Statement("ctypes.py_object", CTYPES, "py_object(x)"),
    Statement("cffi handle", CFFI_COMPILED, "new_handle(x)"),
]


class Value:
    __slots__ = ("__weakref__",)


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def bytes_of_one(statement):
    """Bytes of memory that each of LIVE references takes; for a fresh process."""
    scope = {}
    exec(statement.setup, scope)
    make = eval(f"lambda x: {statement.code}", scope)
    gc.disable()    # there is no garbage, and it takes long to look through all this
    values = [Value() for _ in range(LIVE)]
    live = [None] * LIVE
    before = resident_bytes()
    for i, value in enumerate(values):
        live[i] = make(value)
    return (resident_bytes() - before) / LIVE


def table():
    rows = [f"bytes of memory for each of {LIVE:,} live references"]
    for index, statement in enumerate(STATEMENTS):
        output = subprocess.check_output([sys.executable, __file__, str(index)], text=True)
        rows.append(f"  {statement.name:26}{output.strip():>8}")
    return "\n".join(rows)


def test_memory(capsys):
    text = table()
    with capsys.disabled():
        print(f"\n{text}")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(table())
    else:
        try:
            print(round(bytes_of_one(STATEMENTS[int(sys.argv[1])])))
        except ImportError as missing:
            print(f"skipped, {missing}")
