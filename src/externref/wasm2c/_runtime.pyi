import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, SupportsIndex, final, overload

from typing_extensions import Buffer

from externref._activations import VMExternRefActivationsTable
from externref._core import VMExternRef
from externref._exports import Exports
from externref._types import FuncType, GlobalType, MemoryType, TableType
from externref.wasm2c.binary import Binary
from externref.wasm2c.names import Frame

GLUE_VERSION: int

class Trap(Exception):
    """
    WebAssembly code trapped, or was interrupted.

    reason: the name that wasm2c's runtime has for it, or "interrupted". frames: a tuple of Frame, the functions that
    ran in the innermost call from Python, the innermost function first and at most 32; the compiler puts small
    functions into those that call them, which may be named then. The text is the reason, and for a trap the first
    frame.

    The instance stays usable, with what the call had changed until then.
    """
    reason: str
    frames: tuple[Frame, ...]

class LinkError(Exception):
    """An import is missing or is not of the type that the module declares; the text says which."""
    ...

@final
class Signature:
    """A function type of a compiled module, and how to call its functions."""
    ...

@final
class ItemType:
    """
    The type of a function, table, memory or global, read once. Linking goes by this alone: what binary.py's types
    say, and what they are equal to, can change.
    """
    ...

@final
class Port:
    """An import or an export of a module."""
    ...

@final
class Code:
    """A loaded library, which is never unloaded, and what linking goes by; load() makes it."""
    def __new__(cls, *maker: Any) -> Self: ...

def load(path: str, binary: Binary, /) -> Code:
    """
    The Code of a library that the compiler made of this Binary.

    Raises OSError if it is no library, or another version's, AttributeError if it is not of our making.
    """
    ...

@final
class Store:
    """
    What a group of instances shares: their references are owned and collected together.

    timeout: seconds that a call from Python may take, those of the host's functions included, or None; after it
        compiled code that runs, or comes back from the host, ends with Trap("interrupted").
    memory_limit: bytes that all memories may have together, or None; table_limit: elements of all tables. More is
        MemoryError when an instance is made; memory.grow and table.grow give -1.
    Raises ValueError for a limit that is negative or no number.

    Close it, or use it in a with block; or let it go: objects that only the store
    keeps alive, and that lead back to it, are found by Python's cycle collector.

    One thread at a time: while compiled code of the store is on one thread's stack, every operation
    on another raises RuntimeError, but interrupt().
    """
    def __new__(cls, *, timeout: float | None = None, memory_limit: int | None = None,
                table_limit: int | None = 10_000_000) -> Self: ...
    @property
    def activations(self) -> VMExternRefActivationsTable:
        """
        The table that owns the references passed in, a VMExternRefActivationsTable: to be looked at, len() and
        `collections`. Its other operations raise RuntimeError, since the store alone knows the roots.
        """
        ...
    @property
    def closed(self) -> bool:
        """Whether close() was called: then nothing of it can be used."""
        ...
    def gc(self) -> int:
        """
        Drop every reference that compiled code can no longer reach; how many were dropped.

        Right at any moment, also in an imported function: references on the stack are
        kept, and with them, perhaps, some that merely look as if they were there.
        Finalizers run before it returns.
        Raises ValueError if the store is closed, RuntimeError if it is in use by another thread, MemoryError.
        """
        ...
    def close(self) -> None:
        """
        Drop every reference. Every operation on the store and what is in it raises ValueError
        from then on; the memory of instances goes with their last Python reference. Nothing
        if it is closed already.

        Raises RuntimeError while compiled code of the store is active.
        """
        ...
    def interrupt(self) -> None:
        """
        Stop the compiled code of the store that runs, on whatever thread: its calls from Python end with
        Trap("interrupted") as soon as they come to a loop or a call. Nothing if none runs. From any thread.
        """
        ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: object) -> None: ...

@final
class Func:
    """
    A WebAssembly function: call it with Python values.

    An i32 or i64 takes an int, signed or unsigned, and gives a signed one; f32 and f64 take and
    give floats; an externref any object, which comes back as itself, or a VMExternRef, which is
    passed as itself, or None, which is null; a funcref a Func or None; a v128 16 bytes. No result is None,
    several are a tuple.

    A call raises TypeError for a wrong number of arguments, or one of the wrong type,
    OverflowError for one out of range, both naming it; ValueError for a Func of another store;
    MovedError for a spent VMExternRef; Trap; what an imported function raised, as it is;
    ValueError if the store is closed, RuntimeError if it is in use by another thread; MemoryError.
    The GIL is held throughout, unless `release_gil` is set; compiled code lets it go for a moment now and then.
    KeyboardInterrupt and Trap("interrupted") come at a call, at the turn of a loop, or after a host function.
    """
    release_gil: bool
    def __new__(cls, *maker: Any) -> Self: ...
    @property
    def store(self) -> Store:
        """The Store that it is of."""
        ...
    @property
    def instance(self) -> Instance:
        """The Instance it runs in, which it keeps alive."""
        ...
    @property
    def name(self) -> str:
        """The name it is exported under; "funcref" if it came as a value."""
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
        """As a call, but resulting externrefs come back as VMExternRef, None for null."""
        ...

