import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Never, SupportsIndex, final, overload

import wasmtime  # type: ignore[import-not-found, unused-ignore]  # then it is Any
from typing_extensions import Buffer
from wasmtime._instance import InstanceExports  # type: ignore[import-not-found, unused-ignore]

from externref._core import VMExternRef
from externref._types import FuncType, GlobalType, MemoryType, TableType
from externref.wasmtime.exports import Exports

TAG: Final[int]

@final
class StoreState:
    """
    What we know of a wasmtime.Store. It is among the `states` until the store is closed; what is bound has it.

    All is read and changed between enter() and leave(), but for who reads `context` first. `store_id`, `store` and
    `watch` are set once, in a critical section, so that others can read them in one.
    """
    ...

@final
class Signature:
    """How to convert for a function: worked out once, from its type."""
    def __new__(cls, function_type: wasmtime.FuncType) -> Signature: ...

@final
class HostFunc:
    """A Python callable that compiled code calls; the wasmtime store owns it, boxed."""
    ...

@final
class Func:
    """
    A function of a wasmtime.Store, bound by bind(): call it with Python objects.

    f(*args) returns None, the result, or a tuple of several results. f.refs(*args) is the same
    with externref results as VMExternRef.

    Raises TypeError for a wrong number of arguments or one of a wrong type, OverflowError
    for a number that does not fit: each names the argument. ValueError for a closed store or
    a function of another one; RuntimeError if another thread is using the store;
    MovedError for a spent VMExternRef; wasmtime's Trap, WasmtimeError or ExitTrap as the
    function ends; the exception of a host function, unchanged.

    Needs the GIL, and keeps it unless `release_gil` is set.

    Source: wasmtime_func_call_unchecked.
    """
    release_gil: bool
    @property
    def store(self) -> wasmtime.Store:
        """The wasmtime.Store."""
        ...
    @property
    def wasmtime_func(self) -> wasmtime.Func:
        """The wasmtime.Func, for wasmtime-py's own functions."""
        ...
    @property
    def name(self) -> str:
        """The name it is exported under, as Exports tell it; else "func", or "funcref" if it came as a value."""
        ...
    @property
    def __name__(self) -> str: ...
    @property
    def __signature__(self) -> inspect.Signature: ...
    @property
    def type(self) -> FuncType:
        """Its FuncType: params and results, tuples of names of value types."""
        ...
    def __call__(self, *args: Any) -> Any: ...
    def refs(self, *args: Any) -> Any:
        """As a call, but externref results come back as VMExternRef, None for null."""
        ...

@final
class Table:
    """
    A table of a wasmtime.Store, bound by bind(): a sequence of objects or functions.

    len(t), t[i], t[i] = value, iteration, grow, fill; ref(i) for an externref as a VMExternRef.
    An index is an int from 0 to len(t) - 1. A slice is a list, and takes as many values as it has.

    Raises IndexError for an index out of bounds, and otherwise what a Func raises. Needs the GIL.

    Source: wasmtime_table_get, wasmtime_table_set, wasmtime_table_size, wasmtime_table_grow.
    """
    @property
    def store(self) -> wasmtime.Store:
        """The wasmtime.Store."""
        ...
    @property
    def type(self) -> TableType:
        """
        Its TableType: the elements' type, the size now, the maximum or None. The maximum of a 64-bit table is not
        told.
        """
        ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: SupportsIndex, /) -> Any: ...
    @overload
    def __getitem__(self, index: slice, /) -> list[Any]: ...
    @overload
    def __setitem__(self, index: SupportsIndex, value: Any, /) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[Any], /) -> None: ...
    def __iter__(self) -> Iterator[Any]: ...
    def ref(self, index: SupportsIndex, /) -> VMExternRef[Any] | None:
        """t[index] as a VMExternRef, None for null; TypeError for a table of functions."""
        ...
    def fill(self, start: SupportsIndex, value: Any, count: SupportsIndex, /) -> None:
        """
        Stores the value in `count` elements from `start` on: the same reference in all.

        Raises IndexError, and stores nothing, if they are not all within bounds.
        """
        ...
    def grow(self, count: SupportsIndex, value: Any = None, /) -> int:
        """
        Adds `count` elements that hold the value; the size before.

        Raises ValueError if the table cannot grow so far.
        """
        ...

