# Interrupts: what stops the code that runs in a store that was made interruptible, and lets others run meanwhile.
#
# Wasm code looks at its engine's epoch in every loop and function. A clock (clock.h) counts that up while
# bound calls run, and each time the store's deadline has come, so that at_tick() is called.
#
# A part of _calls.pyx.

cdef extern from "wasmtime/clock.h":
    ctypedef struct Clock:
        void *engine
    ctypedef struct Clocks:
        void (*increment)(void *) noexcept nogil
    Clocks clocks
    int clock_setup() noexcept
    int clock_begin(Clock *) noexcept
    void clock_end(Clock *) noexcept
    void clock_add(Clock *) noexcept
    void clock_remove(Clock *) noexcept
    int64_t monotonic_now() noexcept

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1

cdef int64_t NO_LIMIT = INT64_MAX     # nanoseconds: no limit_of(), and no clock comes to it
cdef uint8_t INTERRUPT = wasmtime.TrapCode.INTERRUPT.value


@cython.final
@cython.internal
cdef class EngineClock:
    """The clock of an engine; the engine holds it, and so does the watch of each interruptible store."""
    cdef Clock clock        # its engine: another reference to the engine, ours to delete

    def __dealloc__(self):
        if self.clock.engine != NULL:
            clock_remove(&self.clock)
            api.engine_delete(self.clock.engine)


@cython.final
@cython.internal
cdef class Watch:
    """What may end the calls of an interruptible store."""
    cdef EngineClock engine_clock
    # For any thread; the rest is for who uses the store.
    cdef int64_t timeout        # nanoseconds for the outermost one, or NO_LIMIT
    cdef int interrupted
    cdef Py_ssize_t calls       # bound calls in progress, one inside another
    cdef int64_t deadline       # of the outermost one

    cdef int begin(self) except -1:
        """Begins a call; to be ended, also if this raises."""
        cdef int64_t timeout
        self.calls += 1
        if self.calls > 1:
            return 0
        flag_store(&self.interrupted, False)
        timeout = time_load(&self.timeout)
        self.deadline = NO_LIMIT if timeout == NO_LIMIT else monotonic_now() + timeout
        if clock_begin(&self.engine_clock.clock) != 0:
            raise RuntimeError("cannot start the thread that a call in an interruptible store needs")
        return 0

    cdef void end(self) noexcept:
        self.calls -= 1
        if self.calls == 0:
            clock_end(&self.engine_clock.clock)

    cdef int look(self) except -1:
        """Lets other threads run and signal handlers, and raises if the code that runs is to end."""
        let_others_run()
        PyErr_CheckSignals()
        if self.calls > 0 and (flag_load(&self.interrupted) or monotonic_now() >= self.deadline):
            raise exception_of(NULL, api.trap_new_code(INTERRUPT))
        return 0


cdef bint goes_on(StoreState state) noexcept:
    """Whether the code that runs is to go on. If not, or if anything goes wrong in here, it ends."""
    cdef bint going = False
    try:
        state.watch.look()
        going = True
    except BaseException as exception:
        state.exception = exception
    return going


cdef wasmtime_error_t *at_tick(
        wasmtime_context_t *context, void *data, uint64_t *ticks_to_next, uint8_t *kind) noexcept with gil:
    """What compiled code calls when the deadline has come."""
    # SAFETY: data is the box that interruptible() gave to the store, which is alive: its code runs.
    cdef StoreState state = <StoreState>object_of(raw_of_record(data))
    cdef bint locked = state.locked
    cdef bint going
    ticks_to_next[0] = 1
    kind[0] = 0     # to go on
    state.come_out()
    state.locked = True     # the code is interrupted anywhere: a signal handler must not come back to it
    going = goes_on(state)
    state.locked = locked
    state.leave()
    return NULL if going else api.error_new(HOST_TRAP)


# --- Engines ------------------------------------------------------------------------

# Under this name an engine's own dictionary keeps who counts its epochs: its clock, or True for the program. It is one
# name, so that of two threads the first decides.
cdef str EPOCHS_ATTRIBUTE = "_externref_epochs"


cdef EngineClock clock_of(object engine):
    """The clock of an engine, made when it is first asked for."""
    cdef EngineClock made
    cdef dict attributes = engine.__dict__
    cdef void *pointer
    found = get_from(attributes, EPOCHS_ATTRIBUTE)
    if isinstance(found, EngineClock):
        return found
    if not looks_at_epochs(engine):
        raise ValueError("the store's engine does not look for interrupts: "
                         "make it with a Config whose epoch_interruption is True")
    made = EngineClock.__new__(EngineClock)
    pointer = open_address(wasmtime.Engine, engine)     # ValueError if closed
    # From here on no other code runs.
    made.clock.engine = api.engine_clone(pointer)
    clock_add(&made.clock)
    found = attributes.setdefault(EPOCHS_ATTRIBUTE, made)
    if found is True:
        raise RuntimeError("the program counts the epochs of the store's engine itself, by Engine.increment_epoch(): "
                           "make an engine of its own for interruptible stores")
    return found


