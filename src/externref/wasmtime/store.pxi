# Stores: what we know of each, who may use it now, and the exceptions that come out of it.
#
# A part of _calls.pyx.

cdef class Watch


@cython.final
cdef class StoreState:
    """What we know of a wasmtime.Store. It is among the `states` until the store is closed; what is bound has it."""
    cdef wasmtime_context_t *context    # NULL once the store is closed
    cdef uint64_t store_id              # what its functions, tables and globals carry; 0 until something is bound
    cdef Py_ssize_t depth               # operations in progress, one inside another
    cdef unsigned long thread           # whose they are
    cdef bint locked                    # wasmtime is in the middle of something: it runs finalizers, a signal handler
    cdef Watch watch                    # None if it is not interruptible
    cdef object store                   # a weak reference to it; None until something is bound
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

    cdef void come_out(self) noexcept:
        """Compiled code calls us, on this thread; to be ended by leave(). No other may use the store meanwhile."""
        self.thread = PyThread_get_thread_ident()
        self.depth += 1

    cdef void forget_exception(self) noexcept:
        """Before compiled code runs, and when a host function returns: one that is there ended a call that took no
        notice of it."""
        if self.exception is not None:
            self.exception = None

    cdef int raise_exception(self, str text) except -1:
        """Raises the exception that ended a call, which failed with this text, if one of ours did."""
        raised = self.exception
        self.exception = None
        # The names of functions, which are the guest's, come before the cause.
        if raised is not None and text.rstrip().endswith(HOST_TEXT):
            raise raised
        return 0
    cdef object living_store(self):
        """The store itself."""
        store = None if self.store is None else self.store()
        if store is None:
            raise RuntimeError("the store is being collected")
        return store


# Those of open stores, by address_of() the store. It is no attribute of the store's: nobody else can change it.
cdef dict states = {}

# Under these names wasmtime-py has the store's pointers in its dictionary: None once it is closed.
cdef str POINTER_ATTRIBUTE = "_Managed__ptr"
cdef str CONTEXT_ATTRIBUTE = "_Store__context"

# Functions that are called with what address_of() was, of each store that is to be deleted: what they return is kept
# until that was done.
closing = []


def close_store(dict attributes, pointer, /):
    """Deletes a store, by its dictionary and the pointer to it; nothing if that was done.

    It is closed for everybody before that begins, which runs finalizers and lets other threads run.
    Raises RuntimeError if something runs in it, which would go on in freed memory.
    """
    cdef void *address
    cdef StoreState state
    cdef list kept = []     # for finalizers to run when the store is gone, and no newer one can have its address before
    if wasmtime is None:
        return      # at exit, modules are cleared: the deletion might call back into wasmtime-py, which was next
    address = address_in(pointer)
    context = attributes.get(CONTEXT_ATTRIBUTE)
    number = None if context is None else <uintptr_t>address_in(context)
    # No Python code runs until it is marked as closed, nor another thread.
    state = states.get(number)
    if state is not None and state.depth != 0 and state.thread != PyThread_get_thread_ident():
        refuse_thread()
    if state is not None and state.depth != 0:
        refuse_close()
    if attributes.get(POINTER_ATTRIBUTE) is None:
        return
    attributes[POINTER_ATTRIBUTE] = attributes[CONTEXT_ATTRIBUTE] = None
    if state is not None:
        state.context = NULL
        del states[number]
    try:
        for function in closing:
            kept.append(function(number))
    finally:
        with nogil:
            api.store_delete(address)


def collect(store, /):
    """Store.gc(). Nothing may use the store meanwhile.

    Raises RuntimeError if another thread uses it, or if it is in the middle of something; WasmtimeError.
    """
    cdef StoreState state = counted_state(address_of(store))
    cdef wasmtime_error_t *error
    require_open(store)
    # From here on no other code runs.
    state.enter()
    state.locked = True
    # Here and not in Python, where the main thread might drain: finalizers may use the store.
    with nogil:
        error = api.context_gc(state.context)
    state.locked = False
    state.leave()
    check(error)


