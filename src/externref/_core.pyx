# cython: language_level=3, binding=False, auto_pickle=False, autotestdict=False
# cython: embedsignature=True, embedsignature.format=clinic
"""VMExternRef: a reference-counted box for Python objects in compiled code.

A ``VMExternRef`` is one machine word that owns an object for code that cannot know what
the object is: WebAssembly turned into machine code, a JIT, plain C. Such code copies and
drops it by changing one integer, on any thread, without the GIL. It is morally Rust's
``Rc``, except that the count must not be opaque: compiled code changes it too.

Memory layout
-------------
A wrapper's one field is the address of a footer, preceded by the payload, in one
allocation (``externref.h`` is the authority)::

    lowest address                                                     highest
    +----------------------------+-----------+-----------+--------+-----------+
    | payload (size, align of T) | ref_count | value_ptr | vtable | host word |
    | 8 bytes for a PyObject *   | 8 bytes   | 8         | 8      | 8         |
    +----------------------------+-----------+-----------+--------+-----------+
    ^                            ^ raw pointer
    '----------- value_ptr ------'

Ownership
---------
``ref_count`` counts every owner, ``handles`` (in the host word) the live wrappers. Each
wrapper holds one count and one Python reference on the payload; raw owners together hold
one Python reference, and only while there is no wrapper::

    Python references held through the block == max(handles, 1)
    raw owners                               == ref_count - handles

    call                                  ref_count  handles  Python references
    VMExternRef(x), new, new_with         1          1        +1
    clone, copy, borrow's scope           +1         +1       +1
    wrapper dropped, others live          -1         -1       -1
    last wrapper dropped, raw owners live -1         0        kept, now theirs
    last owner dropped                    0, freed   0        -1
    into_raw                              same       -1       -1, or kept if the last wrapper
    from_raw                              same       +1       +1, or taken over if the first
    clone_from_raw                        +1         +1       as from_raw
    compiled clone, compiled drop         +1, -1     same     none
    compiled drop to zero                 0          0        -1, when drained

Counting
--------
Compiled code may change ``ref_count`` at any time while it owns a count or was lent the
pointer, so the host changes it atomically then. Where it can do neither (``is_private``),
the GIL alone guards the count and no locked instruction is needed.

Threads and the GIL
-------------------
Everything here needs the GIL, except what compiled code may call: the clone and drop of
``externref.h`` and the slow path they reach. A last drop by compiled code only links the
block into a list (``_core/pending.h``); the drain frees it under the GIL: from a pending call
on the main thread, at the package's next operation, by ``drain()``, or at exit.

Cycles
------
A wrapper visits its payload for the cycle collector only while the block is private:
a raw owner, or a pointer lent, keeps the payload alive for reasons the collector cannot
see. With n wrappers and nobody else there are n references to the payload, each visited
once, so the collector's sum comes out right.
"""

cimport cython
from cpython.number cimport PyNumber_Index
from cpython.pycapsule cimport PyCapsule_New
from cpython.object cimport PyObject, PyTypeObject, Py_EQ, Py_GE, Py_GT, Py_LE, Py_LT, Py_NE
from libc.stdint cimport UINT32_MAX, uint32_t, uintptr_t
from libc.string cimport memcpy, memset, strlen

import atexit
import gc
from collections import namedtuple
from types import GenericAlias

cdef extern from "Python.h":
    # Cython's own declarations take objects, whose counts these slots must not touch.
    ctypedef void (*destructor)(PyObject *) noexcept
    ctypedef int (*visitproc)(PyObject *, void *) noexcept
    ctypedef int (*traverseproc)(PyObject *, visitproc, void *) noexcept
    ctypedef int (*inquiry)(PyObject *) noexcept
    ctypedef PyObject *(*richcmpfunc)(PyObject *, PyObject *, int) except NULL
    PyObject *Py_NewRef(PyObject *) noexcept
    PyObject *Py_True
    PyObject *Py_False
    Py_ssize_t Py_REFCNT(PyObject *) noexcept
    void Py_INCREF(PyObject *) noexcept
    void Py_DECREF(PyObject *) noexcept
    void Py_XDECREF(PyObject *) noexcept
    PyTypeObject *Py_TYPE(PyObject *) noexcept
    bint PyType_IS_GC(PyTypeObject *) noexcept
    void PyType_Modified(PyTypeObject *) noexcept
    Py_ssize_t PyVectorcall_NARGS(size_t) noexcept
    Py_ssize_t PyTuple_GET_SIZE(PyObject *) noexcept
    PyObject *PyTuple_GET_ITEM(PyObject *, Py_ssize_t) noexcept
    Py_ssize_t PyDict_GET_SIZE(PyObject *) noexcept
    PyObject *PyObject_GC_New "_PyObject_GC_New" (PyTypeObject *) except NULL
    void PyObject_GC_Del(void *) noexcept
    void PyObject_GC_Track(PyObject *) noexcept
    void PyObject_GC_UnTrack(PyObject *) noexcept
    void PyObject_ClearWeakRefs(PyObject *) noexcept
    PyObject **PyObject_GET_WEAKREFS_LISTPTR(PyObject *) noexcept
    unsigned long Py_TPFLAGS_HAVE_GC
    PyObject *PyErr_Occurred() noexcept
    void *PyMem_RawMalloc(size_t) noexcept

cdef extern from "Python.h":
    # Cython's own PyTypeObject declares only some slots.
    ctypedef struct TypeSlots "PyTypeObject":
        const char *tp_name
        unsigned long tp_flags
        PyObject *(*tp_new)(PyTypeObject *, PyObject *, PyObject *) except NULL
        PyObject *(*tp_vectorcall)(PyObject *, PyObject *const *, size_t, PyObject *) except NULL
        destructor tp_dealloc
        richcmpfunc tp_richcompare
        traverseproc tp_traverse
        inquiry tp_clear
        void (*tp_free)(void *) noexcept

