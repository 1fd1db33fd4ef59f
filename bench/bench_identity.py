"""What does it cost to compare references and to hash one?

What equals a VMExternRef is its clone, a cffi handle its copy; the other rivals have none
and equal themselves.
"""

from harness import Statement
from rivals import CFFI_COMPILED, CTYPES, EXTERNREF, PLAIN, WEAKREF_LIVE

QUESTIONS = {
    "identity: equal": [
        Statement("VMExternRef", EXTERNREF, "ref == same"),
        Statement("object()", PLAIN, "x == x"),
        Statement("tuple", PLAIN, "pair == pair"),
        Statement("slots class", PLAIN, "slots == slots"),
        Statement("weakref.ref", WEAKREF_LIVE, "weak == weak"),
        Statement("ctypes.py_object", CTYPES, "box == box"),
        Statement("cffi handle", CFFI_COMPILED, "handle == same"),
    ],
    "identity: different": [
        Statement("VMExternRef", EXTERNREF, "ref == other"),
        Statement("object()", PLAIN, "x == other"),
        Statement("slots class", PLAIN, "slots == other_slots"),
        Statement("weakref.ref", WEAKREF_LIVE, "weak == other"),
        Statement("ctypes.py_object", CTYPES, "box == other"),
        Statement("cffi handle", CFFI_COMPILED, "handle == other"),
    ],
    "identity: hash": [
        Statement("VMExternRef", EXTERNREF, "hash(ref)"),
        Statement("object()", PLAIN, "hash(x)"),
        Statement("tuple", PLAIN, "hash(pair)"),
        Statement("slots class", PLAIN, "hash(slots)"),
        Statement("weakref.ref", WEAKREF_LIVE, "hash(weak)"),
        Statement("cffi handle", CFFI_COMPILED, "hash(handle)"),
    ],
}


def test_identity(measure):
    measure()
