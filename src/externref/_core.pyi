from collections.abc import Callable
from contextlib import AbstractContextManager
from ctypes import c_void_p
from types import GenericAlias, UnionType
from typing import (
    Any,
    Final,
    Generic,
    Literal,
    NoReturn,
    Self,
    SupportsIndex,
    TypeVar,
    final,
    overload,
    type_check_only,
)

from _typeshed import structseq

_T_co = TypeVar("_T_co", covariant=True)
_U = TypeVar("_U")
_DrainSetting = Literal["auto", "main"] | Callable[[], object]
# A cffi `void *` is taken, too: cffi has no types of its own.
_Address = SupportsIndex | c_void_p
_ClassInfo = type | UnionType | tuple["_ClassInfo", ...]

class MovedError(ReferenceError):
    """A VMExternRef was used after into_raw() moved it out or drop() gave it up."""
    ...
class InvalidRawPointerError(ValueError):
    """An integer given as a raw pointer is not one that may be used so now."""
    ...

@final
class Stats(structseq[int], tuple[int, int, int, int]):
    """
    What the package holds right now; four counts, exact if no other thread makes or drops meanwhile.

    live_blocks: blocks allocated and not yet freed, pending drops among them.
    handles: counts that the package owns: those of VMExternRef objects, and holds (an argument in flight, an
        open borrow, an entry of an activations table, what a wasmtime store or nopython code was given).
    exposed: live blocks that are lent (as_raw, an open borrow, ...), whose cycles are not collected.
    pending_drops: blocks that nobody owns any more, dropped by compiled code, which await their free.
    """
    __match_args__: Final = ("live_blocks", "handles", "exposed", "pending_drops")
    @property
    def live_blocks(self) -> int:
        """Blocks allocated and not yet freed, pending drops among them."""
        ...
    @property
    def handles(self) -> int:
        """Counts that the package owns: those of VMExternRef objects, and holds."""
        ...
    @property
    def exposed(self) -> int:
        """Live blocks that are lent, whose cycles are not collected."""
        ...
    @property
    def pending_drops(self) -> int:
        """Blocks that nobody owns any more, which await their free."""
        ...

@final
class Layout(structseq[int], tuple[int, int, int]):
    """
    Where things are in a block, in bytes.

    size: of the whole block, a multiple of align.
    align: of the block.
    footer_offset: from the start of the block to the raw pointer.
    """
    __match_args__: Final = ("size", "align", "footer_offset")
    @property
    def size(self) -> int:
        """Bytes of the whole block, a multiple of align."""
        ...
    @property
    def align(self) -> int:
        """Bytes that the block is aligned to."""
        ...
    @property
    def footer_offset(self) -> int:
        """Bytes from the start of the block to the raw pointer."""
        ...

@type_check_only
class _ReferenceType(type):
    @property
    def _check_retval_(cls) -> NoReturn: ...