cdef extern from *:
    """
    /* The reference itself becomes Cython's to count. */
    #define own_reference(op) (op)

    /* PyObject_Init for an object whose type is set and whose memory was never given back:
     * 31 instructions less (callgrind). Debug builds count objects, so they need it. */
    static inline void revive(PyObject *op)
    {
    #ifdef Py_DEBUG
        PyObject_Init(op, Py_TYPE(op));
    #else
        Py_SET_REFCNT(op, 1);
    #endif
    }

    /* For `except -1` functions that only pass on the exception that C code set. */
    static int reraise(void)
    {
        return -1;
    }

    /* Runs `body(op)` as CPython's containers do: nested deeper than a bound, `op` is put
     * aside and comes back through `dealloc` once the stack has unwound. */
    static void call_in_trashcan(PyObject *op, destructor dealloc, destructor body)
    {
        Py_TRASHCAN_BEGIN(op, dealloc)
        body(op);
        Py_TRASHCAN_END
    }
    """
    object own_reference(PyObject *)
    int reraise() except -1
    void revive(PyObject *) noexcept
    void call_in_trashcan(PyObject *, destructor, destructor) noexcept

cdef extern from *:
    """
    #define EXTERNREF_API_IMPLEMENTATION
    """

cdef extern from "externref_api.h":
    const size_t EXTERNREF_API_VERSION
    ctypedef struct ExternrefAPI:
        size_t api_version
        size_t abi_version
        size_t size
        void *(*from_object)(object) except NULL
        object (*wrap)(void *)
        object (*wrap_clone)(void *)
        void *(*unwrap)(object) except? NULL
        object (*object)(const void *)
        const VMExternVTable *(*type)(const char *, size_t, size_t, void (*)(void *) noexcept) except NULL
        void *(*new_with)(const VMExternVTable *, int (*)(void *, void *) noexcept, void *) except NULL
        void (*release)(void *) noexcept
        object (*take_object)(void *)

cdef extern from "externref.h" nogil:
    const size_t EXTERNREF_REF_COUNT_OFFSET
    const size_t EXTERNREF_VALUE_PTR_OFFSET
    const size_t EXTERNREF_VTABLE_OFFSET
    const size_t EXTERNREF_DROP_SLOW_OFFSET
    size_t externref_footer_offset(size_t size) noexcept

cdef extern from "_core/memory.h" nogil:
    const int EXTERNREF_FREE_LIST_LIMIT
    void *externref_aligned_alloc(size_t align, size_t size) noexcept
    void externref_aligned_free(void *block) noexcept

cdef extern from "_core/atomics.h" nogil:
    bint atomic_count_replace(size_t *target, size_t expected, size_t value) noexcept
    void atomic_count_store(size_t *target, size_t value) noexcept

cdef extern from "_core/registry.h":
    bint registry_contains(uintptr_t address) noexcept
    int registry_add(uintptr_t address) noexcept
    void registry_remove(uintptr_t address) noexcept

cdef extern from "_core/pending.h":
    ctypedef struct PendingState:
        int (*drain)(void *) noexcept
    PendingState pending
    void pending_push(void *raw) noexcept nogil
    bint pending_any() noexcept
    VMExternData *pending_pop() noexcept
    size_t pending_count() noexcept
    void pending_close() noexcept

cdef extern from *:
    """
    #define MAX_COUNT ((size_t)PTRDIFF_MAX)
    #define MAX_BORROWS ((1u << 30) - 1)
    """
    const size_t MAX_COUNT          # owners of a block, and bytes in one
    const unsigned MAX_BORROWS      # that the footer's field can count

class MovedError(ReferenceError):
    """A VMExternRef was used after into_raw() moved it out or drop() gave it up."""

    __module__ = "externref"


class InvalidRawPointerError(ValueError):
    """An integer given as a raw pointer is not one that may be used so now."""

    __module__ = "externref"


Stats = namedtuple("Stats", "live_blocks handles exposed pending_drops", module="externref")
Stats.__doc__ = """What the package holds right now; four counts.

live_blocks: blocks allocated and not yet freed, pending drops among them.
handles: VMExternRef objects that own a count.
exposed: live blocks that are lent (as_raw, an open borrow), whose cycles are not collected.
pending_drops: blocks dropped by compiled code that await their free.
"""

# The counts of Stats; guarded by the GIL.
cdef Py_ssize_t live_blocks = 0
cdef Py_ssize_t live_handles = 0
cdef Py_ssize_t live_exposed = 0
cdef Py_ssize_t drained = 0         # blocks, ever


# --- Layout -------------------------------------------------------------------------

Layout = namedtuple("Layout", "size align footer_offset", module="externref.abi")
Layout.__doc__ = """Where things are in a block, in bytes.

size: of the whole block, a multiple of align.
align: of the block.
footer_offset: from the start of the block to the raw pointer.
"""


cdef int compute_layout(size_t size, size_t align, size_t *total, size_t *block_align) except -1:
    """The size and alignment of a block for this payload; the checks of layout_for."""
    if align == 0 or align & (align - 1):
        raise ValueError(f"align must be a power of two, not {align}")
    block_align[0] = max(align, sizeof(void *))
    # C's limit on an object's size is PTRDIFF_MAX; up to it no sum here can wrap.
    if align <= MAX_COUNT and size <= MAX_COUNT - sizeof(VMExternData) - sizeof(void *):
        # aligned_alloc wants a multiple of the alignment.
        total[0] = externref_footer_offset(size) + sizeof(VMExternData)
        total[0] = (total[0] + block_align[0] - 1) & ~(block_align[0] - 1)
        if total[0] <= MAX_COUNT:
            return 0
    raise OverflowError(f"a payload of {size} bytes aligned to {align} does not fit in memory")


def layout_for(size_t size, size_t align):
    """Layout of a block whose payload has this size and alignment, in bytes.

    Raises ValueError if align is not a power of two, OverflowError if an argument is
    negative or the sizes do not fit in a word.

    Source: VMExternData::layout_for.
    """
    cdef size_t total = 0, block_align = 0
    compute_layout(size, align, &total, &block_align)
    return Layout(total, block_align, externref_footer_offset(size))


# --- Blocks -------------------------------------------------------------------------

# A block for a Python payload: the PyObject * and then the footer, so 40 bytes. With
# glibc that is a 48-byte chunk, where alignment 16 would round it up to a 64-byte one.
cdef struct PythonBlock:
    PyObject *payload
    VMExternData footer