@cython.final
@cython.no_gc_clear
cdef class Use:
    """with Use(address): a call into a store that wasmtime-py itself makes, by address_of() the store.

    An exception of a host function of func()'s, or of a tick, that ends it comes out of the block as it is.
    Raises RuntimeError if another thread uses the store, or if it is in the middle of something.
    """
    cdef StoreState state
    cdef bint entered

    def __cinit__(self, address, /):
        self.state = counted_state(address)

    def __enter__(self):
        # Nothing is made and no Python code runs from here on: no interrupt comes between.
        self.state.enter()
        self.entered = True
        self.state.forget_exception()
        return self

    def raise_exception(self, str text, /):
        """Raises the exception that ended the call, which failed with this text, if one of ours did."""
        self.state.raise_exception(text)

    def __exit__(self, kind, error, traceback):
        self.end()
        if error is not None:
            self.state.raise_exception(str(error))

    def __dealloc__(self):
        self.end()      # an interrupt came before the block began

    cdef void end(self) noexcept:
        if self.entered:
            self.entered = False
            self.state.leave()


def address_of(store, /):
    """What a wasmtime.Store and the StoreContexts and Callers of its host functions have in common, an int: the
    address of the context. ValueError as wasmtime-py raises it."""
    return <uintptr_t>address_in(store._context())


def pointed_at(pointer, /):
    """address_of() a store, of wasmtime-py's pointer to its context."""
    return <uintptr_t>address_in(pointer)


cdef bint is_open(object store) except -1:
    return (<dict>store.__dict__).get(POINTER_ATTRIBUTE) is not None


cdef int require_open(object store) except -1:
    if not is_open(store):
        refuse_closed()
    return 0


cdef StoreState counted_state(object address):
    """The state of a store, by address_of() it, made when it is first seen."""
    cdef StoreState state = states.get(address)
    cdef StoreState made
    if state is None:
        made = StoreState.__new__(StoreState)
        made.context = <wasmtime_context_t *><uintptr_t>address
        state = states.setdefault(address, made)    # to make one may have run code that did the same
        hidden(states)      # again: a dict is collected from when it is given what is
    return state


cdef StoreState state_of(object store):
    """The state of a store in which something is to be bound."""
    cdef StoreState state
    cdef wasmtime_func_t probe
    cdef wasm_functype_t *type_address
    if not isinstance(store, wasmtime.Store):
        raise TypeError(f"expected a wasmtime.Store, not {type(store).__name__}")
    state = counted_state(address_of(store))    # ValueError if closed
    if state.store is None:
        # There is no function that tells a store's id; its items carry it. The type is a new one: once
        # used it belongs to an engine, and aborts in a store of another.
        function_type = wasmtime.FuncType([], [])
        reference = weakref.ref(store)
        type_address = <wasm_functype_t *>address_in(function_type._consume())
        # Up to here other code has run, which may have done the same, or closed the store; from here on none does.
        if state.store is None and is_open(store):
            api.func_new_unchecked(state.context, type_address, probe_callback, NULL, NULL, &probe)
            state.store_id = probe.store_id
            state.store = reference
        api.functype_delete(type_address)
    # Not that of a newer store at the same address, or a copy of the store's.
    if state.store is None or state.store() is not store:
        refuse_closed()
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

# What the text of a trap of ours ends with, and of wasmtime-py's.
cdef const char *HOST_TRAP = b"Python exception in a host function of externref.wasmtime"
cdef size_t HOST_TRAP_LENGTH = strlen(HOST_TRAP)
cdef str HOST_TEXT = (<bytes>HOST_TRAP).decode()
cdef str THEIR_TEXT = "python exception"


cdef object exception_of(wasmtime_error_t *error, wasm_trap_t *trap):
    """wasmtime-py's exception, which owns the error or trap: a WasmtimeError, ExitTrap or Trap."""
    if error != NULL:
        return wasmtime.WasmtimeError._from_ptr(
            ctypes.cast(<uintptr_t>error, ctypes.POINTER(ffi.wasmtime_error_t)))
    return wasmtime.Trap._from_ptr(ctypes.cast(<uintptr_t>trap, ctypes.POINTER(ffi.wasm_trap_t)))


cdef int raise_failure(StoreState state, wasmtime_error_t *error, wasm_trap_t *trap) except -1:
    """Raises what ended a bound call: the exception of a host function, ours or wasmtime-py's, as it is."""
    failure = exception_of(error, trap)
    text = str(failure)
    state.raise_exception(text)
    if text.rstrip().endswith(THEIR_TEXT):
        wasmtime_func_module.maybe_raise_last_exn()
    raise failure


cdef int check(wasmtime_error_t *error) except -1:
    if error != NULL:
        raise exception_of(error, NULL)
    return 0
