# Wrappers: the slots of VMExternRef's type, and the dead ones that are kept for the next reference.
#
# A part of _core.pyx. It is written in PyObject *: Cython's own counting of objects took some 30
# instructions more a reference, a tenth.

cdef extern from "Python.h":
    PyObject *Py_NewRef(PyObject *) noexcept
    PyObject *Py_True
    PyObject *Py_False
    Py_ssize_t Py_REFCNT(PyObject *) noexcept
    void Py_SET_TYPE(PyObject *, PyTypeObject *) noexcept
    bint PyType_IS_GC(PyTypeObject *) noexcept
    PyObject *PyTuple_GET_ITEM(PyObject *, Py_ssize_t) noexcept
    Py_ssize_t PyDict_GET_SIZE(PyObject *) noexcept
    void PyObject_ClearWeakRefs(PyObject *) noexcept

cdef extern from "_core/wrapper.h":
    PyObject *wrapper_alloc(PyTypeObject *) noexcept
    void wrapper_dispose(PyObject *) noexcept
    void wrapper_trim() noexcept
    void wrapper_collected() noexcept
    void wrapper_track(PyObject *) noexcept
    void wrapper_untrack(PyObject *) noexcept
    PyObject **wrapper_weak_references(PyObject *) noexcept
    bint wrapper_fits(PyTypeObject *) noexcept

cdef extern from *:
    """
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
    """
    void revive(PyObject *) noexcept

# The dead, for the next reference to be made (GIL; without one none are kept): wrappers that owned their blocks
# alone and keep them, the footers being right already for the next value, linked through the blocks'
# payloads. Without them make+drop takes 525 instructions in place of 472, and 1.15 of the time (callgrind and timeit,
# Debian's 3.11).
cdef PyObject *spare_pairs = NULL
cdef int spare_pair_count = 0


cdef inline void **data_slot(PyObject *self) noexcept:
    """&self._data of an object whose reference count must not be touched: it may be 0."""
    return &(<VMExternRef>self)._data


cdef inline PyObject *new_wrapper() except NULL:
    """A new reference to a spent wrapper, not yet tracked by the collector.

    May run arbitrary code, because allocation can collect garbage: a caller looks at a
    block's counts only after it.
    """
    cdef PyObject *self = wrapper_alloc(<PyTypeObject *>VMExternRef)
    if self == NULL:
        refuse(NO_BLOCK, NULL)
    return self


cdef inline void attach(PyObject *self, VMExternData *data) noexcept:
    """Gives a spent wrapper the handle and count already made for it in `data`."""
    cdef PyObject *payload = payload_of(data)
    data_slot(self)[0] = data
    # A payload that the collector cannot look into is in no cycle that it could find.
    if payload != NULL and PyType_IS_GC(Py_TYPE(payload)):
        wrapper_track(self)


cdef inline PyObject *new_ref(PyObject *value) except NULL:
    """A wrapper for a new block that owns `value`; a new reference."""
    global spare_pairs, spare_pair_count
    cdef PyObject *self
    cdef PythonBlock *block
    if pending_any():
        return new_pair(value)
    self = spare_pairs
    if self == NULL:
        return new_pair(value)
    block = block_of(<VMExternData *>data_slot(self)[0])
    spare_pairs = block.payload
    spare_pair_count -= 1
    Py_INCREF(value)
    block.payload = value
    live_made()
    live_handles_add(1)
    revive(self)
    attach(self, &block.footer)
    return self


cdef PyObject *new_pair(PyObject *value) except NULL:
    """new_ref's slow path: all is allocated, after a drain, and either may let the caller's `value` go."""
    cdef PyObject *self
    cdef VMExternData *data = NULL
    Py_INCREF(value)
    drain_if_any()
    self = wrapper_alloc(<PyTypeObject *>VMExternRef)
    if self != NULL:
        data = try_new_block(value, 1)
    Py_DECREF(value)
    if data == NULL:
        Py_XDECREF(self)
        refuse(NO_BLOCK, NULL)
    attach(self, data)
    return self


cdef PyObject *wrapper_new(PyTypeObject *cls, PyObject *args, PyObject *kwargs) except NULL:
    if PyTuple_GET_SIZE(args) != 1 or (kwargs != NULL and PyDict_GET_SIZE(kwargs) != 0):
        raise TypeError("VMExternRef() takes exactly one positional argument: the value")
    return new_ref(PyTuple_GET_ITEM(args, 0))