cdef VMExternVTable python_vtable
python_vtable.drop_in_place = NULL    # free_block does it, after the block is gone
python_vtable.size = sizeof(PyObject *)
python_vtable.align = sizeof(PyObject *)
python_vtable.type_name = "object"
python_vtable.drop_slow = pending_push

cdef inline PyObject *payload_of(VMExternData *data) noexcept:
    """The Python payload, borrowed; NULL for a native one."""
    # SAFETY: a block with this vtable is a PythonBlock, so the payload is right before
    # the footer; reading it there saves a load of value_ptr.
    if data.vtable == &python_vtable:
        return (<PyObject **>data)[-1]
    return NULL


cdef inline bint is_lent(VMExternData *data) noexcept nogil:
    """Whether compiled code may hold the pointer without owning a count."""
    return data.exposed or data.borrows != 0


cdef inline bint is_private(VMExternData *data) noexcept nogil:
    """Whether only wrappers own the block and no pointer to it is lent.

    Then no compiled code may touch the count, and the GIL alone guards it.
    """
    return EXTERNREF_ACQUIRE(&data.ref_count) == data.handles and not is_lent(data)


cdef inline PythonBlock *block_of(VMExternData *data) noexcept:
    # SAFETY: only for blocks of Python payloads, which end in their footer.
    return <PythonBlock *>(<char *>data - sizeof(PyObject *))


cdef VMExternData *new_native_block(const VMExternVTable *vtable) except NULL:
    """A block that nobody owns yet, whose payload is still to be made in place."""
    global live_blocks
    # As compute_layout, whose checks make_type has made.
    cdef size_t align = max(vtable.align, sizeof(void *))
    cdef size_t size = (externref_footer_offset(vtable.size) + sizeof(VMExternData) + align - 1) & ~(align - 1)
    cdef char *start = <char *>externref_aligned_alloc(align, size)
    if start == NULL:
        raise MemoryError(f"no memory for a block of {size} bytes")
    cdef VMExternData *data = <VMExternData *>(start + externref_footer_offset(vtable.size))
    memset(data, 0, sizeof(VMExternData))
    data.value_ptr = start
    data.vtable = vtable
    live_blocks += 1
    return data


# Dead blocks of Python payloads, for the next reference, linked through the payload (GIL).
# Built with -DEXTERNREF_NO_FREE_LISTS, a trip through externref.Function takes 38 ns in
# place of 30 (python -m externref bench).
cdef PythonBlock *spare_blocks = NULL
cdef int spare_block_count = 0


cdef VMExternData *new_block(PyObject *value, uint32_t handles) except NULL:
    """A block that owns `value`, with one count: a wrapper's (1 handle) or a raw owner's (0)."""
    global spare_blocks, spare_block_count, live_blocks, live_handles
    cdef PythonBlock *block = spare_blocks
    if block != NULL:
        spare_blocks = <PythonBlock *>block.payload
        spare_block_count -= 1
    else:
        block = <PythonBlock *>externref_aligned_alloc(sizeof(void *), sizeof(PythonBlock))
        if block == NULL:
            raise MemoryError("no memory for a reference's block")
    Py_INCREF(value)
    block.payload = value
    memset(&block.footer, 0, sizeof(VMExternData))
    block.footer.ref_count = 1
    block.footer.value_ptr = block
    block.footer.vtable = &python_vtable
    block.footer.handles = handles
    live_blocks += 1
    live_handles += handles
    return &block.footer


cdef PyObject *free_block(VMExternData *data) noexcept:
    """Frees a block without owners; the caller then drops the Python reference it returns.

    That order, the block first and the payload after it, keeps code that the payload's
    __del__ runs from meeting a half-dead block. A native payload is dropped in place
    first: it lives in the block. Its drop is C code that knows no block but its own.
    """
    global spare_blocks, spare_block_count, live_blocks, live_exposed
    cdef PyObject *payload = payload_of(data)
    live_blocks -= 1
    if data.registered:
        registry_remove(<uintptr_t>data)
    live_exposed -= is_lent(data)
    if payload == NULL and data.vtable.drop_in_place != NULL:
        data.vtable.drop_in_place(data.value_ptr)
    if payload != NULL and spare_block_count < EXTERNREF_FREE_LIST_LIMIT:
        block_of(data).payload = <PyObject *>spare_blocks
        spare_blocks = block_of(data)
        spare_block_count += 1
    else:
        # SAFETY: value_ptr is the start of the allocation, and nobody owns it any more.
        externref_aligned_free(data.value_ptr)
    return payload


# --- Counts -------------------------------------------------------------------------

cdef inline bint has_room(VMExternData *data) noexcept:
    """Whether one more owner can be counted."""
    return EXTERNREF_ACQUIRE(&data.ref_count) <= MAX_COUNT and data.handles < UINT32_MAX


cdef int refuse_room() except -1:
    raise OverflowError("this allocation has as many owners as can be counted")


cdef inline void add_count(VMExternData *data) noexcept:
    """A new count from one that the caller owns; who owns it is the caller's affair."""
    if is_private(data):
        # A plain store in place of a locked addition: see is_private.
        atomic_count_store(&data.ref_count, <size_t>data.handles + 1)
    else:
        EXTERNREF_INCREMENT(&data.ref_count)


cdef inline void add_handle(VMExternData *data) noexcept:
    """Accounts for one more wrapper, whose count is made by the caller."""
    global live_handles
    cdef PyObject *payload
    data.handles += 1
    live_handles += 1
    if data.handles > 1:    # else the raw owners' reference on the payload is taken over
        payload = payload_of(data)
        if payload != NULL:
            Py_INCREF(payload)


cdef inline PyObject *drop_handle(VMExternData *data) noexcept:
    """Takes away a wrapper's handle and count; frees the block if they were the last.

    The caller, having forgotten `data`, drops the Python reference this returns, if any.
    """
    global live_handles
    cdef PyObject *payload = payload_of(data)
    live_handles -= 1
    if is_private(data):
        data.handles -= 1
        if data.handles == 0:
            return free_block(data)
        # A plain store in place of a locked subtraction: see is_private.
        atomic_count_store(&data.ref_count, data.handles)
        return payload
    data.handles -= 1
    if EXTERNREF_DECREMENT(&data.ref_count) == 1:
        EXTERNREF_ACQUIRE(&data.ref_count)
        return free_block(data)
    return payload if data.handles else NULL    # the raw owners keep the last one


