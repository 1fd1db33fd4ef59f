from _ctypes import CFuncPtr
from collections.abc import Callable
from ctypes import _CDataType, _SimpleCData
from typing import Any, Never

from externref._core import VMExternRef

__all__ = ["callback", "lent", "moved"]

class moved(_SimpleCData[int | None]):
    def __new__(cls, *call: Any) -> Any: ...
    @staticmethod
    def _check_retval_(word: int | moved | None, /) -> VMExternRef[Any] | None: ...
    @classmethod
    def from_param(cls, value: Any, /) -> Never: ...

class lent(_SimpleCData[int | None]):
    def __new__(cls, *call: Any) -> Any: ...
    @staticmethod
    def _check_retval_(word: int | lent | None, /) -> VMExternRef[Any] | None: ...
    @classmethod
    def from_param(cls, value: Any, /) -> Never: ...

def callback(
    restype: type[_CDataType] | None, *argtypes: type[_CDataType]
) -> Callable[[Callable[..., Any]], CFuncPtr]: ...