cdef PyObject *wrapper_vectorcall(PyObject *cls, PyObject *const *args, size_t nargsf, PyObject *names) except NULL:
    if PyVectorcall_NARGS(nargsf) != 1 or has_keywords(names):
        raise TypeError("VMExternRef() takes exactly one positional argument: the value")
    return new_ref(args[0])


cdef void wrapper_dealloc(PyObject *self) noexcept:
    cdef VMExternData *data
    cdef PyObject *payload
    wrapper_untrack(self)
    if slot_load(<void **>wrapper_weak_references(self)) != NULL:
        PyObject_ClearWeakRefs(self)    # arbitrary code; after it the payload may be ours alone
    data = <VMExternData *>data_slot(self)[0]
    payload = NULL if data == NULL else payload_of(data)
    # A payload that dies with us may be a reference that boxes another, a million deep.
    if payload != NULL and not is_shared(payload):
        call_in_trashcan(self, wrapper_dealloc, wrapper_free)
    else:
        wrapper_free(self)


cdef void wrapper_free(PyObject *self) noexcept:
    """The end of a wrapper that has no weak references: nothing runs but the release of the payload, last."""
    global spare_pairs, spare_pair_count
    cdef VMExternData *data
    cdef PyObject *payload = NULL
    data = <VMExternData *>data_slot(self)[0]
    if data != NULL:
        if not FREE_THREADED and data.vtable == &python_vtable and data.handles == 1 and is_private(data):
            payload = block_of(data).payload
            # As drop_handle and free_block, but the block may stay, fit for the next value.
            live_freed()
            live_handles_add(-1)
            if data.state & EXTERNREF_STATE_REGISTERED:
                registry_remove(<uintptr_t>data)
                data.state &= ~EXTERNREF_STATE_REGISTERED
            if spare_pair_count < SPARE_LIMIT:
                block_of(data).payload = spare_pairs
                spare_pairs = self
                spare_pair_count += 1
            else:
                block_give(block_of(data))
                wrapper_dispose(self)
            Py_DECREF(payload)
            return
        payload = drop_handle(data)
    wrapper_dispose(self)
    Py_XDECREF(payload)


cdef int wrapper_traverse(PyObject *self, visitproc visit, void *arg) noexcept:
    # Takes no lock: without a GIL the world is stopped, and no thread stops with one.
    cdef VMExternData *data = <VMExternData *>data_slot(self)[0]
    cdef PyObject *payload
    if data == NULL or not is_private(data):
        return 0
    payload = payload_of(data)
    return visit(payload, arg) if payload != NULL else 0


cdef int wrapper_clear(PyObject *self) noexcept:
    cdef Section section
    cdef VMExternData *data
    section_begin(&section, self)
    data = <VMExternData *>data_slot(self)[0]
    if data != NULL:
        slot_store(data_slot(self), NULL)
    section_end(&section)
    if data != NULL:
        Py_XDECREF(drop_handle(data))
    return 0


cdef inline bint is_same(PyObject *left, PyObject *right) noexcept:
    """Whether two wrappers are of one allocation; a spent one equals only itself."""
    cdef Section2 section
    cdef bint same
    if left == right:
        return True
    section2_begin(&section, left, right)
    same = data_slot(left)[0] == data_slot(right)[0] and data_slot(left)[0] != NULL
    section2_end(&section)
    return same


cdef PyObject *wrapper_richcompare(PyObject *self, PyObject *other, int op) except NULL:
    """== of two wrappers without Cython's own counting of objects, which took 1.08 of
    object()'s time in place of 0.98; the rest by __richcmp__."""
    if op == Py_EQ and Py_TYPE(other) == Py_TYPE(self):
        return Py_NewRef(Py_True if is_same(self, other) else Py_False)
    return slow_richcompare(self, other, op)


cdef int refuse_moved() except -1:
    raise moved_error("this VMExternRef was moved out by into_raw() or given up by drop(); "
                      "clone() before the move to keep an owner")


cdef inline VMExternData *data_of(VMExternRef self) except NULL:
    """The footer; without a GIL its address alone, but in the wrapper's section."""
    cdef void *data = slot_load(&self._data)
    if data == NULL:
        refuse_moved()
    return <VMExternData *>data


cdef PyObject *clone_ref(VMExternRef self) except NULL:
    """Another wrapper of the same block; a new reference."""
    cdef PyObject *other
    cdef VMExternData *data
    cdef Refusal refusal = hold_ref(<PyObject *>self, False, &data)     # first: what follows can run code
    if refusal != GRANTED:
        refuse(refusal, data)
    drain_if_any()
    other = wrapper_alloc(<PyTypeObject *>VMExternRef)
    if other == NULL:
        Py_XDECREF(drop_handle(data))
        refuse(NO_BLOCK, NULL)
    attach(other, data)
    return other


