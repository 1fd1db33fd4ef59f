from typing import Any, Final

from externref._core import VMExternRef

__all__ = ["clone", "drop", "strong_count", "vmexternref"]

vmexternref: Final[Any]  # a numba type: numba may be missing where this is read

def strong_count(ref: VMExternRef[Any]) -> int: ...
def clone(raw: VMExternRef[Any] | int) -> int: ...
def drop(raw: int) -> None: ...
