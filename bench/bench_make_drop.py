"""What does it cost to make a reference and drop it?"""

from harness import Statement
from rivals import CFFI_BACKEND, CFFI_COMPILED, CFFI_INLINE, CTYPES, EXTERNREF, EXTERNREF_TRACKED, PLAIN, TVM, WEAKREF

RIVALS = [
    Statement("object()", PLAIN, "object()"),
    Statement("tuple", PLAIN, "(x,)"),
    Statement("slots class", PLAIN, "Slots(x)"),
    Statement("weakref.ref", WEAKREF, "ref(x)"),
    Statement("ctypes.py_object", CTYPES, "py_object(x)"),
    Statement("cffi new_handle, compiled", CFFI_COMPILED, "new_handle(x)"),
    Statement("cffi newp_handle, backend", CFFI_BACKEND, "newp_handle(voidp, x)"),
    Statement("cffi new_handle, in-line", CFFI_INLINE, "new_handle(x)"),
    Statement("apache-tvm-ffi", TVM, "opaque(x)"),
]

QUESTIONS = {
    "make+drop": [
        Statement("VMExternRef", EXTERNREF, "VMExternRef(x)"),
        Statement("VMExternRef, tracked value", EXTERNREF_TRACKED, "VMExternRef(x)"),
        *RIVALS,
    ],
}


def test_make_drop(measure):
    measure()
