"""What does it cost to get at the object?"""

from harness import Statement
from rivals import CFFI_BACKEND, CFFI_COMPILED, CFFI_INLINE, CTYPES, EXTERNREF, PLAIN, TVM, WEAKREF_LIVE

QUESTIONS = {
    "deref": [
        Statement("VMExternRef", EXTERNREF, "ref.value"),
        Statement("local variable", PLAIN, "x"),    # what the measuring itself costs
        Statement("tuple", PLAIN, "pair[0]"),
        Statement("slots class", PLAIN, "slots.value"),
        Statement("weakref.ref", WEAKREF_LIVE, "weak()"),
        Statement("ctypes.py_object", CTYPES, "box.value"),
        Statement("cffi from_handle, compiled", CFFI_COMPILED, "from_handle(handle)"),
        Statement("cffi from_handle, backend", CFFI_BACKEND, "from_handle(handle)"),
        Statement("cffi from_handle, in-line", CFFI_INLINE, "from_handle(handle)"),
        Statement("apache-tvm-ffi", TVM, "box.pyobject()"),
    ],
}


def test_deref(measure):
    measure()
