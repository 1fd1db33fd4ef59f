from collections.abc import Iterable
from typing import Any, SupportsIndex, final

from externref._core import VMExternRef

ACTIVATIONS_NEXT_OFFSET: int
ACTIVATIONS_END_OFFSET: int

@final
class VMExternRefActivationsTable:
    """
    Owns the references that compiled code borrows.

    For the author of a JIT or another runtime, who knows where its references can be; an
    externref.wasm2c.Store has a table of its own, which only counts for others: its operations raise
    RuntimeError. Insert a reference before compiled code
    gets its raw pointer; collect now and then, naming the roots. What is inserted stays alive
    until a collection finds no root for it, or the table goes.

    Compiled code inserts by itself through `address`, as externref_activations.h shows.

    Not for several threads at a time, except that each method holds the GIL, or without one is in the table's
    critical section. A collection and the death of the table can run arbitrary code: finalizers of what they drop.
    """
    def __new__(cls) -> VMExternRefActivationsTable: ...
    @property
    def address(self) -> int:
        """
        The address of the VMExternRefActivations struct: `next` and `end` are in it at
        externref.abi.ACTIVATIONS_NEXT_OFFSET and ACTIVATIONS_END_OFFSET. An int, valid while
        the table lives. RuntimeError for a store's table.
        """
        ...
    @property
    def collections(self) -> int:
        """How many collections there were."""
        ...
    def __len__(self) -> int: ...
    def bump_capacity_remaining(self) -> int:
        """How many references fit in the bump chunk before it is full; 0 before the first."""
        ...
    def try_insert(self, ref: VMExternRef[Any], /) -> bool:
        """
        Move a VMExternRef in if the bump chunk has room; whether it had.

        If it had, the table owns the count and `ref` is spent; if not, `ref` is as before.
        Raises TypeError, MovedError, MemoryError.

        Source: VMExternRefActivationsTable::try_insert.
        """
        ...
    def insert_without_gc(self, ref: VMExternRef[Any], /) -> None:
        """
        Move a VMExternRef in, spending it. Never collects.

        Raises TypeError, MovedError, MemoryError (and `ref` is as before).

        Source: VMExternRefActivationsTable::insert_without_gc.
        """
        ...
    def insert_with_gc(
        self,
        ref: VMExternRef[Any],
        /,
        roots: Iterable[SupportsIndex] = ...,
        ranges: Iterable[tuple[SupportsIndex, SupportsIndex]] = ...,
    ) -> None:
        """
        Insert a clone of a VMExternRef, which stays valid; collects first if the bump
        chunk is full. The new entry is not subject to that collection.

        roots, ranges: as for gc().
        Raises TypeError, MovedError, MemoryError, and what gc() does; nothing is inserted then.

        Source: VMExternRefActivationsTable::insert_with_gc.
        """
        ...
    def insert_precise_stack_root(self, root: SupportsIndex, /) -> bool:
        """
        Mark the entry at the raw pointer `root`, an int, so that the next sweep() keeps it.

        Whether there is such an entry. Raises TypeError, OverflowError, MemoryError.

        Source: VMExternRefActivationsTable::insert_precise_stack_root.
        """
        ...
    def sweep(self) -> int:
        """
        Drop every entry that was not marked since the last sweep; how many.

        Source: VMExternRefActivationsTable::sweep.
        """
        ...
    def gc(
        self,
        roots: Iterable[SupportsIndex] = ...,
        ranges: Iterable[tuple[SupportsIndex, SupportsIndex]] = ...,
    ) -> int:
        """
        Collect: drop every entry that no root names; how many were dropped.

        roots: raw pointers, ints. 0, and addresses that are no entry, name nothing.
        ranges: pairs (address, size in bytes) of memory, such as a stack or a Wasm table,
            in which every aligned word names a root. It must be readable: a wrong one is
            undefined behaviour.
        Raises TypeError, OverflowError, ValueError for a negative size, MemoryError, having
        dropped nothing.

        Source: gc of externref.rs.
        """
        ...