@final
class HostFunc:
    """A Python callable that an instance imports; compiled code has its address."""
    ...

@final
class Table:
    """
    A WebAssembly table of externref or funcref: t[i], t[i] = x, len(t), iteration; a slice is a list, and takes as
    many values as it has.

    An instance's export, or made here: of the TableType, its minimum of elements, each of them the value.
    Raises TypeError for another store or type, ValueError for sizes that no table has, MemoryError if there is
    no memory or the store's table_limit does not allow it, what a Func raises for its store.

    What is put into an externref table lives until it is overwritten and a collection has run.
    Indices are counted from 0; one that is negative or too large raises IndexError. Values
    are as for a Func's parameters, and raise what they do there.
    """
    def __new__(cls, store: Store, type: TableType, value: Any = None) -> Self: ...
    @property
    def store(self) -> Store:
        """The Store that it is of."""
        ...
    @property
    def type(self) -> TableType:
        """Its TableType: the elements' type, the size now, the maximum or None."""
        ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    @overload
    def __getitem__(self, index: SupportsIndex, /) -> Any: ...
    @overload
    def __getitem__(self, index: slice, /) -> list[Any]: ...
    @overload
    def __setitem__(self, index: SupportsIndex, value: Any, /) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[Any], /) -> None: ...
    def ref(self, index: SupportsIndex, /) -> VMExternRef[Any] | None:
        """The element as a VMExternRef, None for null. IndexError; TypeError for a funcref table."""
        ...
    def fill(self, start: SupportsIndex, value: Any, count: SupportsIndex, /) -> None:
        """
        Set `count` elements from `start` on to the value. IndexError if they are not all there;
        nothing is set then.
        """
        ...
    def grow(self, count: SupportsIndex, value: Any = None, /) -> int:
        """
        Add `count` elements that hold the value; the size before. ValueError if the table
        cannot have so many.
        """
        ...

@final
class Global:
    """
    A WebAssembly global: its `value`, as a Func's results and parameters have it.

    An instance's export, or made here, of the GlobalType. Raises TypeError for another store or type, ValueError for
    a type that no value has, what a Func raises for an argument.
    """
    def __new__(cls, store: Store, type: GlobalType, value: Any = None) -> Self: ...
    @property
    def store(self) -> Store:
        """The Store that it is of."""
        ...
    @property
    def type(self) -> GlobalType:
        """Its GlobalType: the value's type, and whether it is mutable."""
        ...
    @property
    def value(self) -> Any:
        """The value, converted as a result is, or as an argument. Setting one that is not mutable raises TypeError."""
        ...
    @value.setter
    def value(self, value: Any) -> None:
        """The value, converted as a result is, or as an argument. Setting one that is not mutable raises TypeError."""
        ...
    @property
    def ref(self) -> VMExternRef[Any] | None:
        """The value of an externref global as a VMExternRef, None for null. TypeError for another."""
        ...

@final
class Memory:
    """
    A linear memory: bytes that are copied in and out, and a writable buffer: memoryview(memory),
    numpy.frombuffer(memory).

    len(m) in bytes, read, write, grow; m[i] and m[i] = byte, m[a:b] and m[a:b] = data, which takes as many bytes
    as the slice has. read() and write() raise IndexError out of bounds, and so does an index; a slice ends there.

    An instance's export, or made here, of the MemoryType. Raises TypeError for another store or type, ValueError for
    sizes that no memory has, MemoryError if there is no memory or the store's memory_limit does not allow it,
    what a Func raises for its store.

    A buffer has the size of the memory when it was made, and stays valid when the memory
    grows and after the store is closed. A 64-bit memory has none.
    """
    def __new__(cls, store: Store, type: MemoryType) -> Self: ...
    @property
    def store(self) -> Store:
        """The Store that it is of."""
        ...
    @property
    def type(self) -> MemoryType:
        """Its MemoryType: pages of 64 KiB now, and at most, or None; whether addresses have 64 bits."""
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
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...
    def grow(self, pages: SupportsIndex, /) -> int:
        """Add pages of 64 KiB; how many there were. ValueError if there cannot be so many."""
        ...
    def read(self, start: SupportsIndex = 0, stop: SupportsIndex | None = None, /) -> bytes:
        """The bytes from start to stop, at first all, copied. IndexError if they are not all there."""
        ...
    def write(self, data: Buffer, start: SupportsIndex = 0, /) -> int:
        """
        Copy the bytes of a buffer to the memory, from start on; how many. IndexError if they do not all fit, and
        then nothing is written; TypeError and BufferError if it has no bytes.
        """
        ...

@final
class Instance:
    """
    An instance of a compiled module; Module.instantiate() makes it.

    It lives as long as something in Python leads to it: itself, an export, an instance that
    imports from it. What only its tables and globals held is dropped with it. One whose imports
    or exports can carry a funcref lives as long as its store, since any table may hold its
    functions.
    """
    def __new__(cls, store: Store, code: Code, imports: Mapping[str, Any], release_gil: bool) -> Self: ...
    @property
    def exports(self) -> Exports:
        """What it exports by name: an Exports."""
        ...