def count_epoch(dict attributes, /):
    """Called before a program counts up an engine's epoch, with the engine's dictionary.

    Raises RuntimeError if a store of the engine is interruptible: its clock counts.
    """
    if attributes.setdefault(EPOCHS_ATTRIBUTE, True) is not True:
        raise RuntimeError("a store of the engine is interruptible, so that externref.wasmtime counts its epochs")


def set_deadline(store, /):
    """Called before a program sets a store's deadline.

    Raises RuntimeError if the store is interruptible: its deadline is the next tick.
    """
    cdef StoreState state = get_from(states, address_of(store))
    if state is not None and state.known_watch() is not None:
        raise RuntimeError("the store is interruptible: its time is the timeout of externref.wasmtime.interruptible()")


# --- Stores -------------------------------------------------------------------------

def interruptible(store, /, *, timeout=None):
    """Make the bound calls of a store stoppable, by Ctrl-C, by interrupt(), and after a time; or change the timeout.

    store: a wasmtime.Store, whose engine has Config.epoch_interruption, and epochs that the program does not count.
    timeout: seconds that a bound call may take, those of host functions included, or None. When they are over, compiled
        code that runs, or that a host function returns to, ends with wasmtime.Trap, TrapCode.INTERRUPT.

    From here on compiled code of the store looks, every 10 ms, for signals: what a handler raises ends the code and
    comes out of the call, as KeyboardInterrupt does. A call that keeps the GIL lets others have it then. A handler
    that runs meanwhile cannot use the store: RuntimeError. The instance stays usable. Calls that wasmtime-py
    itself makes, and start functions, are looked at only while a bound call runs in a store of the same engine.

    Engine.increment_epoch() and the store's set_epoch_deadline() raise RuntimeError afterwards. Other stores of the
    engine see its epoch counted up while bound calls run in this one.

    Raises ValueError if the engine has no epoch_interruption, for a timeout that is negative or no number, and for a
    closed store; RuntimeError if the program counts the engine's epochs, or another thread is using the store;
    TypeError for anything but a wasmtime.Store. Needs the GIL.

    Source: wasmtime_store_epoch_deadline_callback.
    """
    cdef StoreState state
    cdef Watch watch
    cdef int64_t time
    store = store       # own it: see _python.pxd
    time = NO_LIMIT if timeout is None else limit_of("timeout", timeout, 10**9, "a number of seconds")
    cdef void *pointer
    cdef void *record
    state = state_of(store)
    watch = state.known_watch()
    if watch is None:
        watch = Watch.__new__(Watch)
        watch.engine_clock = clock_of(store.engine)
        pointer = address_in(wasmtime.Store.ptr(store))
        record = new_record(state, False)
        try:
            state.enter()
        except BaseException:
            end_record(record)
            raise
        if state.watch is None:
            # SAFETY: enter() found the store open. It takes over the hold of the box, and ends it when it is deleted.
            api.store_epoch_deadline_callback(pointer, at_tick, record, end_record)
            api.context_set_epoch_deadline(state.context, 1)
            with cython.critical_section(state):
                state.watch = watch
        else:       # made meanwhile, by another thread or code that has run
            end_record(record)
            watch = state.watch
        state.leave()
    time_store(&watch.timeout, time)


def interrupt(store, /):
    """Stop the bound call that runs in an interruptible store, on whatever thread: it ends with wasmtime.Trap,
    TrapCode.INTERRUPT, as soon as its compiled code comes to a loop or a function after the next tick. Nothing if
    none runs.

    Raises ValueError if the store is not interruptible, or closed; TypeError for anything but a wasmtime.Store. From
    any thread, with the GIL.
    """
    cdef StoreState state
    cdef Watch watch
    store = store       # own it: see _python.pxd
    require_store(store)
    # Not by state_of(), which may have to use the store.
    state = get_from(states, address_of(store))       # ValueError if closed
    watch = None if state is None else state.known_watch()
    if watch is None:
        raise ValueError("the store is not interruptible: externref.wasmtime.interruptible() makes it so")
    if state.known_store()() is not store:      # a newer one at its address
        refuse_closed()
    flag_store(&watch.interrupted, True)


def after_fork_in_child():
    """Neither the clock nor any other thread is there: what runs is what ran on this one."""
    cdef StoreState state
    if clock_setup() != 0:
        raise MemoryError("no memory for the locks of the clock of interruptible stores")
    for state in list(states.values()):
        if state.watch is not None and state.watch.calls > 0 and owner_is(&state.owner, PyThread_get_thread_ident()):
            clock_begin(&state.watch.engine_clock.clock)


if clock_setup() != 0:
    raise MemoryError("no memory for the locks of the clock of interruptible stores")
clocks.increment = api.engine_increment_epoch
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=after_fork_in_child)

del after_fork_in_child
