"""The address in a pointer of ctypes or of cffi. Neither is imported here: who has a pointer of theirs has done it."""

import sys
from typing import Any


def address_in(pointer: object) -> Any:
    """TypeError for what is neither a c_void_p nor a `void *`; 0 if it is NULL."""
    if pointer is None:
        raise TypeError("None is no reference: where it stands for ctypes' null pointer, option_from_raw() takes it")
    c_void_p: Any = getattr(sys.modules.get("ctypes"), "c_void_p", ())
    if isinstance(pointer, c_void_p):
        return c_void_p.value.__get__(pointer) or 0     # of ctypes itself: a subclass may have a value of its own
    cffi: Any = sys.modules.get("_cffi_backend")
    if isinstance(pointer, getattr(cffi, "_CDataBase", ())):
        ctype = cffi.typeof(pointer)
        if ctype.kind == "pointer" and ctype.item.kind == "void":
            return int(cffi.cast(cffi.new_primitive_type("uintptr_t"), pointer))
        raise TypeError(f"expected a cffi 'void *', not a {ctype.cname!r}: ffi.cast('void *', pointer)")
    raise TypeError("expected an address as an int, a ctypes.c_void_p or a cffi 'void *', "
                    f"not {type(pointer).__name__}")
