"""How much memory does a live reference take?

It is the growth of the resident set while a list, allocated before, is filled with a million
references to as many values, made before; in a process of its own for each rival.
"""

import gc
import resource
from pathlib import Path

from harness import Program
from rivals import CFFI_COMPILED, CTYPES, EXTERNREF, HANDLES, PLAIN, TVM, WEAKREF

LIVE = 1_000_000


class Value:
    __slots__ = ("__weakref__",)


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def bytes_of_one(setup, code):
    """Bytes of memory that each of LIVE references takes; for a fresh process."""
    scope = {}
    exec(setup, scope)
    make = eval(f"lambda x: {code}", scope)
    gc.disable()    # there is no garbage, and it takes long to look through all this
    values = [Value() for _ in range(LIVE)]
    live = [None] * LIVE
    before = resident_bytes()
    for i, value in enumerate(values):
        live[i] = make(value)
    return (resident_bytes() - before) / LIVE


QUESTIONS = {
    "memory": [
        Program(name, "bytes", bytes_of_one, (setup, code)) for name, setup, code in (
            ("VMExternRef", EXTERNREF, "VMExternRef(x)"),
            ("VMExternRef, moved out", EXTERNREF, "VMExternRef(x).into_raw()"),         # with the int
            ("object()", PLAIN, "object()"),
            ("tuple", PLAIN, "(x,)"),
            ("slots class", PLAIN, "Slots(x)"),
            ("dict of handles", HANDLES, "handles.setdefault(next_handle(), x)"),       # with the int
            ("weakref.ref", WEAKREF, "ref(x)"),
            ("ctypes.py_object", CTYPES, "py_object(x)"),
            ("cffi handle", CFFI_COMPILED, "new_handle(x)"),
            ("apache-tvm-ffi", TVM, "opaque(x)"),
        )
    ],
}


def test_memory(show):
    show()
