"""What does it cost to send an object out as an integer and get it back?

The integer is what compiled code would keep. Afterwards nothing owns the object any more
on its account. Meanwhile a VMExternRef's raw pointer owns it, or the entry of a dict; a
ctypes or cffi handle dangles unless the caller keeps `h`, and a WeakValueDictionary owns
nothing.
"""

from harness import Statement
from rivals import CFFI_BACKEND, CFFI_COMPILED, CFFI_INLINE, CTYPES, EXTERNREF, HANDLES, WEAKREF_LIVE

CFFI_BACK = "p = int(cast(intptr, h)); from_handle(cast(voidp, p))"

QUESTIONS = {
    "out-and-back": [
        Statement("VMExternRef", EXTERNREF, "p = VMExternRef(x).into_raw(); from_raw(p).value"),
        Statement("VMExternRef, no deref", EXTERNREF, "p = VMExternRef(x).into_raw(); from_raw(p)"),
        Statement("dict of handles", HANDLES, "p = next_handle(); handles[p] = x; take(p)"),
        Statement("WeakValueDictionary", WEAKREF_LIVE, "p = id(x); alive[p] = x; alive[p]"),
        Statement("ctypes.py_object", CTYPES, "h = py_object(x); p = addressof(h); from_address(p).value"),
        Statement("cffi handle, compiled", CFFI_COMPILED, f"h = new_handle(x); {CFFI_BACK}"),
        Statement("cffi handle, backend", CFFI_BACKEND, f"h = newp_handle(voidp, x); {CFFI_BACK}"),
        Statement("cffi handle, in-line", CFFI_INLINE, f"h = new_handle(x); {CFFI_BACK}"),
    ],
}


def test_out_and_back(measure):
    measure()