@final
class Global:
    """
    A global of a wasmtime.Store, bound by bind(): read and assign its value.

    Raises TypeError when an immutable one is assigned, and otherwise what a Func raises. Needs the GIL.

    Source: wasmtime_global_get, wasmtime_global_set.
    """
    @property
    def store(self) -> wasmtime.Store:
        """The wasmtime.Store."""
        ...
    @property
    def type(self) -> GlobalType:
        """Its GlobalType: the value's type, and whether it is mutable."""
        ...
    @property
    def value(self) -> Any:
        """The value, converted as a result is."""
        ...
    @value.setter
    def value(self, value: Any) -> None:
        """The value, converted as a result is."""
        ...
    @property
    def ref(self) -> VMExternRef[Any] | None:
        """The value as a VMExternRef, None for null; TypeError for other types."""
        ...

@final
class Memory:
    """
    A linear memory of a wasmtime.Store, bound by bind(): bytes that are copied in and out.

    len(m) in bytes, read, write, grow; m[i] and m[i] = byte, m[a:b] and m[a:b] = data, which takes as many bytes
    as the slice has. It has no buffer for a memoryview: when it grows, by anybody's doing, it may move, so its
    address is asked for at every use. read() and write() raise IndexError out of bounds; a slice ends there.

    Raises IndexError for what is out of bounds, and otherwise what a Func raises. Needs the GIL.

    Source: wasmtime_memory_data, wasmtime_memory_data_size, wasmtime_memory_grow.
    """
    @property
    def store(self) -> wasmtime.Store:
        """The wasmtime.Store."""
        ...
    @property
    def type(self) -> MemoryType:
        """Its MemoryType: pages now, and at most, or None; whether addresses have 64 bits."""
        ...
    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...
    def __iter__(self) -> Iterator[int]: ...
    @overload
    def __getitem__(self, index: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> bytes: ...
    @overload
    def __setitem__(self, index: SupportsIndex, value: SupportsIndex, /) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Buffer, /) -> None: ...
    def read(self, start: SupportsIndex = 0, stop: SupportsIndex | None = None, /) -> bytes:
        """The bytes from start to stop, at first all, copied. IndexError if they are not all there."""
        ...
    def write(self, data: Buffer, start: SupportsIndex = 0, /) -> int:
        """
        Copies the bytes of a buffer to the memory, from start on; how many. IndexError if they do not all fit,
        and then nothing is written; TypeError and BufferError if it has no bytes.
        """
        ...
    def grow(self, pages: SupportsIndex, /) -> int:
        """
        Adds pages, of 64 KiB if its type says nothing else; how many there were. ValueError if there cannot be so
        many.
        """
        ...

@final
class Caller:
    """
    Who calls a host function of func(..., access_caller=True): its first argument, valid during that call.

    caller["memory"], or caller.memory, is what the calling instance exports under the name, bound: a Memory, Func,
    Table or Global, which stays valid after the call. caller.get(name) is None, or what is given, if there is
    nothing. An export named `get` or `store`, or with an underscore before it, is caller["get"]. bind() and func()
    take a caller for its store.

    Raises KeyError or AttributeError if nothing has the name, TypeError for what cannot be bound, RuntimeError once
    the call is over or on another thread. Needs the GIL.

    Source: wasmtime_caller_export_get.
    """
    @property
    def store(self) -> wasmtime.Store:
        """The wasmtime.Store."""
        ...
    def get(self, name: str, default: Any = None, /) -> Any:
        """The export, bound, or the default if there is none."""
        ...
    def __getitem__(self, name: str, /) -> Any: ...
    def __getattr__(self, name: str, /) -> Any: ...
    def __contains__(self, name: str, /) -> bool: ...
    def __iter__(self) -> Never: ...