cdef void run_drain() noexcept:
    """Frees the blocks that compiled code dropped. Runs arbitrary code."""
    global drained
    cdef VMExternData *data = pending_pop()
    while data != NULL:
        drained += 1
        Py_XDECREF(free_block(data))
        data = pending_pop()


cdef inline void drain_if_any() noexcept:
    if pending_any():
        run_drain()


cdef int drain_from_pending_call(void *unused) noexcept:
    run_drain()
    return 0


pending.drain = drain_from_pending_call


# --- Wrappers -----------------------------------------------------------------------

# The dead, for the next reference to be made (GIL). A wrapper that owned its block alone keeps
# it, the footer being right already for the next value: *pairs* are linked through the
# block's payload. Other wrappers have no block and are linked through _data. Built with
# -DEXTERNREF_NO_FREE_LISTS, make+drop takes 1.40 of object()'s time in place of 0.54, and
# clone+drop 1.00 in place of 0.60 (python -m externref bench).
cdef PyObject *spare_pairs = NULL
cdef PyObject *spare_wrappers = NULL
cdef int spare_pair_count = 0
cdef int spare_wrapper_count = 0


cdef inline void **data_slot(PyObject *self) noexcept:
    """&self._data of an object whose reference count must not be touched: it may be 0."""
    return &(<VMExternRef>self)._data


cdef inline PyObject *new_wrapper() except NULL:
    """A new reference to a spent wrapper, not yet tracked by the collector.

    May run arbitrary code, because allocation can collect garbage: a caller looks at a
    block's counts only after it.
    """
    global spare_wrappers, spare_wrapper_count
    cdef PyTypeObject *cls = <PyTypeObject *>VMExternRef
    cdef PyObject *self = spare_wrappers
    if self == NULL:
        self = PyObject_GC_New(cls)
        memset(<char *>self + sizeof(PyObject), 0, cls.tp_basicsize - sizeof(PyObject))
        return self
    spare_wrappers = <PyObject *>data_slot(self)[0]
    spare_wrapper_count -= 1
    data_slot(self)[0] = NULL
    revive(self)
    return self


cdef inline void own(PyObject *self, VMExternData *data) noexcept:
    """Gives a spent wrapper the handle and count already made for it in `data`."""
    cdef PyObject *payload = payload_of(data)
    data_slot(self)[0] = data
    # A payload that the collector cannot look into is in no cycle that it could find.
    if payload != NULL and PyType_IS_GC(Py_TYPE(payload)):
        PyObject_GC_Track(self)


cdef inline PyObject *new_ref(PyObject *value) except NULL:
    """A wrapper for a new block that owns `value`; a new reference."""
    # In PyObject *: Cython's own counting of objects took some 30 instructions more, a tenth.
    global spare_pairs, spare_pair_count, live_blocks, live_handles
    cdef PyObject *self
    cdef PythonBlock *block
    drain_if_any()
    self = spare_pairs
    if self == NULL:
        return new_pair(value)
    block = block_of(<VMExternData *>data_slot(self)[0])
    spare_pairs = block.payload
    spare_pair_count -= 1
    Py_INCREF(value)
    block.payload = value
    live_blocks += 1
    live_handles += 1
    revive(self)
    own(self, &block.footer)
    return self


cdef PyObject *new_pair(PyObject *value) except NULL:
    """new_ref's slow path: all is allocated."""
    cdef PyObject *self = new_wrapper()
    try:
        own(self, new_block(value, 1))
    except:
        Py_DECREF(self)
        raise
    return self


cdef PyObject *wrapper_new(PyTypeObject *cls, PyObject *args, PyObject *kwargs) except NULL:
    if PyTuple_GET_SIZE(args) != 1 or (kwargs != NULL and PyDict_GET_SIZE(kwargs) != 0):
        raise TypeError("VMExternRef() takes exactly one positional argument: the value")
    return new_ref(PyTuple_GET_ITEM(args, 0))


cdef PyObject *wrapper_vectorcall(PyObject *cls, PyObject *const *args, size_t nargsf, PyObject *names) except NULL:
    if PyVectorcall_NARGS(nargsf) != 1 or (names != NULL and PyTuple_GET_SIZE(names) != 0):
        raise TypeError("VMExternRef() takes exactly one positional argument: the value")
    return new_ref(args[0])


cdef void wrapper_dealloc(PyObject *self) noexcept:
    cdef VMExternData *data = <VMExternData *>data_slot(self)[0]
    cdef PyObject *payload = NULL if data == NULL else payload_of(data)
    PyObject_GC_UnTrack(self)
    # A payload that dies with us may be a reference that boxes another, a million deep.
    if payload != NULL and Py_REFCNT(payload) == 1:
        call_in_trashcan(self, wrapper_dealloc, wrapper_free)
    else:
        wrapper_free(self)


cdef void wrapper_free(PyObject *self) noexcept:
    global spare_pairs, spare_pair_count, spare_wrappers, spare_wrapper_count
    global live_blocks, live_handles
    cdef VMExternData *data
    cdef PyObject *payload = NULL
    if PyObject_GET_WEAKREFS_LISTPTR(self)[0] != NULL:
        PyObject_ClearWeakRefs(self)
    data = <VMExternData *>data_slot(self)[0]
    if data != NULL:
        payload = payload_of(data)
        if (payload != NULL and data.handles == 1 and is_private(data)
                and spare_pair_count < EXTERNREF_FREE_LIST_LIMIT):
            # As drop_handle and free_block, but the block stays, fit for the next value.
            live_blocks -= 1
            live_handles -= 1
            if data.registered:
                registry_remove(<uintptr_t>data)
                data.registered = 0
            block_of(data).payload = spare_pairs
            spare_pairs = self
            spare_pair_count += 1
            Py_DECREF(payload)
            return
        payload = drop_handle(data)
    if spare_wrapper_count < EXTERNREF_FREE_LIST_LIMIT:
        data_slot(self)[0] = spare_wrappers
        spare_wrappers = self
        spare_wrapper_count += 1
    else:
        PyObject_GC_Del(self)
    Py_XDECREF(payload)


