from _ctypes import CFuncPtr
from collections.abc import Callable
from ctypes import _CDataType, _SimpleCData
from typing import Any, Never

from externref._core import VMExternRef

__all__ = ["callback", "lent", "moved"]

class moved(_SimpleCData[int | None]):
    """
    The restype of a function that moves a reference out: it gives its count up, and the VMExternRef owns that.

        lib.take.restype = externref.ctypes.moved

    A call returns a VMExternRef, or None for NULL. It raises InvalidRawPointerError if there is no raw owner to take
    over from: then the function lends; and MemoryError if there is no memory for the wrapper: then the reference is
    dropped. Any thread; ctypes has the GIL again when it converts a result.
    """
    def __new__(cls, *call: Any) -> Any: ...
    @staticmethod
    def _check_retval_(word: int | moved | None, /) -> VMExternRef[Any] | None: ...
    @classmethod
    def from_param(cls, value: Any, /) -> Never:
        """Raises TypeError: `moved` and `lent` are not for argtypes."""
        ...

class lent(_SimpleCData[int | None]):
    """
    The restype of a function that lends a reference: it keeps its count, and the VMExternRef is a clone.

        lib.peek.restype = externref.ctypes.lent

    A call returns a VMExternRef, or None for NULL. It raises InvalidRawPointerError if the reference is gone, and
    OverflowError if its count is at its limit. Who lends keeps the count until the GIL is back, since another thread
    may run before; with a ctypes.PyDLL, which keeps the GIL, none does.
    """
    def __new__(cls, *call: Any) -> Any: ...
    @staticmethod
    def _check_retval_(word: int | lent | None, /) -> VMExternRef[Any] | None: ...
    @classmethod
    def from_param(cls, value: Any, /) -> Never:
        """Raises TypeError: `moved` and `lent` are not for argtypes."""
        ...

def callback(
    restype: type[_CDataType] | None, *argtypes: type[_CDataType]
) -> Callable[[Callable[..., Any]], CFuncPtr]:
    """
    A decorator: the function as a C callback of these types, as by ctypes.CFUNCTYPE, references among them.

        @externref.ctypes.callback(externref.ctypes.moved, externref.ctypes.lent, ctypes.c_int)
        def transform(ref, number): ...

    restype: a ctypes type, None for void, or `moved`: the function returns a VMExternRef, a clone of which is moved
        to the caller, or None for NULL.
    argtypes: ctypes types; for `lent` the function gets a VMExternRef that is a clone, for `moved` one that owns the
        count which the caller gave up, for both None for NULL.
    Returns the decorator; what that returns is an instance of the CFUNCTYPE with c_void_p for `moved` and `lent`, and
        has to live as long as C code may call it.
    Raises TypeError if restype is `lent`, since nobody would own what the function lends, if what is decorated cannot
    be called, and as ctypes.CFUNCTYPE does.

    What the function raises goes to sys.unraisablehook; C code gets zero then, NULL for `moved`, where ctypes on its
    own leaves the result undefined. What was moved to it is dropped. C code may call it on any thread, without the GIL.
    """
    ...
