# Stores: what we know of each, who may use it now, and the exceptions that come out of it.
#
# A part of _calls.pyx.

cdef extern from "wasmtime/owner.h":
    ctypedef struct Owner:
        Py_ssize_t depth
    bint owner_is(const Owner *, unsigned long) noexcept
    bint owner_claim(Owner *, unsigned long) noexcept
    void owner_release(Owner *) noexcept
    bint owner_claim_to_close(Owner *) noexcept
    bint owner_closes(const Owner *) noexcept
    void owner_come_out(Owner *, unsigned long) noexcept

cdef extern from "_core/locks.h":
    const bint FREE_THREADED "EXTERNREF_FREE_THREADED"
    # What a thread writes that others read: atomic without a GIL.
    void *slot_load(void **) noexcept
    void slot_store(void **, void *) noexcept
    int flag_load "slot_load"(int *) noexcept
    void flag_store "slot_store"(int *, int) noexcept
    int64_t time_load "slot_load"(int64_t *) noexcept
    void time_store "slot_store"(int64_t *, int64_t) noexcept

cdef extern from "Python.h":
    ctypedef struct PyFrameObject
    PyFrameObject *PyEval_GetFrame() noexcept

cdef class Watch


@cython.final
@cython.no_gc       # so that `states` is not the collector's either; what it refers to is in no cycle once it is closed
cdef class StoreState:
    """What we know of a wasmtime.Store. It is among the `states` until the store is closed; what is bound has it.

    All is read and changed between enter() and leave(), but for who reads `context` first. `store_id`, `store` and
    `watch` are set once, in a critical section, so that others can read them in one."""
    cdef wasmtime_context_t *context    # NULL once the store is closed
    cdef uint64_t store_id              # what its functions, tables and globals carry; 0 until something is bound
    cdef Owner owner                    # the thread that uses it
    cdef bint locked                    # wasmtime is in the middle of something: it runs finalizers, a signal handler
    cdef Watch watch                    # None if it is not interruptible
    cdef object store                   # a weak reference to it; None until something is bound
    cdef object exception               # a host function's, on its way to the call that it ends

    cdef int enter(self) except -1:
        """Begins an operation; every exit must leave(). Nobody can close the store in it."""
        if self.is_closed():
            refuse_closed()
        if not owner_claim(&self.owner, PyThread_get_thread_ident()):
            refuse_thread()
        if FREE_THREADED and self.context == NULL:      # closed before we had it
            self.leave()
            refuse_closed()
        if self.locked:
            self.leave()
            refuse_middle()
        return 0

    cdef int enter_by(self, object pointer) except -1:
        """enter(), of counted_state(): by the pointer to the context that wasmtime-py's store had. Another thread may
        have closed the store since, and a newer one be at its address."""
        cdef void **slot = slot_of(pointer)     # first, since it can fail
        self.enter()
        if slot_load(slot) == NULL:
            self.leave()
            refuse_closed()
        return 0

    cdef void leave(self) noexcept:
        owner_release(&self.owner)

    cdef void come_out(self) noexcept:
        """Compiled code calls us, on this thread; to be ended by leave(). No other may use the store meanwhile."""
        owner_come_out(&self.owner, PyThread_get_thread_ident())

    cdef bint is_closed(self) noexcept:
        return slot_load(<void **>&self.context) == NULL

    cdef void forget_exception(self) noexcept:
        """Before compiled code runs, and when a host function returns: one that is there ended a call that took no
        notice of it."""
        if self.exception is not None:
            self.exception = None

    cdef object take_exception(self):
        """The exception of ours that may have ended a call which failed: for raise_ours()."""
        raised = self.exception
        self.exception = None
        return raised

    cdef object exception_of_outer(self):
        """Taken out as an operation begins, and to be put back before its leave(): this may be a finalizer, between the
        failure of a call that goes on around it and the place that raises the exception."""
        return self.take_exception() if self.owner.depth > 1 else None

    cdef object known_store(self):
        """The weak reference to it, for any thread."""
        with cython.critical_section(self):
            return self.store

    cdef Watch known_watch(self):
        with cython.critical_section(self):
            return self.watch

    cdef object living_store(self):
        """The store itself."""
        reference = self.known_store()
        store = None if reference is None else reference()
        if store is None:
            raise RuntimeError("the store is being collected")
        return store


cdef int raise_ours(object raised, str text) except -1:
    """Raises the exception that ended a call, which failed with this text, if one of ours did."""
    # The names of functions, which are the guest's, come before the cause.
    if raised is not None and text.rstrip().endswith(HOST_TEXT):
        raise raised
    return 0