cdef int wrapper_traverse(PyObject *self, visitproc visit, void *arg) noexcept:
    cdef VMExternData *data = <VMExternData *>data_slot(self)[0]
    cdef PyObject *payload
    if data == NULL or not is_private(data):
        return 0
    payload = payload_of(data)
    return visit(payload, arg) if payload != NULL else 0


cdef int wrapper_clear(PyObject *self) noexcept:
    cdef VMExternData *data = <VMExternData *>data_slot(self)[0]
    if data != NULL:
        data_slot(self)[0] = NULL
        Py_XDECREF(drop_handle(data))
    return 0


cdef inline bint is_same(PyObject *left, PyObject *right) noexcept:
    """Whether two wrappers are of one allocation; a spent one equals only itself."""
    return left == right or (data_slot(left)[0] == data_slot(right)[0] and data_slot(left)[0] != NULL)


cdef PyObject *wrapper_richcompare(PyObject *self, PyObject *other, int op) except NULL:
    """== of two wrappers without Cython's own counting of objects, which took 1.08 of
    object()'s time in place of 0.98; the rest by __richcmp__."""
    if op == Py_EQ and Py_TYPE(other) == Py_TYPE(self):
        return Py_NewRef(Py_True if is_same(self, other) else Py_False)
    return slow_richcompare(self, other, op)


cdef inline VMExternData *data_of(VMExternRef self) except NULL:
    if self._data == NULL:
        raise MovedError("this VMExternRef was moved out by into_raw() or given up by drop(); "
                         "clone() before the move to keep an owner")
    return <VMExternData *>self._data


cdef str name_of_type(const VMExternVTable *vtable):
    return vtable.type_name.decode("utf-8", "replace")


cdef str type_name_of(VMExternData *data):
    cdef PyObject *payload = payload_of(data)
    if payload != NULL:
        return type(<object>payload).__name__
    return name_of_type(data.vtable)


cdef int refuse_native(VMExternData *data) except -1:
    raise TypeError(f"the payload is a native {type_name_of(data)!r}, which Python cannot look into")


cdef int require_ref(object value) except -1:
    if not isinstance(value, VMExternRef):
        raise TypeError(f"expected a VMExternRef or None, not {type(value).__name__}")
    return 0


cdef PyObject *clone_ref(VMExternRef self) except NULL:
    """Another wrapper of the same block; a new reference."""
    cdef PyObject *other
    cdef VMExternData *data
    drain_if_any()
    other = new_wrapper()
    data = <VMExternData *>self._data
    if data == NULL or not has_room(data):
        Py_DECREF(other)
        data_of(self)
        refuse_room()
    add_count(data)
    add_handle(data)
    own(other, data)
    return other


cdef inline int register(VMExternData *data) except -1:
    """Makes the address one that from_raw() and clone_from_raw() accept."""
    if not data.registered:
        if registry_add(<uintptr_t>data) != 0:
            raise MemoryError("no memory to hand out a raw pointer")
        data.registered = 1
    return 0


cdef inline object hand_out(VMExternData *data):
    """The raw pointer as an int. Nothing can fail after it: only then the caller moves or
    lends the reference."""
    cdef object ptr = <uintptr_t>data
    register(data)
    return ptr


cdef int expose(VMExternRef self) except -1:
    """Lends the raw pointer for as long as the block lives."""
    global live_exposed
    cdef VMExternData *data = data_of(self)
    register(data)
    live_exposed += not is_lent(data)
    data.exposed = 1
    return 0


cdef object lend(VMExternRef self):
    cdef object ptr = <uintptr_t>data_of(self)    # the int first: nothing is lent if it cannot be made
    expose(self)
    return ptr


cdef VMExternData *registered_block(object ptr) except NULL:
    """The block at an address that was handed out; InvalidRawPointerError for any other."""
    cdef uintptr_t address
    if not isinstance(ptr, int):
        ptr = PyNumber_Index(ptr)
    try:
        address = ptr
    except OverflowError:
        raise InvalidRawPointerError(f"{ptr} is no address: it does not fit in a word") from None
    if address == 0:
        raise InvalidRawPointerError(
            "the null pointer is no reference; option_from_raw() maps it to None")
    if address % sizeof(void *) != 0:
        raise InvalidRawPointerError(f"{address:#x} is misaligned: no reference has this address")
    if not registry_contains(address):
        raise InvalidRawPointerError(
            f"{address:#x} was never handed out by into_raw(), as_raw() or borrow(), "
            "or its allocation has been freed")
    return <VMExternData *>address


cdef int take_over(VMExternRef self, VMExternData *data) except -1:
    """Makes a raw owner's count that of `self`, a spent wrapper."""
    if EXTERNREF_ACQUIRE(&data.ref_count) <= data.handles:
        raise InvalidRawPointerError(
            f"{<uintptr_t>data:#x} has no owner to take over: it was taken back already, "
            "dropped, or only lent; clone_from_raw() adds an owner")
    if not has_room(data):
        refuse_room()
    add_handle(data)
    own(<PyObject *>self, data)
    return 0


cdef int add_owner(VMExternRef self, VMExternData *data) except -1:
    """Makes a new count for `self`, a spent wrapper."""
    cdef size_t count
    if not has_room(data):
        refuse_room()
    while True:     # unlike compiled code, whoever calls may own nothing: never from zero
        count = EXTERNREF_ACQUIRE(&data.ref_count)
        if count == 0:
            raise InvalidRawPointerError(
                f"{<uintptr_t>data:#x} has no owner left: compiled code dropped the last one")
        if atomic_count_replace(&data.ref_count, count, count + 1):
            break
    add_handle(data)
    own(<PyObject *>self, data)
    return 0


cdef VMExternRef spent_wrapper():
    drain_if_any()
    return <VMExternRef>own_reference(new_wrapper())


cdef object give_raw(VMExternRef self):
    global live_handles
    cdef VMExternData *data
    drain_if_any()
    data = data_of(self)
    ptr = hand_out(data)
    self._data = NULL
    live_handles -= 1
    data.handles -= 1
    if data.handles and payload_of(data) != NULL:   # else the raw owners take it over
        Py_DECREF(payload_of(data))                 # never the last: the others hold it
    return ptr


