# Stores: what we know of each, who may use it now, and the exceptions that come out of it.
#
# A part of _calls.pyx.

cdef class Watch


@cython.final
cdef class StoreState:
    """What we know of a wasmtime.Store. It is among the `states` until the store is closed; what is bound has it."""
    cdef wasmtime_context_t *context    # NULL once the store is closed
    cdef uint64_t store_id              # what its functions, tables and globals carry
    cdef Py_ssize_t depth               # operations in progress, one inside another
    cdef unsigned long thread           # whose they are
    cdef bint calling                   # what runs is compiled code that a bound call entered, not a host function
    cdef bint locked                    # wasmtime is in the middle of something: it runs finalizers, a signal handler
    cdef Watch watch                    # None if it is not interruptible
    cdef object store                   # a weak reference to it
    cdef object exception               # a host function's, on its way to the bound call that it ends

    cdef int enter(self) except -1:
        """Begins an operation; every exit must leave(). Nobody can close the store in it."""
        cdef unsigned long thread = PyThread_get_thread_ident()
        if self.context == NULL:
            raise ValueError("already closed")      # as wasmtime-py says it
        if self.depth != 0 and self.thread != thread:
            raise RuntimeError("the store is in use on another thread")
        if self.locked:
            raise RuntimeError("the store cannot be used by a finalizer or a signal handler that runs in the middle of "
                               "its work")
        self.thread = thread
        self.depth += 1
        return 0

    cdef void leave(self) noexcept:
        self.depth -= 1

    cdef bint come_out(self) noexcept:
        """Compiled code calls us, on this thread: what go_back() needs, whether a bound call entered that code.

        Also if wasmtime-py did: meanwhile other threads must not use the store."""
        cdef bint called_by_us = self.calling
        self.thread = PyThread_get_thread_ident()
        self.depth += 1
        self.calling = False
        return called_by_us

    cdef void go_back(self, bint called_by_us) noexcept:
        self.calling = called_by_us
        self.depth -= 1


# Those of open stores, by address_of() the store. It is no attribute of the store's: nobody else can change it.
cdef dict states = {}

# Under these names wasmtime-py has the store's pointers in its dictionary: None once it is closed.
cdef str POINTER_ATTRIBUTE = "_Managed__ptr"
cdef str CONTEXT_ATTRIBUTE = "_Store__context"

after_close = []        # functions that are called with what address_of() was, of each store that was deleted


def close_store(dict attributes, pointer, /):
    """Deletes a store, by its dictionary and the pointer to it; nothing if that was done.

    It is closed for everybody before that begins, which runs finalizers and lets other threads run.
    Raises RuntimeError if something runs in it, which would go on in freed memory.
    """
    cdef void *address = address_in(pointer)
    cdef StoreState state
    context = attributes.get(CONTEXT_ATTRIBUTE)
    number = None if context is None else <uintptr_t>address_in(context)
    # No Python code runs from here to the end of the deletion, nor another thread until it begins.
    state = states.get(number)
    if state is not None and state.depth != 0:
        raise RuntimeError("the store is in use, it cannot be closed")
    if attributes.get(POINTER_ATTRIBUTE) is None:
        return
    attributes[POINTER_ATTRIBUTE] = attributes[CONTEXT_ATTRIBUTE] = None
    if state is not None:
        state.context = NULL
        del states[number]
    with nogil:
        api.store_delete(address)
    for function in after_close:
        function(number)


cdef StoreState known_state(object store):
    """The state of a store, or of a Caller of wasmtime-py's; None if nothing was bound in it. ValueError if closed."""
    return states.get(address_of(store))


def collect(store, /):
    """Store.gc(), if anything was bound in the store: whether it was. Nothing may use the store meanwhile.

    Raises RuntimeError if another thread uses it, or if it is in the middle of something; WasmtimeError.
    """
    cdef StoreState state = known_state(store)
    cdef wasmtime_error_t *error
    if state is None:
        return False
    state.enter()
    state.locked = True
    # Here and not in Python, where the main thread might drain: finalizers may use the store.
    with nogil:
        error = api.context_gc(state.context)
    state.locked = False
    state.leave()
    check(error)
    return True