@overload
def bind(store: wasmtime.Store | Caller, item: wasmtime.Func, /, *, release_gil: bool = False) -> Func:
    """
    A Func, Table, Global or Memory for an item of wasmtime-py's, with its conversions worked out; or Exports, all
    those of an instance.

    store: the wasmtime.Store that the item belongs to, or a Caller; it lives as long as what is returned.
    item: a wasmtime.Func, Table, Global or Memory, the InstanceExports that instance.exports(store) gives, or what was
        bound before.
    release_gil: for functions, let other threads run Python during its calls, as wasmtime-py
        always does; worth it for code that runs long, waits, or is to be interrupted by
        another thread (an epoch's). A call that keeps the GIL is cheaper, and cannot
        be held up by threads that compute.

    What of an instance's exports cannot be bound raises its TypeError when Exports is asked for it.

    Raises TypeError for anything else, a shared memory, and types other than i32, i64, f32, f64, v128, externref
    and funcref; ValueError for an item of another store, or a closed one; RuntimeError if
    another thread is using the store. Needs the GIL.
    """
    ...
@overload
def bind(  # type: ignore[overload-cannot-match, unused-ignore]
    store: wasmtime.Store | Caller, item: wasmtime.Table, /
) -> Table: ...
@overload
def bind(  # type: ignore[overload-cannot-match, unused-ignore]
    store: wasmtime.Store | Caller, item: wasmtime.Global, /
) -> Global: ...
@overload
def bind(  # type: ignore[overload-cannot-match, unused-ignore]
    store: wasmtime.Store | Caller, item: wasmtime.Memory, /
) -> Memory: ...
@overload
def bind(  # type: ignore[overload-cannot-match, unused-ignore]
    store: wasmtime.Store | Caller, item: InstanceExports, /, *, release_gil: bool = False
) -> Exports: ...
@overload
def bind(  # type: ignore[overload-cannot-match, unused-ignore]  # what exports(store)["f"] is, nobody knows before
    store: wasmtime.Store | Caller,
    item: wasmtime.Func | wasmtime.Table | wasmtime.Global | wasmtime.Memory | wasmtime.SharedMemory | wasmtime.Tag,
    /,
    *,
    release_gil: bool = False,
) -> Any: ...
def func(
    store: wasmtime.Store | Caller, functype: wasmtime.FuncType, callable: Callable[..., Any], /,
    access_caller: bool = False,
) -> wasmtime.Func:
    """
    A host function in the store: a wasmtime.Func to link, whose calls cost little.

    store: a wasmtime.Store, or a Caller.
    functype: a wasmtime.FuncType of i32, i64, f32, f64, v128, externref and funcref.
    callable: called with one argument for each parameter, by the thread that runs the
        Wasm code, with the GIL. Returns the result, or any iterable of several; what it returns where there
        are none is ignored.
    access_caller: whether the callable gets a Caller before the other arguments, by which it reaches what
        the calling instance exports, its memory above all.

    The store owns the callable until it is closed; a callable that refers to the store keeps it
    alive until then. What the callable raises ends the Wasm code and comes out of the call into
    it, bound or wasmtime-py's own, as it is; so does the TypeError, OverflowError or
    ValueError of a result that does not fit.

    Raises TypeError for other arguments and types, ValueError for a closed store,
    RuntimeError if another thread is using it.

    Source: wasmtime_func_new_unchecked.
    """
    ...