@cython.no_gc_clear     # close() needs the owner to the end
@cython.final
cdef class Borrow:
    """The with block of VMExternRef.borrow().

    It owns a count while it is open, so that nothing that happens to the wrapper
    meanwhile can leave the pointer dangling.
    """
    cdef VMExternRef ref        # the wrapper to lend from
    cdef VMExternRef owner      # its clone; None unless open

    def __cinit__(self, VMExternRef ref not None, /):
        self.ref = ref

    def __enter__(self):
        global live_exposed
        cdef VMExternRef owner
        cdef VMExternData *data
        if self.owner is not None:
            raise RuntimeError("this borrow is open already; each with block takes a borrow() of its own")
        owner = <VMExternRef>own_reference(clone_ref(self.ref))
        data = data_of(owner)
        if data.borrows == MAX_BORROWS:
            raise OverflowError("this allocation has as many borrows open as can be counted")
        ptr = hand_out(data)
        live_exposed += not is_lent(data)
        data.borrows += 1
        self.owner = owner
        return ptr

    def __exit__(self, *exc_info):
        self.close()

    def __dealloc__(self):
        self.close()

    cdef void close(self) noexcept:
        global live_exposed
        cdef VMExternRef owner = self.owner
        cdef VMExternData *data
        if owner is None:
            return
        self.owner = None
        data = <VMExternData *>owner._data
        if data != NULL:    # else somebody fished the clone out of the collector and spent it
            data.borrows -= 1
            live_exposed -= not is_lent(data)


cdef bint precedes(uintptr_t left, uintptr_t right, int op) noexcept:
    if op == Py_LT:
        return left < right
    if op == Py_LE:
        return left <= right
    if op == Py_GT:
        return left > right
    return left >= right


cdef object c_void_p = None     # ctypes.c_void_p, once it is needed


cdef object as_parameter(VMExternRef self):
    # A bare int would travel as a C int where a function has no argtypes.
    global c_void_p
    if c_void_p is None:
        from ctypes import c_void_p as imported
        c_void_p = imported
    return c_void_p(lend(self))