def begin_use(store, /):
    """Called before wasmtime-py itself uses a store, or that of a Caller of its own: what to end it with, by end_use().

    Raises RuntimeError if another thread uses the store, or if it is in the middle of something.
    """
    cdef StoreState state = known_state(store)
    if state is None:
        return None
    state.enter()
    before = state.calling
    state.calling = False
    return state, before


def end_use(token, /):
    cdef StoreState state
    if token is not None:
        state, before = token
        state.calling = before
        state.leave()


def address_of(store, /):
    """What a wasmtime.Store and the StoreContexts and Callers of its host functions have in common, an int: the
    address of the context. ValueError as wasmtime-py raises it."""
    return <uintptr_t>address_in(store._context())


cdef StoreState state_of(object store):
    """The state of a store, made when it is first seen."""
    cdef StoreState state
    cdef wasmtime_func_t probe
    cdef wasm_functype_t *type_address
    if not isinstance(store, wasmtime.Store):
        raise TypeError(f"expected a wasmtime.Store, not {type(store).__name__}")
    address = address_of(store)     # ValueError if closed
    state = states.get(address)
    if state is not None:
        return require_store(state, store)
    state = StoreState.__new__(StoreState)
    state.store = weakref.ref(store)
    # There is no function that tells a store's id; its items carry it. The type is a new one: once
    # used it belongs to an engine, and aborts in a store of another.
    function_type = wasmtime.FuncType([], [])
    type_address = <wasm_functype_t *>address_in(function_type._consume())
    state.context = <wasmtime_context_t *><uintptr_t>address
    # Up to here other code has run, which may have done the same, or closed the store; from here on none does.
    found = states.get(address)
    if found is None and (<dict>store.__dict__).get(POINTER_ATTRIBUTE) is not None:
        api.func_new_unchecked(state.context, type_address, probe_callback, NULL, NULL, &probe)
        state.store_id = probe.store_id
        states[address] = found = state
    api.functype_delete(type_address)
    return require_store(found, store)


cdef StoreState require_store(StoreState state, object store):
    """The state, if it is this store's, and not that of a newer one at the same address."""
    if state is None or state.store() is not store:
        raise ValueError("already closed")
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

# The text of our traps. Who sees it called by other means than a bound call.
cdef const char *HOST_TRAP = b"Python exception in a host function of externref.wasmtime"
cdef size_t HOST_TRAP_LENGTH = strlen(HOST_TRAP)

# The text that wasmtime-py's traps end with: it comes after the names of functions, which are the guest's.
cdef str THEIR_TRAP = "python exception"

cdef object their_functions = wasmtime_func_module      # also when this module's names are gone, as at exit


cdef object exception_of(wasmtime_error_t *error, wasm_trap_t *trap):
    """wasmtime-py's exception, which owns the error or trap: a WasmtimeError, ExitTrap or Trap."""
    if error != NULL:
        return wasmtime.WasmtimeError._from_ptr(
            ctypes.cast(<uintptr_t>error, ctypes.POINTER(ffi.wasmtime_error_t)))
    return wasmtime.Trap._from_ptr(ctypes.cast(<uintptr_t>trap, ctypes.POINTER(ffi.wasm_trap_t)))


cdef int raise_failure(StoreState state, wasmtime_error_t *error, wasm_trap_t *trap) except -1:
    """Raises what ended a bound call: the exception of a host function, ours or wasmtime-py's, as it is."""
    raised = state.exception
    if raised is not None:
        state.exception = None
        if error != NULL:
            api.error_delete(error)
        else:
            api.trap_delete(trap)
        raise raised
    failure = exception_of(error, trap)
    if str(failure).rstrip().endswith(THEIR_TRAP):
        their_functions.maybe_raise_last_exn()
    raise failure


cdef void end_by(StoreState state, object exception, bint called_by_us) noexcept:
    """Says what ends the innermost call, which is a bound one, or wasmtime-py's."""
    if called_by_us:
        state.exception = exception
    else:
        their_functions.LAST_EXCEPTION = exception


cdef int check(wasmtime_error_t *error) except -1:
    if error != NULL:
        raise exception_of(error, NULL)
    return 0