# Those of open stores, by address_of() the store. It is no attribute of the store's: nobody else can change it.
cdef dict states = hidden({})

# Under these names wasmtime-py has the store's pointers in its dictionary: None once it is closed.
cdef str POINTER_ATTRIBUTE = "_Managed__ptr"
cdef str CONTEXT_ATTRIBUTE = "_Store__context"

# Functions that are called with what address_of() was, of each store that is to be deleted: what they return is kept
# until that was done.
closing = []


def close_store(store, pointer, /):
    """Deletes a store, by the pointer to it; nothing if that was done.

    It is closed for everybody before that begins, which runs finalizers and lets other threads run.
    Raises RuntimeError if something runs in it, which would go on in freed memory.
    """
    cdef dict attributes
    cdef void *address
    cdef void **context_slot = NULL
    cdef StoreState state = None
    cdef bint closes
    cdef list kept = []     # for finalizers to run when the store is gone, and no newer one can have its address before
    if wasmtime is None:
        return      # at exit, modules are cleared: the deletion might call back into wasmtime-py, which was next
    attributes = PyObject_GenericGetDict(store, NULL)       # its own, whatever its class says
    address = address_in(pointer)
    # No Python code runs until it is marked as closed.
    while True:
        state, number = None, None
        context = get_from(attributes, CONTEXT_ATTRIBUTE)
        if context is None:     # an interrupt came before it was there
            break
        context_slot = slot_of(context)
        number = <uintptr_t>slot_load(context_slot)
        if number == 0:
            return      # another thread does it
        state = counted_state(number)
        if owner_claim_to_close(&state.owner):
            break
        closes = owner_closes(&state.owner)     # before: who closes it may be done meanwhile
        if state.is_closed():
            return
        if not closes:
            refuse_close() if owner_is(&state.owner, PyThread_get_thread_ident()) else refuse_thread()
        let_others_run()    # who does it, or finds out that it was done
    # Taken out, which is atomic, for that store which nobody can own.
    done = attributes.pop(POINTER_ATTRIBUTE, None) is not pointer
    attributes[POINTER_ATTRIBUTE] = attributes[CONTEXT_ATTRIBUTE] = None
    if state is not None:
        if not done:
            slot_store(context_slot, NULL)      # for who has it already: see enter_by()
            slot_store(<void **>&state.context, NULL)
            states.pop(number, None)
            kept.append(state.take_exception())
        state.leave()
    if done:
        return
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
    pointer = store._context()
    cdef StoreState state = counted_state(context_in(pointer))
    cdef wasmtime_error_t *error
    state.enter_by(pointer)
    # From here on no other code runs.
    state.locked = True
    # Here and not in Python, where the main thread might drain: finalizers may use the store.
    with nogil:
        error = api.context_gc(state.context)
    state.locked = False
    state.leave()
    check(error)


@cython.final
@cython.no_gc
cdef class Use:
    """with Use(pointer): a call into a store that wasmtime-py itself makes, by its pointer to the store's context.
    with Use(pointer, inner) as value: the same round another block, whose value it has.

    An exception of a host function of func()'s, or of a tick, that ends it comes out of the block as it is.
    Raises RuntimeError if another thread uses the store, or if it is in the middle of something; ValueError if it is
    closed.
    """
    cdef StoreState state
    cdef object pointer
    cdef object inner
    cdef object of_outer        # as exception_of_outer() has it
    cdef bint entered
    cdef PyFrameObject *frame   # whose with block it is: an address

    def __cinit__(self, pointer, inner=None, /):
        self.pointer = pointer
        self.inner = inner
        self.state = counted_state(context_in(pointer))

    def __enter__(self):
        cdef PyFrameObject *frame = PyEval_GetFrame()   # first: it allocates
        if frame == NULL:
            raise MemoryError("no memory for the frame of a call")
        if self.entered:
            raise RuntimeError("the call has begun")
        self.frame = frame
        # Nothing is made and no Python code runs from here on: no interrupt comes between.
        self.state.enter_by(self.pointer)
        self.entered = True
        self.of_outer = self.state.exception_of_outer()
        self.state.forget_exception()
        if self.inner is None:
            return self
        # Not by a generator round both: an interrupt between its end and the caller's block keeps it, and the store in
        # use, for as long as somebody has the traceback.
        try:
            return self.inner.__enter__()
        except BaseException:
            self.end()
            raise

    def raise_exception(self, str text, /):
        """Raises the exception that ended the call, which failed with this text, if one of ours did."""
        raise_ours(self.state.take_exception(), text)

    def __exit__(self, kind, error, traceback):
        if self.entered and PyEval_GetFrame() != self.frame:   # gc.get_objects() has it, and its methods
            raise RuntimeError("the call is not over")
        try:
            if self.inner is not None:
                self.inner.__exit__(kind, error, traceback)
        except BaseException as other:
            self.end_with(other)
            raise
        self.end_with(error)

    cdef int end_with(self, object error) except -1:
        raised = None if error is None else self.state.take_exception()
        self.end()
        if raised is not None and isinstance(error, (wasmtime.WasmtimeError, wasmtime.Trap)):
            raise_ours(raised, str(error))
        return 0

    def __dealloc__(self):
        self.end()      # an interrupt came before the block began

    cdef void end(self) noexcept:
        if self.entered:
            self.entered = False
            if self.of_outer is not None:
                self.state.exception, self.of_outer = self.of_outer, None
            self.state.leave()