@cython.final
cdef class VMExternRef:
    """VMExternRef(value, /)\n--\n
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

    __class_getitem__ = classmethod(GenericAlias)

    @staticmethod
    def new(value, /):
        """Wrap the value: the same as VMExternRef(value).

        Source: VMExternRef::new.
        """
        return own_reference(new_ref(<PyObject *>value))

    @staticmethod
    def new_with(make_value, /):
        """Wrap what make_value() returns.

        If make_value raises, its exception comes out and nothing was allocated.

        Source: VMExternRef::new_with.
        """
        value = make_value()
        return own_reference(new_ref(<PyObject *>value))

    # -- The payload: borrowed, no count changes

    @property
    def value(self):
        """The value in the box; a new Python reference to it.

        Raises MovedError if spent, TypeError if the payload is a native one.

        Source: Deref for VMExternRef.
        """
        cdef VMExternData *data = data_of(self)
        cdef PyObject *payload = payload_of(data)
        if payload == NULL:
            refuse_native(data)
        return <object>payload

    def is_(self, cls, /):
        """Whether the value is an instance of cls, as isinstance() has it; False for a
        native payload.

        Raises MovedError if spent, TypeError if cls is not a class, tuple or union.

        Source: Any::is.
        """
        cdef PyObject *payload = payload_of(data_of(self))
        if payload == NULL:
            return False
        value = <object>payload     # a reference: __instancecheck__ may drop the box
        return isinstance(value, cls)

    def downcast_ref(self, cls, /):
        """The value if it is an instance of cls, else None.

        Raises MovedError if spent, TypeError if cls is not a class, tuple or union.

        Source: Any::downcast_ref.
        """
        cdef PyObject *payload = payload_of(data_of(self))
        if payload == NULL:
            return None
        value = <object>payload     # a reference: __instancecheck__ may drop the box
        return value if isinstance(value, cls) else None

    # -- Owners

    def clone(self):
        """Another owner of the same allocation: strong_count rises by one.

        Raises MovedError if spent, MemoryError, OverflowError if the count is at its
        limit.

        Source: Clone for VMExternRef.
        """
        return own_reference(clone_ref(self))

    def __copy__(self):
        return own_reference(clone_ref(self))

    def __deepcopy__(self, memo):
        return own_reference(clone_ref(self))

    @property
    def strong_count(self):
        """How many owners the allocation has, wrappers and raw pointers together.

        Compiled code on other threads may be changing it as it is read.
        Raises MovedError if spent.
        """
        return externref_strong_count(data_of(self))

    def drop(self):
        """Give up this owner now; the wrapper is spent. Nothing if it already was.

        If it was the last owner, the value is released before this returns.

        Source: Drop for VMExternRef.
        """
        drain_if_any()
        wrapper_clear(<PyObject *>self)

    def __enter__(self):
        data_of(self)
        return self

    def __exit__(self, *exc_info):
        self.drop()

    @property
    def moved(self):
        """Whether the wrapper is spent: by into_raw(), or by drop()."""
        return self._data == NULL

    # -- Raw pointers

    def into_raw(self):
        """Move the reference out: its address as an int, which now owns the count.

        No count changes. The wrapper is spent. Whoever gets the pointer must bring it
        back by from_raw(), or drop it as externref.h says, or the value is never released.
        Raises MovedError if spent, MemoryError (and then nothing was moved).

        Source: VMExternRef::into_raw.
        """
        return give_raw(self)

    @staticmethod
    def from_raw(ptr, /):
        """Take over the count that the raw pointer owns: the reverse of into_raw().

        ptr: the address, an int, at most once for each count that was moved out or that
            compiled code added.
        Raises InvalidRawPointerError if ptr is null, misaligned, was never handed out, is
        freed, or if no raw owner is left to take over; TypeError if it is no int. A stale
        address that a newer handed-out allocation occupies cannot be told apart.

        Source: VMExternRef::from_raw.
        """
        cdef VMExternRef self = spent_wrapper()
        take_over(self, registered_block(ptr))
        return self

    def as_raw(self):
        """Lend the reference: its address as an int, valid while any owner lives.

        No count changes. Compiled code may clone through the pointer at any time, so the
        collector leaves cycles through this allocation alone from now on; borrow() lends
        without that.
        Raises MovedError if spent, MemoryError.
        """
        return lend(self)

    @staticmethod
    def clone_from_raw(ptr, /):
        """A new owner of the allocation at ptr, whose present owners keep theirs.

        ptr: the address, an int.
        Raises InvalidRawPointerError as from_raw() does, also if compiled code has just
        dropped the last reference; OverflowError if the count is at its limit.
        """
        cdef VMExternRef self = spent_wrapper()
        add_owner(self, registered_block(ptr))
        return self

    def borrow(self):
        """Lend the raw pointer for a with block: `with ref.borrow() as ptr:`.

        The block is an owner of its own: strong_count is one higher inside, and ptr stays
        valid to its end whatever happens to the wrapper. After it, cycles through the
        allocation are collected again.
        Raises MovedError if spent.
        """
        data_of(self)
        return Borrow.__new__(Borrow, self)

    @property
    def _as_parameter_(self):
        """For ctypes: the lent pointer as a c_void_p; see as_raw()."""
        return as_parameter(self)

    @staticmethod
    def from_param(value, /):
        """For ctypes' argtypes: a VMExternRef passes its lent pointer, None passes NULL.

        Raises TypeError for anything else, MovedError if spent.
        """
        if value is None:
            return None
        require_ref(value)
        return as_parameter(value)

    # -- Identity: of the allocation

    def __richcmp__(self, other, int op):
        if type(other) is not VMExternRef:
            return NotImplemented
        if op == Py_NE:     # == of two wrappers is wrapper_richcompare's
            return not is_same(<PyObject *>self, <PyObject *>other)
        return precedes(<uintptr_t>data_of(self), <uintptr_t>data_of(<VMExternRef>other), op)

    def __hash__(self):
        # As CPython hashes an address, its low zero bits rotated to the top; of the block's
        # start, whose low four bits are zero. The footer's bit 3 is set: its hash would be a
        # large negative int, which takes 1.12 times as long to make.
        cdef uintptr_t address = <uintptr_t>data_of(self) - sizeof(void *)
        cdef Py_hash_t result = <Py_hash_t>(address >> 4 | address << (8 * sizeof(address) - 4))
        return result if result != -1 else -2

    def __repr__(self):
        if self._data == NULL:
            return "<externref.VMExternRef moved>"
        cdef VMExternData *data = <VMExternData *>self._data
        return (f"<externref.VMExternRef at {<uintptr_t>data:#x} to {type_name_of(data)!r}, "
                f"strong_count {externref_strong_count(data)}>")

    # -- Refusals

    def __reduce_ex__(self, protocol):
        raise TypeError("cannot pickle a VMExternRef: its identity is an address in this process")

    def __reduce__(self):
        return self.__reduce_ex__(0)


cdef richcmpfunc slow_richcompare     # what Cython made of __richcmp__


cdef void prepare_type() noexcept:
    """Makes VMExternRef a collected type with an allocation of its own.

    Cython gives a class whose only field is a void * no place in the cycle collector, and
    its constructor cannot take a wrapper and a block together, so the slots are set here,
    once, before any instance exists.
    """
    global slow_richcompare
    cdef TypeSlots *cls = <TypeSlots *>VMExternRef
    cls.tp_name = "externref.VMExternRef"
    cls.tp_flags |= Py_TPFLAGS_HAVE_GC
    cls.tp_new = wrapper_new
    cls.tp_vectorcall = wrapper_vectorcall
    cls.tp_dealloc = wrapper_dealloc
    slow_richcompare = cls.tp_richcompare
    cls.tp_richcompare = wrapper_richcompare
    cls.tp_traverse = wrapper_traverse
    cls.tp_clear = wrapper_clear
    cls.tp_free = PyObject_GC_Del
    PyType_Modified(<PyTypeObject *>VMExternRef)


prepare_type()


# --- The C API ----------------------------------------------------------------------
#
# What externref_api.h documents, and what the package's own adapters cimport.

cdef void *box(object value) except NULL:
    """A raw pointer, the caller's, to a new block that owns `value`. Not registered."""
    drain_if_any()
    return new_block(<PyObject *>value, 0)


cdef void *to_raw(object value) except? NULL:
    """A raw pointer, the caller's, for what was passed as a reference: NULL for None, a new
    owner for a VMExternRef, a box for any other object. Not registered."""
    cdef VMExternData *data
    if value is None:
        return NULL
    if type(value) is not VMExternRef:
        return box(value)
    data = data_of(<VMExternRef>value)
    if not has_room(data):
        refuse_room()
    add_count(data)
    return data


cdef int register_raw(void *raw) except -1:
    """Lets from_raw() accept the address, which compiled code may hand to Python as an int."""
    return register(<VMExternData *>raw) if raw != NULL else 0


cdef bint is_native(const void *raw) noexcept:
    """Whether the payload is one that Python cannot look into."""
    return raw != NULL and payload_of(<VMExternData *>raw) == NULL


cdef object object_of(const void *raw):
    """A new reference to the payload, None for NULL; the caller keeps their count."""
    cdef VMExternData *data = <VMExternData *>raw
    if data == NULL:
        return None
    cdef PyObject *payload = payload_of(data)
    if payload == NULL:
        refuse_native(data)
    return <object>payload


cdef void release(void *raw) noexcept:
    """Gives up the caller's count, and releases the payload now if it was the last."""
    cdef VMExternData *data = <VMExternData *>raw
    # The only owner needs no locked instruction to find out that it is.
    if data != NULL and (EXTERNREF_ACQUIRE(&data.ref_count) == 1
                         or EXTERNREF_DECREMENT(&data.ref_count) == 1):
        EXTERNREF_ACQUIRE(&data.ref_count)
        Py_XDECREF(free_block(data))


cdef object take_object(void *raw):
    """object_of, and gives up the caller's count unless it raises."""
    cdef VMExternData *data = <VMExternData *>raw
    if data != NULL and payload_of(data) != NULL and EXTERNREF_ACQUIRE(&data.ref_count) == 1:
        return own_reference(free_block(data))      # the block's reference moves out
    value = object_of(raw)
    release(raw)
    return value