def interruptible(store: wasmtime.Store, /, *, timeout: float | None = None) -> None:
    """
    Make the bound calls of a store stoppable, by Ctrl-C, by interrupt(), and after a time; or change the timeout.

    store: a wasmtime.Store, whose engine has Config.epoch_interruption, and epochs that the program does not count.
    timeout: seconds that a bound call may take, those of host functions included, or None. When they are over, compiled
        code that runs, or that a host function returns to, ends with wasmtime.Trap, TrapCode.INTERRUPT.

    From here on compiled code of the store looks, every 10 ms, for signals: what a handler raises ends the code and
    comes out of the call, as KeyboardInterrupt does. A call that keeps the GIL lets others have it then. A handler
    that runs meanwhile cannot use the store: RuntimeError. The instance stays usable. Calls that wasmtime-py
    itself makes, and start functions, are looked at only while a bound call runs in a store of the same engine.

    Engine.increment_epoch() and the store's set_epoch_deadline() raise RuntimeError afterwards. Other stores of the
    engine see its epoch counted up while bound calls run in this one.

    Raises ValueError if the engine has no epoch_interruption, for a timeout that is negative or no number, and for a
    closed store; RuntimeError if the program counts the engine's epochs, or another thread is using the store;
    TypeError for anything but a wasmtime.Store. Needs the GIL.

    Source: wasmtime_store_epoch_deadline_callback.
    """
    ...
def interrupt(store: wasmtime.Store, /) -> None:
    """
    Stop the bound call that runs in an interruptible store, on whatever thread: it ends with wasmtime.Trap,
    TrapCode.INTERRUPT, as soon as its compiled code comes to a loop or a function after the next tick. Nothing if
    none runs.

    Raises ValueError if the store is not interruptible, or closed; TypeError for anything but a wasmtime.Store. From
    any thread, with the GIL.
    """
    ...
def count_epoch(attributes: dict[str, Any], /) -> None:
    """
    Called before a program counts up an engine's epoch, with the engine's dictionary.

    Raises RuntimeError if a store of the engine is interruptible: its clock counts.
    """
    ...
def set_deadline(store: Any, /) -> None:
    """
    Called before a program sets a store's deadline.

    Raises RuntimeError if the store is interruptible: its deadline is the next tick.
    """
    ...
def address_of(store: Any, /) -> int:
    """
    What a wasmtime.Store and the StoreContexts and Callers of its host functions have in common, an int: the
    address of the context. ValueError as wasmtime-py raises it.
    """
    ...
closing: list[Callable[[int], object]]
resource_types: Iterator[int]
def close_store(store: Any, pointer: Any, /) -> None:
    """
    Deletes a store, by the pointer to it; nothing if that was done.

    It is closed for everybody before that begins, which runs finalizers and lets other threads run.
    Raises RuntimeError if something runs in it, which would go on in freed memory.
    """
    ...
def install(given: list[tuple[Any, str, Any]], /) -> None:
    """
    For patches.py: makes these changes in wasmtime-py, tuples (owner, name, value), and again when a store is first
    bound.
    """
    ...
def collect(store: Any, /) -> None:
    """
    Store.gc(). Nothing may use the store meanwhile.

    Raises RuntimeError if another thread uses it, or if it is in the middle of something; WasmtimeError.
    """
    ...

@final
class Use:
    """
    with Use(pointer): a call into a store that wasmtime-py itself makes, by its pointer to the store's context.
    with Use(pointer, inner) as value: the same round another block, whose value it has.

    An exception of a host function of func()'s, or of a tick, that ends it comes out of the block as it is.
    Raises RuntimeError if another thread uses the store, or if it is in the middle of something; ValueError if it is
    closed.
    """
    def __new__(cls, pointer: Any, inner: Any = None, /) -> Use: ...
    def __enter__(self) -> Any: ...
    def raise_exception(self, text: str, /) -> None:
        """Raises the exception that ended the call, which failed with this text, if one of ours did."""
        ...
    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None: ...

finalizer_address: Final[int]
def intern(value: Any) -> int:
    """
    For wasmtime-py: the data of an externref that it is about to make for the value, an int; the externref's
    finalizer is finalizer_address. A VMExternRef is a value as any other: wasmtime-py gives back what it got.
    """
    ...
def object_at(data: int) -> Any:
    """For wasmtime-py: the object of an externref of ours that is a root now, by its data, an int."""
    ...
