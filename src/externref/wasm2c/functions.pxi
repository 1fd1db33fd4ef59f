# Functions: Func, which Python calls, and HostFunc, which compiled code calls.
#
# A part of _runtime.pyx.

cdef extern from "wasm2c/enter.h":
    void leave(int) noexcept
    void trap(int, int) noexcept
    int go_on(Wasm2cState *, const char *) noexcept
    int call_host(void *, uint64_t *) noexcept
    void allocate_memory(Wasm2cMemory *, uint64_t, uint64_t, int, uint32_t) noexcept
    uint64_t grow_memory(Wasm2cMemory *, uint64_t) noexcept
    void free_memory(Wasm2cMemory *) noexcept
    void allocate_table(Wasm2cTable *, uint32_t, uint32_t, size_t) noexcept
    uint32_t grow_table(Wasm2cTable *, uint32_t, const void *, size_t) noexcept
    void free_table(Wasm2cTable *) noexcept
    int (*call_host_function)(void *, uint64_t *) noexcept

cdef enum:
    INLINE_SLOTS = 16       # that a call has on the C stack; more are allocated


cdef object get_results(Store store, Signature signature, uint64_t *slots, bint as_refs):
    if signature.result_count == 0:
        return None
    if signature.result_count > 1:
        return get_values(store, signature.results, slots, as_refs)
    return get_value(store, signature.results[0], slots, as_refs)

cdef PyObject *(*get_results_or_fail)(Store, Signature, uint64_t *, bint) noexcept     # as refuse_store_later()
get_results_or_fail = <PyObject *(*)(Store, Signature, uint64_t *, bint) noexcept>get_results


@cython.final
@cython.no_gc_clear     # so that no method meets a half-cleared object; the dict of exports breaks cycles
cdef class Func:
    """A WebAssembly function: call it with Python values.

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
    cdef vectorcallfunc vectorcall      # CPython finds it by tp_vectorcall_offset
    cdef Signature signature
    cdef readonly Store store
    """The Store that it is of."""
    cdef readonly Instance instance
    """The Instance it runs in, which it keeps alive."""
    cdef Wasm2cFuncref ref
    cdef public bint release_gil
    """Whether calls let the GIL go while compiled code runs, so that other threads go on: those with a store of
    their own run theirs at the same time. At first as instantiate() was told. Host functions have the GIL."""
    cdef readonly str name
    """The name it is exported under; "funcref" if it came as a value."""
    cdef object __weakref__

    def __cinit__(self, *maker):
        require_maker(maker, MAKER, "a Func comes from an instance's exports")

    @property
    def type(self):
        """Its FuncType: params and results, tuples of names of value types."""
        return self.signature.type

    @property
    def __name__(self):
        return self.name

    __signature__ = FuncSignature()

    cdef object new_signature(self):
        self = self     # own it: see _python.pxd
        # Parameters have the names that the module has for them, if any.
        return self.instance.code.signature_at(<uintptr_t>self.ref.code, self.type)

    def __call__(self, *args):
        self = self     # own it: see _python.pxd
        return self.invoke(items_of(args), len(args), False)

    def refs(self, *args):
        """As a call, but resulting externrefs come back as VMExternRef, None for null."""
        self = self     # own it: see _python.pxd
        return self.invoke(items_of(args), len(args), True)

    def __repr__(self):
        return shown_item(self)

    cdef object invoke(self, PyObject *const *args, Py_ssize_t nargs, bint as_refs):
        cdef uint64_t[INLINE_SLOTS] inline_slots
        cdef uint64_t *slots
        if is_called_by_none():
            return self.invoke_in_frame(args, nargs, as_refs)
        if self.signature.slot_count <= INLINE_SLOTS:
            return self.invoke_with(inline_slots, args, nargs, as_refs)
        slots = <uint64_t *>malloc(self.signature.slot_count * sizeof(uint64_t))
        if slots == NULL:
            raise MemoryError("no memory for the arguments")
        try:
            return self.invoke_with(slots, args, nargs, as_refs)
        finally:
            free(slots)

    cdef object invoke_in_frame(self, PyObject *const *args, Py_ssize_t nargs, bint as_refs):
        cdef PyObject **owned = own_all(args, nargs)
        try:
            return in_frame(self.refs if as_refs else self, *[<object>owned[i] for i in range(nargs)])
        finally:
            let_all_go(owned, nargs)

    cdef object invoke_with(self, uint64_t *slots, PyObject *const *args, Py_ssize_t nargs, bint as_refs):
        cdef Store store = self.store
        cdef Signature signature = self.signature
        cdef PyObject *result = NULL
        cdef Section section
        cdef Trapped trapped
        cdef bint is_full = False
        cdef int failed, reason = 0
        if nargs != signature.param_count:
            refuse_count(self, nargs)
        convert_values(store, signature.params, signature.ref_params, args, slots, self, False)
        section_begin(&section, <PyObject *>store.activations)
        failed = store.adopt(slots, signature.params, signature.ref_params)
        if failed == 0:
            reason = store.run(&section, signature.call, self.ref.code, self.ref.instance, slots, self.release_gil,
                               &trapped)
            if reason == 0:
                result = get_results_or_fail(store, signature, slots, as_refs)
                is_full = store.is_full()
        section_end(&section)
        if failed != 0:
            give_up(signature.params, slots)
        if reason != 0:
            store.require(reason, &trapped)
        if result == NULL:
            reraise()
        returned = own_reference(result)
        if is_full:
            store.collect_if_it_can()       # the call is over, and may have had effects
        return returned


call_by_vectorcall(Func, <Py_ssize_t>&(<Func>NULL).vectorcall)


cdef Func new_func(Store store, Instance instance, Signature signature, Wasm2cFuncref ref, str name):
    cdef Func self = <Func>make_secretly(Func, MAKER)
    self.vectorcall = func_vectorcall
    self.signature = signature
    self.store = store
    self.instance = instance
    self.ref = ref
    self.name = name
    self.release_gil = instance.release_gil
    return self


@cython.final
cdef class HostFunc:
    """A Python callable that an instance imports; compiled code has its address."""
    cdef object function        # the collector may clear it
    cdef Signature signature
    cdef PyObject *store        # borrowed: the importing Instance keeps it
    cdef str name


cdef int call_python(PyObject *address, uint64_t *slots) except -1:
    # SAFETY: the instance that runs owns the HostFunc and the store.
    cdef HostFunc self = <HostFunc>address
    cdef Store store = <Store>self.store
    cdef Signature signature = self.signature
    cdef Section section
    cdef tuple args
    cdef int failed
    with cython.critical_section(store.activations):
        args = get_values(store, signature.params, slots, False)
    result = self.function(*args)
    args = None
    if signature.result_count == 0:
        return 0
    if signature.result_count == 1:
        convert_value(store, signature.results[0], result, slots, self)
    else:
        args = results_of(result, signature.result_count, f"{self.name}()")
        convert_values(store, signature.results, signature.ref_results, items_of(args), slots, self, True)
    # Once they are the table's nothing runs before compiled code has them.
    result = args = None
    section_begin(&section, <PyObject *>store.activations)
    failed = store.adopt(slots, signature.results, signature.ref_results)
    section_end(&section)
    if failed != 0:
        give_up(signature.results, slots)
    return 0


call_host_function = <int (*)(void *, uint64_t *) noexcept>call_python
host.leave = leave
host.trap = trap
host.call_host = call_host
host.go_on = go_on
host.allocate_memory = allocate_memory
host.grow_memory = grow_memory
host.free_memory = free_memory
host.allocate_table = allocate_table
host.grow_table = grow_table
host.free_table = free_table