cdef object wrap(void *raw):
    """A wrapper that takes over the caller's count, unless this raises; None for NULL."""
    if raw == NULL:
        return None
    cdef VMExternRef self = spent_wrapper()
    take_over(self, <VMExternData *>raw)
    return self


cdef object wrap_clone(void *raw):
    """A wrapper with a count of its own; None for NULL."""
    if raw == NULL:
        return None
    cdef VMExternRef self = spent_wrapper()
    add_owner(self, <VMExternData *>raw)
    return self


cdef void *unwrap(object ref) except? NULL:
    """The lent pointer; NULL for None."""
    if ref is None:
        return NULL
    require_ref(ref)
    expose(<VMExternRef>ref)
    return (<VMExternRef>ref)._data


cdef void *registered_box(object value) except NULL:
    cdef void *raw = box(value)
    try:
        register(<VMExternData *>raw)
    except:
        release(raw)
        raise
    return raw


cdef const VMExternVTable *make_type(
        const char *name, size_t size, size_t align, void (*drop_in_place)(void *) noexcept) except NULL:
    cdef size_t total = 0, block_align = 0
    cdef size_t name_size = strlen(name) + 1
    compute_layout(size, align, &total, &block_align)   # for its checks
    cdef VMExternVTable *vtable = <VMExternVTable *>PyMem_RawMalloc(sizeof(VMExternVTable) + name_size)
    if vtable == NULL:
        raise MemoryError("no memory for a payload type")
    vtable.drop_in_place = drop_in_place
    vtable.size = size
    vtable.align = align
    vtable.type_name = <const char *>memcpy(vtable + 1, name, name_size)
    vtable.drop_slow = pending_push
    return vtable


cdef void discard(VMExternData *data) noexcept:
    """Frees a native block that has no payload to drop; leaves a set exception alone."""
    global live_blocks
    live_blocks -= 1
    if data.registered:
        registry_remove(<uintptr_t>data)
    externref_aligned_free(data.value_ptr)


cdef void *new_with(const VMExternVTable *vtable, int (*init)(void *, void *) noexcept, void *ctx) except NULL:
    cdef VMExternData *data
    drain_if_any()
    data = new_native_block(vtable)
    # Registered first: once init has made the payload, nothing may fail. Cleaned up by hand:
    # to enter a try block takes about as long as to register.
    if registry_add(<uintptr_t>data) != 0:
        discard(data)
        raise MemoryError("no memory to hand out a raw pointer")
    data.registered = 1
    if init(data.value_ptr, ctx) != 0:
        discard(data)
        if PyErr_Occurred() != NULL:
            reraise()
        raise RuntimeError(f"the init function of {name_of_type(vtable)!r} failed")
    data.ref_count = 1      # not before: whoever guessed the address while init ran is refused
    return data


cdef ExternrefAPI c_api
c_api.api_version = EXTERNREF_API_VERSION
c_api.abi_version = EXTERNREF_ABI_VERSION
c_api.size = sizeof(ExternrefAPI)
c_api.from_object = registered_box
c_api.wrap = wrap
c_api.wrap_clone = wrap_clone
c_api.unwrap = unwrap
c_api.object = object_of
c_api.type = make_type
c_api.new_with = new_with
c_api.release = release
c_api.take_object = take_object

_C_API = PyCapsule_New(&c_api, "externref._core._C_API", NULL)


# --- Functions ----------------------------------------------------------------------

def option_into_raw(ref, /):
    """ref.into_raw(), or 0 for None: Option<VMExternRef> is one word.

    Raises what into_raw() does; TypeError if ref is neither a VMExternRef nor None.
    """
    if ref is None:
        return 0
    require_ref(ref)
    return give_raw(ref)


def option_from_raw(ptr, /):
    """VMExternRef.from_raw(ptr), or None for 0. Raises what from_raw() does."""
    ptr = PyNumber_Index(ptr)
    return VMExternRef.from_raw(ptr) if ptr else None


# externref.abi gives these to JITs.
REF_COUNT_OFFSET = EXTERNREF_REF_COUNT_OFFSET
VALUE_PTR_OFFSET = EXTERNREF_VALUE_PTR_OFFSET
VTABLE_OFFSET = EXTERNREF_VTABLE_OFFSET
FOOTER_SIZE = sizeof(VMExternData)
DROP_SLOW_OFFSET = EXTERNREF_DROP_SLOW_OFFSET
ABI_VERSION = EXTERNREF_ABI_VERSION
clone_address = <uintptr_t>&externref_clone
drop_address = <uintptr_t>&externref_drop


def drain():
    """Free what compiled code has dropped and is still pending; how many blocks.

    Runs the finalizers of their payloads on the calling thread. If these drain in turn,
    what they freed is counted too.
    """
    cdef Py_ssize_t before = drained
    run_drain()
    return drained - before


def stats():
    """What the package holds right now, as a Stats; changes nothing."""
    return Stats(live_blocks, live_handles, live_exposed, pending_count())


def free_spares(phase, info):
    """Frees the dead wrappers and blocks kept for reuse, at the end of a full collection:
    when CPython empties its own free lists."""
    global spare_pairs, spare_pair_count, spare_wrappers, spare_wrapper_count
    global spare_blocks, spare_block_count
    cdef PyObject *wrapper
    cdef PythonBlock *block
    if phase != "stop" or info["generation"] != 2:
        return
    while spare_pairs != NULL:
        wrapper = spare_pairs
        block = block_of(<VMExternData *>data_slot(wrapper)[0])
        spare_pairs = block.payload
        externref_aligned_free(block)
        PyObject_GC_Del(wrapper)
    while spare_wrappers != NULL:
        wrapper = spare_wrappers
        spare_wrappers = <PyObject *>data_slot(wrapper)[0]
        PyObject_GC_Del(wrapper)
    while spare_blocks != NULL:
        block = spare_blocks
        spare_blocks = <PythonBlock *>block.payload
        externref_aligned_free(block)
    spare_pair_count = spare_wrapper_count = spare_block_count = 0


gc.callbacks.append(free_spares)


@atexit.register
def close_pending():
    # From here on compiled code may still drop references, but nobody is asked to drain.
    run_drain()
    pending_close()