cdef richcmpfunc slow_richcompare     # what Cython made of __richcmp__


@cython.final
@cython.internal
cdef class ReferenceType(type):
    """VMExternRef's own type, which answers ctypes when VMExternRef is to be a restype.

    ctypes would call VMExternRef with a C int, half an address, and box that. It asks for _check_retval_ first;
    as an attribute of VMExternRef itself, dir() would list it, and inspect.getmembers() would end in its error.
    """
    @property
    def _check_retval_(self):
        raise TypeError("VMExternRef cannot be a restype, for which ctypes has a C int and no address: "
                        "use externref.ctypes.moved, or externref.ctypes.lent")


@cython.final
@cython.internal
cdef class ValueDescriptor:
    # What VMExternRef's dict has as "value": the getset descriptor that Cython made, but for a quicker __get__.
    # CPython's own looks at the object and at its fields first: ref.value takes 199 instructions in place of 217, and
    # 0.92 of the time of a weakref's call in place of 0.96 (Debian's 3.11).
    cdef object getset

    def __get__(self, instance, owner):
        self, instance, owner = self, instance, owner   # own them: see _python.pxd
        return self.getset.__get__(instance, owner)

    def __set__(self, instance, value):
        self, instance, value = self, instance, value
        self.getset.__set__(instance, value)

    def __delete__(self, instance):
        self, instance = self, instance
        self.getset.__delete__(instance)

    @property
    def __doc__(self):
        return self.getset.__doc__

    def __getattr__(self, name):
        return getattr(self.getset, name)


cdef descrgetfunc slow_get              # what Cython made of __get__


cdef PyObject *value_get(PyObject *self, PyObject *ref, PyObject *owner) except NULL:
    if ref == NULL or <PyTypeObject *>Py_TYPE(ref) != <PyTypeObject *>VMExternRef:
        return slow_get(self, ref, owner)
    return new_value(<VMExternRef>ref)


cdef int describe_value() except -1:
    global slow_get
    cdef ValueDescriptor descriptor = ValueDescriptor.__new__(ValueDescriptor)
    cdef TypeSlots *slots = <TypeSlots *>ValueDescriptor
    slow_get = slots.tp_descr_get
    slots.tp_descr_get = value_get
    descriptor.getset = VMExternRef.__dict__["value"]
    (<dict><object>(<TypeSlots *>VMExternRef).tp_dict)["value"] = descriptor
    PyType_Modified(<PyTypeObject *>VMExternRef)


cdef int prepare_type() except -1:
    """Makes VMExternRef a collected type with an allocation of its own.

    Cython gives a class whose only field is a void * no place in the cycle collector, and
    its constructor cannot take a wrapper and a block together, so the slots are set here,
    once, before any instance exists.
    """
    global slow_richcompare
    cdef TypeSlots *cls = <TypeSlots *>VMExternRef
    cls.tp_name = "externref.VMExternRef"
    cls.tp_new = wrapper_new
    cls.tp_vectorcall = wrapper_vectorcall
    cls.tp_dealloc = wrapper_dealloc
    slow_richcompare = cls.tp_richcompare
    cls.tp_richcompare = wrapper_richcompare
    make_collected(VMExternRef, wrapper_traverse, wrapper_clear)
    if not wrapper_fits(<PyTypeObject *>VMExternRef):
        raise SystemError("externref was built by a Cython not known to it, by its classes")  # not reached: it is known
    Py_SET_TYPE(<PyObject *>VMExternRef, <PyTypeObject *>ReferenceType)


prepare_type()
describe_value()


cdef void free_spare_pairs() noexcept:
    global spare_pairs, spare_pair_count
    cdef PyObject *wrapper
    cdef PythonBlock *block
    while spare_pairs != NULL:
        wrapper = spare_pairs
        block = block_of(<VMExternData *>data_slot(wrapper)[0])
        spare_pairs = block.payload
        spare_pair_count -= 1
        block_give(block)
        wrapper_dispose(wrapper)


def free_spares(phase, info):
    """Frees what counted for wrappers, at the end of each collection; at that of a full one, when CPython empties its
    own free lists, what is kept for reuse."""
    global spare_records, spare_record_count
    cdef ExternrefHold *record
    if phase != "stop":
        return
    wrapper_collected()
    if info["generation"] != 2:
        return
    free_spare_pairs()
    block_trim()
    wrapper_trim()
    registry_trim()
    while spare_records != NULL:
        record = spare_records
        spare_records = record.next
        free(record)
    spare_record_count = 0


gc.callbacks.append(free_spares)
