from types import GenericAlias
from typing import Any, Generic, Literal, SupportsIndex, TypeVar, final, overload

from externref._core import VMExternRef

_R_co = TypeVar("_R_co", covariant=True)  # what a call returns

@final
class Function(Generic[_R_co]):
    """
    A C function whose parameters and result are machine words or references.

    address: of the function, an int. Whatever it belongs to must stay loaded.
    params: a letter for each parameter, at most eight:
        'm'  a reference moved in: the callee owns a count
        'r'  a reference lent: the callee may use it during the call, and clone it to keep it
        'w'  a machine word: an int from -2**63 to 2**64 - 1 (with 64 bits), a size or an address
    result: 'm', a reference that the callee moves out to us; 'r', one that it lends; 'w', a
        word, unsigned; '' for void.
    release_gil: let other threads run Python during the call. The callee must not use Python.

    For a reference pass a VMExternRef, which stays valid and is another owner ('m') or an owner
    for the call ('r'); any other object, which is boxed; or None, which travels as null. A
    resulting reference comes back as its object, None for null; as a VMExternRef if its
    payload is a native one, or from `refs`.

    Raises TypeError for a letter that is none of these, ValueError for more than eight or a null
    address, OverflowError for an address that does not fit. A call raises TypeError for
    a wrong number of arguments or an argument that is no int where a word is due,
    OverflowError for one that does not fit, MovedError for a spent wrapper, MemoryError: all before
    the callee runs, and nothing has moved then. An exception that the callee
    sets, holding the GIL, comes out of the call.

    Nothing checks that the function has these parameters: a wrong one corrupts memory.

    Source: "Reference Counting Protocol and Wasm Functions" of externref.rs.
    """
    @overload
    def __new__(
        cls, address: SupportsIndex, params: str, result: Literal[""] = "", *, release_gil: bool = False
    ) -> Function[None]: ...
    @overload
    def __new__(
        cls, address: SupportsIndex, params: str, result: Literal["w"], *, release_gil: bool = False
    ) -> Function[int]: ...
    @overload
    def __new__(
        cls, address: SupportsIndex, params: str, result: str, *, release_gil: bool = False
    ) -> Function[Any]: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    @property
    def address(self) -> int:
        """The address of the C function, an int."""
        ...
    @property
    def params(self) -> str:
        """A letter for each parameter: 'm', 'r' or 'w'."""
        ...
    @property
    def result(self) -> str:
        """The result's letter, '' for void."""
        ...
    @property
    def release_gil(self) -> bool:
        """Whether calls let other threads run Python meanwhile."""
        ...
    def __call__(self, *args: object) -> _R_co: ...
    def refs(self, *args: object) -> VMExternRef[Any] | int | None:
        """As a call, but a resulting reference comes back as a VMExternRef, None for null."""
        ...