@final
class VMExternRef(Generic[_T_co], metaclass=_ReferenceType):
    """
    A reference-counted box, one machine word wide, that carries `value` through compiled
    code.

    The box and its clones own the value together; compiled code owns it too, through raw
    pointers. The value is released once, after its last owner has gone. Equality, hash
    and order are of the allocation, never of the value. A wrapper whose count was moved
    out by into_raw() or given up by drop() is *spent*: it equals only itself, and all
    but `moved`, `drop` and `repr` raise MovedError.

    value: any object; the box takes one reference on it.
    Raises MemoryError if there is no memory for the box; nothing is kept then.
    Threads: as every method here, for the holder of the GIL.

    Source: VMExternRef of wasmtime's crates/runtime/src/externref.rs.
    """
    def __new__(cls, value: _T_co, /) -> Self: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    @staticmethod
    def new(value: _U, /) -> VMExternRef[_U]:
        """
        Wrap the value: the same as VMExternRef(value).

        Source: VMExternRef::new.
        """
        ...
    @staticmethod
    def new_with(make_value: Callable[[], _U], /) -> VMExternRef[_U]:
        """
        Wrap what make_value() returns.

        If make_value raises, its exception comes out and nothing was allocated.

        Source: VMExternRef::new_with.
        """
        ...
    @property
    def value(self) -> _T_co:
        """
        The value in the box; a new Python reference to it.

        Raises MovedError if spent, TypeError if the payload is a native one.

        Source: Deref for VMExternRef.
        """
        ...
    def is_(self, cls: _ClassInfo, /) -> bool:
        """
        Whether the value is an instance of cls, as isinstance() has it; False for a
        native payload.

        Raises MovedError if spent, TypeError if cls is not a class, tuple or union.

        Source: Any::is.
        """
        ...
    @overload
    def downcast_ref(self, cls: type[_U], /) -> _U | None:
        """
        The value if it is an instance of cls, else None.

        Raises MovedError if spent, TypeError if cls is not a class, tuple or union.

        Source: Any::downcast_ref.
        """
        ...
    @overload
    def downcast_ref(self, cls: _ClassInfo, /) -> _T_co | None: ...
    def clone(self) -> Self:
        """
        Another owner of the same allocation: strong_count rises by one.

        Raises MovedError if spent, MemoryError, OverflowError if the count is at its
        limit.

        Source: Clone for VMExternRef.
        """
        ...
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, memo: Any) -> Self: ...
    @property
    def strong_count(self) -> int:
        """
        How many owners the allocation has, wrappers and raw pointers together.

        Compiled code on other threads may be changing it as it is read.
        Raises MovedError if spent.
        """
        ...
    def drop(self) -> None:
        """
        Give up this owner now; the wrapper is spent. Nothing if it already was.

        If it was the last owner, the value is released before this returns.

        Source: Drop for VMExternRef.
        """
        ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: object) -> None: ...
    @property
    def moved(self) -> bool:
        """Whether the wrapper is spent: by into_raw(), or by drop()."""
        ...
    def into_raw(self) -> int:
        """
        Move the reference out: its address as an int, which now owns the count.

        No count changes. The wrapper is spent. Whoever gets the pointer must bring it
        back by from_raw(), or drop it as externref.h says, or the value is never released.
        Raises MovedError if spent, MemoryError (and then nothing was moved).

        Source: VMExternRef::into_raw.
        """
        ...
    @staticmethod
    def from_raw(ptr: _Address, /) -> VMExternRef[Any]:
        """
        Take over the count that the raw pointer owns: the reverse of into_raw().

        ptr: the address, an int, a ctypes.c_void_p or a cffi `void *`; at most once for each count that
            was moved out or that compiled code added.
        Raises InvalidRawPointerError if ptr is null, misaligned, was never handed out, is
        freed, or if no raw owner is left to take over; TypeError if it is none of these. A stale
        address that a newer handed-out allocation occupies cannot be told apart.

        Source: VMExternRef::from_raw.
        """
        ...
    def as_raw(self) -> int:
        """
        Lend the reference: its address as an int, valid while any owner lives.

        No count changes. Compiled code may clone through the pointer at any time, so the
        collector leaves cycles through this allocation alone from now on; borrow() lends
        without that.
        Raises MovedError if spent, MemoryError.
        """
        ...
    @staticmethod
    def clone_from_raw(ptr: _Address, /) -> VMExternRef[Any]:
        """
        A new owner of the allocation at ptr, whose present owners keep theirs.

        ptr: the address, as for from_raw().
        Raises InvalidRawPointerError and TypeError as from_raw() does, also if compiled code has just
        dropped the last reference; OverflowError if the count is at its limit.
        """
        ...
    def borrow(self) -> AbstractContextManager[int]:
        """
        Lend the raw pointer for a with block: `with ref.borrow() as ptr:`.

        The block is an owner of its own: strong_count is one higher inside, and ptr stays
        valid to its end whatever happens to the wrapper. After it, cycles through the
        allocation are collected again.
        Raises MovedError if spent.
        """
        ...
    @property
    def _as_parameter_(self) -> c_void_p: ...
    @staticmethod
    def from_param(value: VMExternRef[Any] | None, /) -> c_void_p | None:
        """
        For ctypes, in argtypes: a VMExternRef lends its pointer for the call, None passes NULL.

        Returns the same as _as_parameter_, or None. Raises what that does, and TypeError for anything else; in a
        call ctypes makes ctypes.ArgumentError of each, which names the argument.
        """
        ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __lt__(self, other: VMExternRef[Any], /) -> bool: ...
    def __le__(self, other: VMExternRef[Any], /) -> bool: ...
    def __gt__(self, other: VMExternRef[Any], /) -> bool: ...
    def __ge__(self, other: VMExternRef[Any], /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> NoReturn: ...
    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn: ...

_C_API: Final[object]  # a PyCapsule; see externref_api.h
REF_COUNT_OFFSET: Final[int]
VALUE_PTR_OFFSET: Final[int]
VTABLE_OFFSET: Final[int]
FOOTER_SIZE: Final[int]
DROP_SLOW_OFFSET: Final[int]
ABI_VERSION: Final[int]
clone_address: Final[int]
drop_address: Final[int]

def layout_for(size: int, align: int) -> Layout:
    """
    Layout of a block whose payload has this size and alignment, in bytes.

    Raises ValueError if align is not a power of two, OverflowError if an argument is
    negative or the sizes do not fit in a word.

    Source: VMExternData::layout_for.
    """
    ...
def option_into_raw(ref: VMExternRef[Any] | None, /) -> int:
    """
    ref.into_raw(), or 0 for None: Option<VMExternRef> is one word.

    Raises what into_raw() does; TypeError if ref is neither a VMExternRef nor None.
    """
    ...
def option_from_raw(ptr: _Address | None, /) -> VMExternRef[Any] | None:
    """
    VMExternRef.from_raw(ptr), or None for the null pointer: 0, a null c_void_p or `void *`, or None, as ctypes
    has it. Raises what from_raw() does.
    """
    ...
def drain() -> int:
    """
    Free what compiled code has dropped and is still pending; how many blocks.

    Runs the finalizers of their payloads on the calling thread, and goes on until nothing is pending. In a
    finalizer that a drain runs it does nothing and returns 0: that drain goes on to the rest.
    """
    ...
def set_drain(setting: _DrainSetting, /) -> _DrainSetting:
    """
    Choose who runs the finalizers of what compiled code dropped; the setting before.

    setting: "auto", as it is at first: the main thread, or a helper thread if that one is in C code. A drain begins
            within 50 ms during which the GIL can be had.
        "main": the main thread alone, when it next runs Python code, however late that is.
        a function without parameters: called on the helper thread, with the GIL, once for all that is pending, to
            have drain() called where finalizers may run: `lambda: loop.call_soon_threadsafe(externref.drain)`.
            Called again when something was drained and more has come. If it raises, sys.unraisablehook gets
            the exception, and the main thread drains. At exit it is let go if the thread that set it last ends the
            interpreter; else it is kept for ever, for what it holds may be another thread's to release.
    Raises ValueError for another string, TypeError for anything else; the setting stays then.

    With each of them the package's own operations, and drain(), drain on the thread that calls them.
    """
    ...
def stats() -> Stats:
    """What the package holds right now, as a Stats; changes nothing."""
    ...

# For externref.debug.
_Calls = tuple[tuple[str, str, int], ...]  # file, function, line

# Of a block: address, payload_type, ref_count, handles, lends, exposed, registered, size, align; serial; history.
_Row = tuple[tuple[int, str, int, int, int, bool, bool, int, int], int, tuple[tuple[str, _Calls], ...]]

@final
class _Tracking:
    def __new__(cls, frames: int, kept: int) -> Self: ...
    def end(self) -> None:
        """Once more does nothing."""
        ...
    def never_end(self) -> None:
        """Nor as the interpreter does: compiled code may drop what it should not still later."""
        ...

def _is_tracking() -> bool: ...
def _tracked() -> list[_Row]: ...
def _registered() -> list[_Row]: ...
def _row(ref: VMExternRef[Any]) -> _Row: ...
def _newest_serial() -> int: ...
def _mistakes_made() -> int: ...
def _mistakes(before: int) -> list[str]: ...
