"""What does it cost to send an object through a C function and get it back?

The function is `void *ident(void *)`. A cffi handle must be kept by the caller for as long
as C code has it; a VMExternRef moved in is C's, and moved out is ours again.
"""

from harness import Statement
from rivals import CFFI_IDENTITY, CTYPES_IDENTITY, FUNCTION, TVM

QUESTIONS = {
    "through C": [
        Statement("VMExternRef", FUNCTION, "moved(x)"),
        Statement("VMExternRef, lent", FUNCTION, "lent(x)"),
        Statement("VMExternRef, made before", FUNCTION, "moved(ref)"),
        Statement("Function of a word", FUNCTION, "word(1)"),
        Statement("cffi handle, API mode", CFFI_IDENTITY, "h = new_handle(x); from_handle(ident(h))"),
        Statement("cffi handle, made before", CFFI_IDENTITY, "from_handle(ident(handle))"),
        Statement("apache-tvm-ffi", TVM, "echo(x)"),
        Statement("ctypes.py_object", CTYPES_IDENTITY, "cast(ident(x), py_object).value"),
    ],
}


def test_through_c(measure):
    measure()
