# cython: language_level=3, binding=False, auto_pickle=False, autotestdict=False, freethreading_compatible=True
# cython: embedsignature=True, embedsignature.format=clinic
"""The owner of the references that compiled frames borrow: deferred reference counting.

Compiled code that does not count must be given references that somebody else owns for as
long as it may use them. The activations table is that somebody: it owns one count for
every reference passed in, and a collection keeps what compiled code can still reach (its
frames, tables and globals: the roots) and drops the rest.

An entry is made in the bump chunk, by storing it and moving `next`. A full chunk is emptied
into the over-approximated set, which holds each reference once, with one count. A collection
does that first, marks in the set what the roots name, and sweeps: the set is replaced by
one of the marked, and only then, with the table consistent, are the others dropped, since
a drop can run a __del__ that inserts and collects in turn.

An entry is a hold: a handle, which from_raw() cannot take. Those of a table that Python makes lend too,
for counting code may clone what it is given; those of a wasm2c store, whose table is the store's own affair,
do not. What compiled code stores in the chunk by itself is a raw owner's count, until the chunk is
emptied or somebody calls from_raw(), which has the tables adopt such words first. The low bit of a word in
the chunk tells the two apart.

Roots need not be exact. A word that is no entry of the table marks nothing, so any memory
may be searched for them; a word that happens to equal an entry keeps it for one more
collection.

Source: VMExternRefActivationsTable of wasmtime's crates/runtime/src/externref.rs.
"""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

from externref._core cimport (
    VMExternData, VMExternRef, end_hold, externref_drop, hold, is_native, is_private, lend_block, refuse,
    refuse_moved, set_adopter, try_hold_raw, GRANTED, NO_RAW_OWNER, Refusal)
from externref._numbers cimport address_of
from externref._python cimport (
    PyObject_GC_UnTrack, TypeSlots, call_in_trashcan, destructor, hidden, make_collected, require_first_run, visitproc)

require_first_run()

cdef extern from *:
    """
    #define CHUNK_SIZE 512
    #define NEXT_OFFSET offsetof(VMExternRefActivations, next)
    #define END_OFFSET offsetof(VMExternRefActivations, end)
    """
    const size_t CHUNK_SIZE
    const size_t NEXT_OFFSET
    const size_t END_OFFSET

cdef extern from "_core/locks.h":
    ctypedef struct Lock:
        pass
    void lock_take(Lock *) noexcept
    void lock_release(Lock *) noexcept
    void slot_store(void **, void *) noexcept

cdef extern from "_activations/refset.h" nogil:
    int refset_add(RefSet *set, uintptr_t raw) noexcept
    void *refset_raw(uintptr_t entry) noexcept
    bint refset_is_marked(uintptr_t entry) noexcept
    int refset_init(RefSet *set, size_t count) noexcept
    int refset_reserve(RefSet *set, size_t more) noexcept
    void refset_free(RefSet *set) noexcept

# externref.abi gives these to JITs.
ACTIVATIONS_NEXT_OFFSET = NEXT_OFFSET
ACTIVATIONS_END_OFFSET = END_OFFSET


cdef int refuse_memory() except -1:
    raise MemoryError("no memory for the activations table")


cdef int require_unspent(object ref) except -1:
    """TypeError; MovedError if it is spent."""
    if not isinstance(ref, VMExternRef):
        raise TypeError(f"expected a VMExternRef, not {type(ref).__name__}")
    ref.strong_count
    return 0


# The tables whose address was read, which compiled code may insert into by itself. The lock is theirs together: of
# the list, and of what is in the chunks, which from_raw() looks through on any thread.
cdef void *shared_tables = NULL
cdef Lock shared_lock


