# Owners: who has tables, memories and globals of its own, and a place among the store's roots.
#
# A part of _runtime.pyx.

cdef extern from "wasm2c/allocate.h":
    ctypedef struct Quota:
        size_t used
        size_t limit
    ctypedef struct MemoryQuota:
        Quota bytes
        Quota room
    const size_t MOST_ROOM_OF_STORE
    int new_memory(MemoryQuota *, Wasm2cMemory *, uint64_t, uint64_t, bint, uint32_t) noexcept
    uint64_t more_memory(MemoryQuota *, Wasm2cMemory *, uint64_t) noexcept
    void end_memory(MemoryQuota *, Wasm2cMemory *) noexcept
    int new_table_of(Quota *, Wasm2cTable *, uint32_t, uint32_t, size_t) noexcept
    uint32_t more_table(Quota *, Wasm2cTable *, uint32_t, const void *, size_t) noexcept
    void end_table(Quota *, Wasm2cTable *) noexcept


# Where an owner keeps references: its own tables and globals, not those it imports.
cdef struct Roots:
    Roots *previous
    Roots *next
    PyObject *instance      # borrowed; NULL for another owner
    PyObject *code          # the Instance's, borrowed
    bint *is_pinned         # whether the store has a reference to it
    char *start             # of its memory
    char *end
    size_t table_count
    Wasm2cTable **tables
    size_t global_count
    void ***globals


@cython.internal
@cython.no_gc_clear
cdef class Owner:
    """Keeps what it has for as long as something in Python leads to it. What only its tables and globals held is
    dropped with it."""
    cdef Store store
    cdef Roots roots
    cdef bint is_pinned         # by its store

    cdef void enter_ring(self) noexcept:
        """Its roots count from now on: before anything can be in them."""
        cdef Roots *ring = &self.store.roots
        with cython.critical_section(self.store.activations):
            self.roots.next = ring.next
            self.roots.previous = ring
            ring.next.previous = &self.roots
            ring.next = &self.roots

    cdef void leave_ring(self) noexcept:
        if self.store is None:      # it never came so far
            return
        with cython.critical_section(self.store.activations):
            if self.roots.next != NULL:     # neighbours write it, while they are in the ring
                self.roots.next.previous = self.roots.previous
                self.roots.previous.next = self.roots.next

    cdef void collect_rest(self):
        """At the end, when its roots are gone: drops what they held."""
        if self.roots.next != NULL:
            self.store.collect_if_it_can()      # if another thread runs the store's code, it collects later


@cython.final
@cython.internal
@cython.trashcan(True)      # a chain of them, each in a table of the one before, can be long
@cython.no_gc_clear
cdef class OneItem(Owner):
    """Has one table, memory or global that Python made."""
    cdef Wasm2cTable table
    cdef Wasm2cMemory memory
    cdef uint64_t[FUNCREF_SLOTS + 1] room   # for the value of the global
    cdef void *root                         # the address of the table or the value, if it holds externrefs

    cdef void *value(self) noexcept:
        """Of the global: a v128 is where compiled code expects one, at a multiple of 16."""
        return <void *>(<uintptr_t>self.room + 15 & ~<uintptr_t>15)

    cdef void hold_table(self) noexcept:
        """Makes the table, of externrefs, a root."""
        self.root = &self.table
        self.roots.tables, self.roots.table_count = <Wasm2cTable **>&self.root, 1
        self.enter_ring()

    cdef void hold_value(self) noexcept:
        """Makes the value, an externref, a root."""
        self.root = self.value()
        self.roots.globals, self.roots.global_count = <void ***>&self.root, 1
        self.enter_ring()

    def __dealloc__(self):
        if self.store is None:
            return
        self.leave_ring()
        end_table(&self.store.running.tables, &self.table)
        end_memory(&self.store.running.memory, &self.memory)
        self.collect_rest()


cdef OneItem new_owner(Store store):
    cdef OneItem self = OneItem.__new__(OneItem)
    self.store = store
    return self
