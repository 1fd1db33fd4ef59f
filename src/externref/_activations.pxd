# The C view of the activations table: `from externref._activations cimport VMExternRefActivationsTable`.

from libc.stdint cimport uintptr_t

from externref._core cimport Refusal, VMExternRef
from externref._python cimport visitproc


cdef extern from "externref_activations.h" nogil:
    ctypedef struct VMExternRefActivations:
        void **next
        void **end

cdef extern from "_activations/refset.h" nogil:
    ctypedef struct RefSet:
        uintptr_t *entries
        size_t capacity
        size_t count
    int refset_mark(RefSet *set, uintptr_t word) noexcept
    void refset_mark_words(RefSet *set, const void *start, const void *end) noexcept


cdef inline void *held_word(void *raw) noexcept:
    """What stands in a chunk for a hold; a raw owner's count stands there as its raw pointer."""
    return <void *>(<uintptr_t>raw | 1)


cdef inline bint is_held(void *word) noexcept:
    return <uintptr_t>word & 1


cdef inline void *raw_of_word(void *word) noexcept:
    return <void *>(<uintptr_t>word & ~<uintptr_t>1)


cdef class VMExternRefActivationsTable:
    cdef VMExternRefActivations alloc       # next and end; between the chunk's start and next, the newest
    cdef void **chunk                       # the bump chunk's start; NULL until the first insertion
    cdef bint lends                         # counting code can see what it holds: each entry lends
    cdef bint shared                        # `address` was read: compiled code may insert raw owners' counts
    cdef void *next_shared                  # the next table of those, borrowed
    cdef RefSet over_approximated           # the older entries
    cdef size_t flushed                     # how many went from the chunk into the set since the last sweep
    cdef size_t threshold                   # so many inserted since the last sweep make the next one due
    cdef readonly size_t collections
    """How many collections there were."""

    # What runs arbitrary code says so; nothing else here does.
    cdef int flush(self) except -1
    cdef int make_room(self, size_t count) except -1
    cdef size_t owned(self) noexcept
    cdef size_t inserted(self) noexcept
    cdef int detach_unmarked(self, RefSet *) except -1
    cdef Py_ssize_t drop_detached(self, RefSet) noexcept    # arbitrary code
    cdef void unmark(self) noexcept
    cdef void drop_all(self) noexcept                       # arbitrary code
    cdef bint detach_all(self, RefSet *, void ***, void ***) noexcept
    cdef Refusal adopt_chunk(self, void **stuck) noexcept
    cdef void put(self, void *word) noexcept
    cdef void lock_shared(self) noexcept
    cdef void unlock_shared(self) noexcept
    cdef int share(self) except -1
    cdef void unshare(self) noexcept
    cdef int take_handle_of(self, VMExternRef ref) except -1
    cdef int traverse(self, visitproc visit, void *arg) noexcept