cdef size_t adopt_in_shared_tables(const VMExternData *data) noexcept:
    """How many counts of the block stay raw owners' in tables, for want of room. Nothing runs, also no exception
    is made."""
    cdef void *at
    cdef void **place
    cdef size_t left = 0
    lock_take(&shared_lock)
    at = shared_tables
    while at != NULL:
        place = (<VMExternRefActivationsTable>at).chunk
        while place != (<VMExternRefActivationsTable>at).alloc.next:
            if not is_held(place[0]):
                if try_hold_raw(place[0], True) == GRANTED:
                    place[0] = held_word(place[0])
                elif place[0] == <void *>data:
                    left += 1
            place += 1
        at = (<VMExternRefActivationsTable>at).next_shared
    lock_release(&shared_lock)
    return left


cdef int require_public(VMExternRefActivationsTable table) except -1:
    """RuntimeError for a store's table, whose roots the store alone knows."""
    if not table.lends:
        raise RuntimeError("this table is a store's own: Store.gc() collects, and only the store inserts")
    return 0


@cython.final
cdef class VMExternRefActivationsTable:
    """VMExternRefActivationsTable()\n--\n
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

    def __cinit__(self):
        self.threshold = CHUNK_SIZE
        self.lends = True

    def __dealloc__(self):
        self.drop_all()
        free(self.chunk)
        if self.shared:
            self.unshare()

    @property
    def address(self):
        """The address of the VMExternRefActivations struct: `next` and `end` are in it at
        externref.abi.ACTIVATIONS_NEXT_OFFSET and ACTIVATIONS_END_OFFSET. An int, valid while
        the table lives. RuntimeError for a store's table."""
        self.share()
        return <uintptr_t>&self.alloc

    def __len__(self):
        """How many references the table owns; one that is in the chunk twice counts twice."""
        with cython.critical_section(self):
            return self.owned()

    def bump_capacity_remaining(self):
        """How many references fit in the bump chunk before it is full; 0 before the first."""
        with cython.critical_section(self):
            return self.alloc.end - self.alloc.next

    def try_insert(self, ref, /):
        """Move a VMExternRef in if the bump chunk has room; whether it had.

        If it had, the table owns the count and `ref` is spent; if not, `ref` is as before.
        Raises TypeError, MovedError, MemoryError.

        Source: VMExternRefActivationsTable::try_insert.
        """
        require_public(self)
        require_unspent(ref)
        with cython.critical_section(self, ref):
            if self.chunk == NULL:
                self.make_room(1)
            if self.alloc.next == self.alloc.end:
                return False
            self.take_handle_of(ref)
        return True

    def insert_without_gc(self, ref, /):
        """Move a VMExternRef in, spending it. Never collects.

        Raises TypeError, MovedError, MemoryError (and `ref` is as before).

        Source: VMExternRefActivationsTable::insert_without_gc.
        """
        require_public(self)
        require_unspent(ref)
        with cython.critical_section(self, ref):
            self.make_room(1)
            self.take_handle_of(ref)

    def insert_with_gc(self, ref, /, roots=(), ranges=()):
        """Insert a clone of a VMExternRef, which stays valid; collects first if the bump
        chunk is full. The new entry is not subject to that collection.

        roots, ranges: as for gc().
        Raises TypeError, MovedError, MemoryError, and what gc() does; nothing is inserted then.

        Source: VMExternRefActivationsTable::insert_with_gc.
        """
        self = self     # own it: see _python.pxd
        require_public(self)
        require_unspent(ref)
        cdef void *raw
        if self.chunk != NULL and self.bump_capacity_remaining() == 0:
            self.gc(roots, ranges)
        raw = hold(ref, self.lends)     # of a VMExternRef: nothing runs; not in the section, which would end for it
        try:
            with cython.critical_section(self):
                self.make_room(1)
                self.put(held_word(raw))
        except BaseException:
            end_hold(raw, self.lends)
            raise

    def insert_precise_stack_root(self, root, /):
        """Mark the entry at the raw pointer `root`, an int, so that the next sweep() keeps it.

        Whether there is such an entry. Raises TypeError, OverflowError, MemoryError.

        Source: VMExternRefActivationsTable::insert_precise_stack_root.
        """
        self = self     # own it: see _python.pxd
        cdef uintptr_t raw = address_of(root)
        require_public(self)
        with cython.critical_section(self):
            self.flush()
            return refset_mark(&self.over_approximated, raw) != 0

    def sweep(self):
        """Drop every entry that was not marked since the last sweep; how many.

        Source: VMExternRefActivationsTable::sweep.
        """
        cdef RefSet old
        self = self     # own it: see _python.pxd
        require_public(self)
        with cython.critical_section(self):
            self.flush()
            self.detach_unmarked(&old)
        return self.drop_detached(old)

    def gc(self, roots=(), ranges=()):
        """Collect: drop every entry that no root names; how many were dropped.

        roots: raw pointers, ints. 0, and addresses that are no entry, name nothing.
        ranges: pairs (address, size in bytes) of memory, such as a stack or a Wasm table,
            in which every aligned word names a root. It must be readable: a wrong one is
            undefined behaviour.
        Raises TypeError, OverflowError, ValueError for a negative size, MemoryError, having
        dropped nothing.

        Source: gc of externref.rs.
        """
        cdef RefSet old
        cdef uintptr_t start
        cdef list words, spans
        self = self     # own it: see _python.pxd
        require_public(self)
        words, spans = hidden([]), hidden([])       # what converting one runs could change the others
        # Arbitrary code, before anything is marked.
        for root in roots:
            words.append(address_of(root))
        for address, size in ranges:
            address, size = address_of(address), address_of(size)
            address_of(address + size)
            spans.append((address, size))
        with cython.critical_section(self):
            self.flush()
            for root in words:
                refset_mark(&self.over_approximated, <uintptr_t>root)
            for address, size in spans:
                start = address
                # SAFETY: readable, as the caller promised.
                refset_mark_words(&self.over_approximated, <void *>start, <void *>(start + <uintptr_t>size))
            self.detach_unmarked(&old)
        return self.drop_detached(old)

    cdef int take_handle_of(self, VMExternRef ref) except -1:
        """Moves the wrapper's handle in; the chunk has room. The sections of both."""
        cdef VMExternData *data = <VMExternData *>ref._data
        if data == NULL:
            refuse_moved()    # not reached: without a GIL alone
        if self.lends:
            lend_block(data)
        slot_store(&ref._data, NULL)
        self.put(held_word(data))
        return 0

    cdef void put(self, void *word) noexcept:
        """Into the chunk, which has room."""
        self.lock_shared()
        self.alloc.next[0] = word
        self.alloc.next += 1
        self.unlock_shared()

    cdef void lock_shared(self) noexcept:
        if self.shared:
            lock_take(&shared_lock)

    cdef void unlock_shared(self) noexcept:
        if self.shared:
            lock_release(&shared_lock)

    cdef int share(self) except -1:
        """Compiled code gets to know the table, and may have raw owners' counts in its chunk."""
        global shared_tables
        require_public(self)
        with cython.critical_section(self):
            if not self.shared:
                lock_take(&shared_lock)
                self.next_shared = shared_tables
                shared_tables = <void *>self
                self.shared = True
                set_adopter(adopt_in_shared_tables)
                lock_release(&shared_lock)
        return 0

    cdef void unshare(self) noexcept:
        global shared_tables
        cdef void **at = &shared_tables
        lock_take(&shared_lock)
        while at[0] != <void *>self:
            at = &(<VMExternRefActivationsTable>at[0]).next_shared
        at[0] = self.next_shared
        if shared_tables == NULL:
            set_adopter(NULL)
        lock_release(&shared_lock)

    cdef size_t owned(self) noexcept:
        """As __len__() tells it."""
        return self.over_approximated.count + (self.alloc.next - self.chunk)

    cdef size_t inserted(self) noexcept:
        """How many were inserted since the last sweep."""
        return self.flushed + (self.alloc.next - self.chunk)

    cdef int make_room(self, size_t count) except -1:
        """Makes the bump chunk have room for `count` references."""
        cdef size_t size = max(count, CHUNK_SIZE)
        cdef void **chunk
        while self.chunk == NULL or <size_t>(self.alloc.end - self.alloc.next) < count:
            if self.alloc.next != self.chunk:
                self.flush()    # without a GIL others may insert before it returns
                continue
            # The first, or more at once than ever.
            chunk = <void **>malloc(size * sizeof(void *))
            if chunk == NULL:
                refuse_memory()
            self.lock_shared()
            free(self.chunk)
            self.chunk = self.alloc.next = chunk
            self.alloc.end = chunk + size
            self.unlock_shared()
        return 0

    cdef Refusal adopt_chunk(self, void **stuck) noexcept:
        """Makes holds of the raw owners' counts in the chunk. The first that cannot be one is told, and it and the
        rest stay as they are."""
        cdef void **place = self.chunk
        cdef Refusal refusal
        while place != self.alloc.next:
            if not is_held(place[0]):
                refusal = try_hold_raw(place[0], self.lends)
                if refusal != GRANTED:
                    stuck[0] = place[0]
                    return refusal
                place[0] = held_word(place[0])
            place += 1
        return GRANTED

    cdef int flush(self) except -1:
        """Empties the bump chunk into the set. Without a GIL others may use the table before it returns."""
        cdef size_t filled = self.alloc.next - self.chunk
        cdef size_t again = 0
        cdef void **place
        cdef void **seconds     # the holds of what is an entry already
        cdef void *raw = NULL
        cdef Refusal refusal
        cdef bint has_memory
        if filled == 0:
            return 0
        seconds = <void **>malloc(filled * sizeof(void *))
        if seconds == NULL:
            refuse_memory()
        self.lock_shared()      # nothing is raised or ended with it
        refusal = self.adopt_chunk(&raw)
        has_memory = refusal != GRANTED or refset_reserve(&self.over_approximated, filled) == 0
        if refusal == GRANTED and has_memory:
            place = self.chunk
            while place != self.alloc.next:
                raw = raw_of_word(place[0])
                if not refset_add(&self.over_approximated, <uintptr_t>raw):
                    seconds[again] = raw
                    again += 1
                place += 1
            self.alloc.next = self.chunk
            self.flushed += filled
        self.unlock_shared()
        while again:
            again -= 1
            end_hold(seconds[again], self.lends)    # with a GIL never the last, so nothing runs
        free(seconds)
        if refusal != GRANTED:
            refuse(refusal, raw)
        if not has_memory:
            refuse_memory()
        return 0

    cdef int detach_unmarked(self, RefSet *old) except -1:
        """Takes the set's unmarked entries out, for drop_detached() after the section, and unmarks the others."""
        cdef RefSet kept
        cdef size_t marked = 0, i
        old[0] = self.over_approximated
        for i in range(old.capacity):
            marked += refset_is_marked(old.entries[i])
        if refset_init(&kept, marked) != 0:
            refuse_memory()
        for i in range(old.capacity):
            if refset_is_marked(old.entries[i]):
                refset_add(&kept, <uintptr_t>refset_raw(old.entries[i]))
                old.entries[i] = 0
        self.over_approximated = kept
        self.flushed = 0
        self.threshold = max(CHUNK_SIZE, kept.count)    # amortised: as many new ones as there are old ones
        self.collections += 1
        return 0

    cdef Py_ssize_t drop_detached(self, RefSet old) noexcept:
        """How many were dropped. Not in the section: finalizers run, which may switch to a greenlet with a section of
        its own, where CPython has one list of a thread's."""
        cdef Py_ssize_t dropped = 0
        cdef size_t i
        for i in range(old.capacity):
            if old.entries[i] != 0:
                end_hold(refset_raw(old.entries[i]), self.lends)
                dropped += 1
        refset_free(&old)
        return dropped

    cdef void unmark(self) noexcept:
        """For who marked and had no memory to sweep, and marks anew the next time."""
        cdef size_t i
        for i in range(self.over_approximated.capacity):
            self.over_approximated.entries[i] = <uintptr_t>refset_raw(self.over_approximated.entries[i])

    cdef void drop_all(self) noexcept:
        """Drops every entry, also those that are inserted meanwhile."""
        cdef RefSet old
        cdef void **chunk
        cdef void **place
        while self.detach_all(&old, &chunk, &place):
            self.drop_detached(old)
            while place != chunk:
                place -= 1
                end_hold(raw_of_word(place[0]), self.lends)
            free(chunk)

    cdef bint detach_all(self, RefSet *old, void ***chunk, void ***top) noexcept:
        """Takes everything out, the chunk up to `top`, for who drops it when the section is over; whether there was
        anything."""
        cdef void **place
        cdef Refusal refusal
        with cython.critical_section(self):
            if self.chunk == NULL and self.over_approximated.entries == NULL:
                return False
            self.lock_shared()
            old[0], chunk[0], top[0] = self.over_approximated, self.chunk, self.alloc.next
            self.over_approximated = RefSet(NULL, 0, 0)
            self.chunk = self.alloc.next = self.alloc.end = NULL
            self.flushed = 0
            # What compiled code inserted, before finalizers run: from_raw() could take it, and no adopter sees it here.
            place = chunk[0]
            while place != top[0]:
                if not is_held(place[0]):
                    refusal = try_hold_raw(place[0], self.lends)
                    if refusal == GRANTED:
                        place[0] = held_word(place[0])
                    else:
                        if refusal != NO_RAW_OWNER:     # then others have it; else there is nothing to drop
                            externref_drop(place[0])
                        place[0] = NULL
                place += 1
            self.unlock_shared()
            return True

    cdef int traverse(self, visitproc visit, void *arg) noexcept:
        cdef void **place = self.chunk
        cdef size_t i
        cdef int result
        if self.lends:      # a lent block is visited by nobody
            return 0
        while place != self.alloc.next:
            result = visit_entry(<VMExternData *>raw_of_word(place[0]), visit, arg)
            if result != 0:
                return result
            place += 1
        for i in range(self.over_approximated.capacity):
            if self.over_approximated.entries[i] != 0:
                result = visit_entry(<VMExternData *>refset_raw(self.over_approximated.entries[i]), visit, arg)
                if result != 0:
                    return result
        return 0


# --- Cycles -------------------------------------------------------------------------

cdef inline int visit_entry(VMExternData *data, visitproc visit, void *arg) noexcept:
    # As a wrapper does, for its one handle. The payload is right before the footer.
    if is_private(data) and not is_native(data):
        return visit((<PyObject **>data)[-1], arg)
    return 0


cdef int table_traverse(PyObject *self, visitproc visit, void *arg) noexcept:
    return (<VMExternRefActivationsTable>self).traverse(visit, arg)


cdef int table_clear(PyObject *self) noexcept:
    # What a store's table holds is in tables of its instances, which a finalizer may still read: the store clears it.
    if (<VMExternRefActivationsTable>self).lends:
        (<VMExternRefActivationsTable>self).drop_all()
    return 0


cdef destructor end_table     # Cython's


cdef void table_dealloc(PyObject *self) noexcept:
    # It may be the last owner of a reference to another table, and so on.
    PyObject_GC_UnTrack(self)
    call_in_trashcan(self, table_dealloc, end_table)


make_collected(VMExternRefActivationsTable, table_traverse, table_clear)
end_table = (<TypeSlots *>VMExternRefActivationsTable).tp_dealloc
(<TypeSlots *>VMExternRefActivationsTable).tp_dealloc = table_dealloc