def address_of(store, /):
    """What a wasmtime.Store and the StoreContexts and Callers of its host functions have in common, an int: the
    address of the context. ValueError as wasmtime-py raises it."""
    return context_in(store._context())


cdef object context_in(object pointer):
    """address_of() a store, by wasmtime-py's pointer to its context."""
    cdef void *context = NULL
    if pointer is not None:     # as it is if another thread closes the store while wasmtime-py asks for it
        context = slot_load(slot_of(pointer))
    if context == NULL:
        refuse_closed()         # by another thread, since somebody asked for the pointer
    return <uintptr_t>context


cdef StoreState counted_state(object address):
    """The state of a store, by address_of() it, made when it is first seen."""
    cdef StoreState state = get_from(states, address)
    cdef StoreState made
    if state is None:
        made = StoreState.__new__(StoreState)
        made.context = <wasmtime_context_t *><uintptr_t>address
        # Another thread, or code that has run meanwhile, may have done the same. One that nobody uses in the end, since
        # the store was closed, stays for the next at its address.
        state = states.setdefault(address, made)
    return state


cdef int require_store(object store) except -1:
    if not isinstance(store, wasmtime.Store):
        raise TypeError(f"expected a wasmtime.Store, not {type(store).__name__}")
    return 0


cdef StoreState state_of(object store):
    """The state of a store in which something is to be bound."""
    cdef StoreState state
    require_store(store)
    pointer = store._context()      # ValueError if closed
    state = counted_state(context_in(pointer))
    if state.known_store() is None:
        know_store(state, pointer, store)
    # Not that of a newer store at the same address, or a copy of the store's.
    if state.known_store()() is not store:
        refuse_closed()
    return state


# What patches.py changes in wasmtime-py: tuples (owner, name, value).
cdef list changes = hidden([])


def install(list given, /):
    """For patches.py: makes these changes in wasmtime-py, tuples (owner, name, value), and again when a store is first
    bound."""
    changes[:] = given
    keep_changes()


cdef int keep_changes() except -1:
    """Somebody may have put back what was there, as a test does that began before the import."""
    for owner, name, value in changes:
        if getattr(owner, name, None) is not value:
            setattr(owner, name, value)
    return 0


cdef int know_store(StoreState state, object pointer, object store) except -1:
    """Finds out the store's id. There is no function that tells; its items carry it."""
    cdef wasmtime_func_t probe
    cdef wasm_functype_t *type_address
    keep_changes()
    # The type is a new one: once used it belongs to an engine, and aborts in a store of another.
    function_type = wasmtime.FuncType([], [])
    reference = weakref.ref(store)
    store.__dict__      # CPython makes it: made when a collection closes the store, it would keep all in it to the next
    type_address = <wasm_functype_t *>address_in(function_type._consume())
    try:
        state.enter_by(pointer)
        if state.store is None:
            api.func_new_unchecked(state.context, type_address, probe_callback, NULL, NULL, &probe)
            with cython.critical_section(state):
                state.store_id = probe.store_id
                state.store = reference
        state.leave()
    finally:
        api.functype_delete(type_address)
    return 0


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
    raised = state.take_exception()     # first: what follows can fail
    failure = exception_of(error, trap)
    text = str(failure)
    raise_ours(raised, text)
    if text.rstrip().endswith(THEIR_TEXT):
        wasmtime_func_module.maybe_raise_last_exn()
    raise failure


cdef int check(wasmtime_error_t *error) except -1:
    if error != NULL:
        raise exception_of(error, NULL)
    return 0
