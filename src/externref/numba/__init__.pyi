from typing import Any, Final

from externref._core import VMExternRef

__all__ = ["clone", "drop", "is_instance", "strong_count", "value_as", "vmexternref"]

def _initialize() -> None: ...

vmexternref: Final[Any]  # a numba type: numba may be missing where this is read

def strong_count(ref: VMExternRef[Any]) -> int:
    """
    How many owners the allocation has, as ref.strong_count; also in nopython code.

    Copies that nopython code made of one argument are one owner.
    """
    ...
def clone(raw: VMExternRef[Any] | int) -> int:
    """
    Add an owner to the allocation at a raw pointer; in nopython code only.

    raw: its address, an integer, or a reference to it; 0 is ignored.
    Returns the address, which now owns a count: drop() it once, or give it to Python, where
    VMExternRef.from_raw() takes it over. Needs no GIL. Nothing checks the address. That of
    a reference, `ref.raw`, is valid only while the reference is in use: numba drops a
    variable after the last line that names it, so prefer clone(ref) to clone(ref.raw).
    """
    ...
def drop(raw: int) -> None:
    """
    Give up the count that a raw pointer owns; in nopython code only.

    raw: the address, an integer that clone() or into_raw() returned; 0 is ignored.
    A last reference's payload is released soon after, by a thread that holds the GIL; see
    externref.drain(). Needs no GIL. Nothing checks the address.
    """
    ...
def value_as(ref: VMExternRef[Any], type: Any) -> Any:
    """
    The payload as a native value, in nopython code; in Python, ref.value as it is.

    type: an integer or float type of numba's, boolean or unicode_type. An int must fit; a float is
    anything that float arithmetic takes; a boolean is the payload's truth.
    Raises TypeError or OverflowError if the payload is no such value, and what its own conversion
    (__index__, __float__, __bool__) raises. Takes the GIL, and may run any Python code.
    """
    ...
def is_instance(ref: VMExternRef[Any], classes: VMExternRef[Any]) -> bool:
    """
    isinstance(ref.value, classes.value), also in nopython code: there, a class is a reference too.

    classes: a reference to a class, or to a tuple of classes.
    Raises TypeError if it is to anything else. Takes the GIL, and may run any Python code.
    """
    ...
