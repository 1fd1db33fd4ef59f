# Stores: what we know of each, who may use it now, and the exceptions that come out of it.
#
# A part of _calls.pyx.

cdef class Watch


@cython.final
cdef class StoreState:
    """What we know of a wasmtime.Store. The store holds it, and so does all that is bound."""
    cdef wasmtime_context_t *context    # NULL once the store is closed
    cdef uint64_t store_id              # what its functions, tables and globals carry
    cdef Py_ssize_t depth               # operations in progress, one inside another
    cdef unsigned long thread           # whose they are
    cdef bint locked                    # wasmtime is in the middle of something: it runs finalizers, a signal handler
    cdef Watch watch                    # None if it is not interruptible
    cdef object store                   # a weak reference to it
    cdef object exception               # a host function's, on its way to the call that it ends

    cdef int enter(self) except -1:
        """Begins an operation; every exit must leave(). Nobody can close the store in it."""
        cdef unsigned long thread = PyThread_get_thread_ident()
        if self.context == NULL:
            refuse_closed()
        if self.depth != 0 and self.thread != thread:
            refuse_thread()
        if self.locked:
            refuse_middle()
        self.thread = thread
        self.depth += 1
        return 0

    cdef void leave(self) noexcept:
        self.depth -= 1
        if self.depth == 0 and self.exception is not None:
            self.exception = None

    cdef object living_store(self):
        """The store itself."""
        store = self.store()
        if store is None:
            raise RuntimeError("the store is being collected")
        return store


# Under these names the store's own dictionary keeps it, and that the store is closed.
cdef str STATE_ATTRIBUTE = "_externref_state"
cdef str CLOSED_ATTRIBUTE = "_externref_closed"


def begin_close(dict attributes, /):
    """Called before a store is deleted, with its dictionary: nothing bound reaches it from here on. Whether it is to
    be deleted: not if that is done, or being done.

    Raises RuntimeError if an operation is in progress, which would go on in freed memory.
    """
    # No Python code runs in here, nor another thread.
    cdef StoreState state = attributes.get(STATE_ATTRIBUTE)
    if state is not None:
        if state.depth != 0 and state.thread != PyThread_get_thread_ident():
            refuse_thread()
        if state.depth != 0:
            refuse_close()
        state.context = NULL
    if CLOSED_ATTRIBUTE in attributes:
        return False
    attributes[CLOSED_ATTRIBUTE] = True
    return True


def address_of(store, /):
    """What a wasmtime.Store and the StoreContexts and Callers of its host functions have in common, an int: the
    address of the context. ValueError as wasmtime-py raises it."""
    return <uintptr_t>address_in(store._context())


cdef StoreState state_of(object store):
    """The state of a store, made when it is first seen."""
    cdef StoreState state
    cdef wasmtime_func_t probe
    if not isinstance(store, wasmtime.Store):
        raise TypeError(f"expected a wasmtime.Store, not {type(store).__name__}")
    cdef dict attributes
    cdef wasm_functype_t *type_address
    context = store._context()      # ValueError if closed
    attributes = store.__dict__
    found = attributes.get(STATE_ATTRIBUTE)
    if found is not None:
        return found
    state = StoreState.__new__(StoreState)
    state.store = weakref.ref(store)
    # There is no function that tells a store's id; its items carry it. The type is a new one: once
    # used it belongs to an engine, and aborts in a store of another.
    function_type = wasmtime.FuncType([], [])
    type_address = <wasm_functype_t *>address_in(function_type.ptr())
    state.context = <wasmtime_context_t *>address_in(context)
    # Up to here other code has run, which may have done the same, or closed the store; from here on none does.
    found = attributes.get(STATE_ATTRIBUTE)
    if found is not None:
        return found
    if CLOSED_ATTRIBUTE in attributes:
        refuse_closed()
    api.func_new_unchecked(state.context, type_address, probe_callback, NULL, NULL, &probe)
    state.store_id = probe.store_id
    attributes[STATE_ATTRIBUTE] = state
    return state


cdef wasm_trap_t *probe_callback(
        void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *raws, size_t count) noexcept nogil:
    """Never called: nobody gets the function."""
    return NULL


cdef int require_same_store(StoreState state, uint64_t store_id) except -1:
    # wasmtime aborts the process when it is given what belongs to another store.
    if store_id != state.store_id:
        raise ValueError("it belongs to another store")
    return 0


cdef int require_same_state(StoreState state, StoreState other) except -1:
    return require_same_store(state, other.store_id)


# --- Failures -----------------------------------------------------------------------

# A trap of ours is told from wasmtime-py's "python exception" by its text.
cdef bytes HOST_TRAP = b"Python exception in a host function of externref.wasmtime"


cdef object exception_of(wasmtime_error_t *error, wasm_trap_t *trap):
    """wasmtime-py's exception, which owns the error or trap: a WasmtimeError, ExitTrap or Trap."""
    if error != NULL:
        return wasmtime.WasmtimeError._from_ptr(
            ctypes.cast(<uintptr_t>error, ctypes.POINTER(ffi.wasmtime_error_t)))
    return wasmtime.Trap._from_ptr(ctypes.cast(<uintptr_t>trap, ctypes.POINTER(ffi.wasm_trap_t)))


cdef int raise_failure(StoreState state, wasmtime_error_t *error, wasm_trap_t *trap) except -1:
    """Raises what ended a call: the exception of a host function, ours or wasmtime-py's, as it is."""
    failure = exception_of(error, trap)
    raised = state.exception
    if raised is not None and HOST_TRAP.decode() in str(failure):
        state.exception = None
        if wasmtime_func_module.LAST_EXCEPTION is raised:
            wasmtime_func_module.LAST_EXCEPTION = None
        raise raised
    wasmtime_func_module.maybe_raise_last_exn()
    raise failure


cdef void end_by(StoreState state, object exception, bint called_by_us) noexcept:
    """Says what ends compiled code by a failure of ours: the innermost of the calls that this may end is ours, or
    wasmtime-py's."""
    if called_by_us:
        state.exception = exception
    wasmtime_func_module.LAST_EXCEPTION = exception


cdef int check(wasmtime_error_t *error) except -1:
    if error != NULL:
        raise exception_of(error, NULL)
    return 0
