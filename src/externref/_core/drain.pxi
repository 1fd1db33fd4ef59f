# Draining: freeing, under the GIL, what was let go without it; who does it, and what forks and exit do about it.
#
# A part of _core.pyx.

cdef extern from "_core/pending.h":
    ctypedef struct PendingHold:
        uintptr_t address
        size_t count
    bint pending_any() noexcept
    VMExternData *pending_pop() noexcept
    ExternrefHold *pending_pop_hold() noexcept
    size_t pending_holds(PendingHold *notes, size_t room) noexcept
    size_t pending_count() noexcept
    bint pending_set_draining(bint) noexcept

cdef extern from "_core/helper.h":
    const long DRAIN_AUTO
    const long DRAIN_MAIN
    const long DRAIN_SCHEDULED
    bint helper_setup(unsigned long main_thread, void (*drain)(bint) noexcept, bint (*schedule)() noexcept) noexcept
    void helper_set_mode(long mode) noexcept
    void helper_tell_mode() noexcept
    void helper_restart() noexcept
    void helper_drained() noexcept
    bint helper_may_drain() noexcept
    void helper_before_fork() noexcept
    void helper_after_fork(bint child) noexcept
    void helper_close() noexcept
    bint helper_is_closed() noexcept


cdef extern from "Python.h":
    PyObject *PyObject_CallNoArgs(PyObject *) noexcept
    void PyErr_WriteUnraisable(PyObject *) noexcept
    unsigned long PyThread_get_thread_ident() noexcept


cdef Py_ssize_t run_drain(bint is_helper=False) noexcept:
    """Frees what compiled code dropped; how many blocks. Runs arbitrary code.

    A thread that drains does not drain again, or the finalizers of what it drains would nest as deep as the
    list is long: the loop here comes to what they add. Another thread takes from the same list meanwhile.
    """
    cdef Py_ssize_t freed = 0
    cdef Py_ssize_t turns = 0
    cdef VMExternData *data
    cdef ExternrefHold *record
    cdef PyObject *payload
    # One of its finalizers may have forked, and wait for what is left.
    if pending_set_draining(True):
        helper_restart()
        return 0
    helper_drained()
    while True:
        if is_helper:
            if not helper_may_drain():
                break
            turns += 1
            if turns % 1000 == 0:
                let_others_run()    # finalizers in C never do
        data = pending_pop()
        if data != NULL:
            freed += 1
            payload = free_block(data)
        else:
            record = pending_pop_hold()
            if record == NULL:
                break
            data = record.footer
            if record.lends:
                unlend_block(data)
            free_record(record)
            payload = drop_handle_counted(data, &freed)
        helper_restart()
        Py_XDECREF(payload)     # arbitrary code, which may let go of more, or wait for the rest
    pending_set_draining(False)
    return freed


# A caller may let go, meanwhile, of what it lends, as _python.pxd has it. Who goes on with it owns it: where something
# is pending, so that it costs nothing where nothing is.
cdef inline void drain_if_any() noexcept:
    if pending_any():
        run_drain()


cdef void drain_pending() noexcept:
    drain_if_any()


cdef Py_ssize_t count_let_go() except -1:
    """How many blocks have no owners left but holds that were let go."""
    cdef dict seen = {}     # how many were let go, by block
    cdef PendingHold *notes = NULL
    cdef size_t length = 0, room, count, i
    cdef Py_ssize_t blocks = 0
    while True:
        room = length
        length = pending_holds(notes, room)
        if length <= room:
            break
        free(notes)
        notes = <PendingHold *>malloc(length * sizeof(PendingHold))
        if notes == NULL:
            raise MemoryError("no memory to count what is pending")
    try:
        for i in range(length):
            count = <size_t>seen.get(notes[i].address, 0) + 1
            seen[notes[i].address] = count
            blocks += count == notes[i].count
    finally:
        free(notes)
    return blocks


# --- Who drains ---------------------------------------------------------------------

cdef str AUTO = "auto"
cdef str MAIN = "main"
cdef PyObject *drain_setting = <PyObject *>AUTO    # owned: one of these, or a function
cdef unsigned long drain_setter = PyThread_get_thread_ident()   # the thread that set it
cdef Lock drain_setting_lock
Py_INCREF(drain_setting)


cdef object choose_drain(object setting):
    """set_drain(), with AUTO, MAIN or a function."""
    global drain_setting, drain_setter
    cdef PyObject *given = <PyObject *>setting
    cdef PyObject *before
    lock_take(&drain_setting_lock)
    if helper_is_closed() and given != <PyObject *>MAIN:
        given = <PyObject *>AUTO    # nobody would call a function, nor let it go
    Py_INCREF(given)
    before = drain_setting
    drain_setting = given
    drain_setter = PyThread_get_thread_ident()
    helper_set_mode(DRAIN_AUTO if given == <PyObject *>AUTO else
                    DRAIN_MAIN if given == <PyObject *>MAIN else DRAIN_SCHEDULED)
    lock_release(&drain_setting_lock)
    helper_tell_mode()
    return own_reference(before)


cdef bint is_set_by_this_thread() noexcept:
    cdef bint own
    lock_take(&drain_setting_lock)
    own = drain_setter == PyThread_get_thread_ident()
    lock_release(&drain_setting_lock)
    return own


cdef void drain_for_helper(bint is_helper) noexcept:
    run_drain(is_helper)


cdef bint schedule_for_helper() noexcept:
    """Calls the user's function; False if there is none, or, and the exception is reported, if it raises."""
    cdef PyObject *schedule
    cdef PyObject *result
    lock_take(&drain_setting_lock)
    schedule = drain_setting
    if schedule == <PyObject *>AUTO or schedule == <PyObject *>MAIN:    # since the helper looked
        lock_release(&drain_setting_lock)   # not reached: without a GIL alone
        return False                        # not reached: the same
    Py_INCREF(schedule)
    lock_release(&drain_setting_lock)
    # Called so, nothing here keeps it alive, and no SystemExit ends the process.
    result = PyObject_CallNoArgs(schedule)
    if result == NULL:
        PyErr_WriteUnraisable(schedule)
    Py_XDECREF(result)
    release_elsewhere(schedule)
    return result != NULL


cdef void release_elsewhere(PyObject *schedule) noexcept:
    """Gives up the helper's reference.

    If it is the last, the setting was replaced meanwhile, and the function may hold what only its own thread may
    release, as a Tcl interpreter, which aborts the process: so it goes the way of all that
    is let go on a foreign thread.
    """
    if is_shared(schedule):
        Py_DECREF(schedule)
        return
    cdef void *raw
    try:
        raw = new_block(schedule, 0)
        Py_DECREF(schedule)     # not the last: the block has one
        externref_drop(raw)
    except MemoryError:
        pass    # it stays alive


def main_thread():
    """The main thread's number: from CPython 3.13 on as it knows it, else as `threading` does, if that is imported, for
    its import takes longer than all of this package's."""
    if hasattr(_thread, "_get_main_thread_ident"):
        return _thread._get_main_thread_ident()     # not reached: on 3.11
    if sys.modules.get("threading") is not None:
        import threading        # which waits, if another thread is at it
        main = threading.main_thread()
        if threading.current_thread() is not main:
            return main.ident
    return PyThread_get_thread_ident()      # not by their names: gevent numbers its own


if not helper_setup(main_thread(), drain_for_helper, schedule_for_helper):
    raise MemoryError("no memory for the lock of externref's helper thread")  # not reached: no memory at import


# --- Forks and the end --------------------------------------------------------------

def before_fork():
    helper_before_fork()


def after_fork_in_parent():
    helper_after_fork(False)


def after_fork_in_child():
    helper_after_fork(True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=before_fork, after_in_parent=after_fork_in_parent,
                        after_in_child=after_fork_in_child)


@atexit.register
def close_pending():
    # From here on compiled code may still drop references, but nobody is asked to drain.
    run_drain()
    helper_close()
    if is_set_by_this_thread():     # as release_elsewhere() has it
        choose_drain(AUTO)          # a function would keep its module, and all that is in it, for ever
    run_drain()     # what was let go since
    try:
        keep_libraries()
    except BaseException:
        pass    # a finalizer that needs them is told


del main_thread, before_fork, after_fork_in_parent, after_fork_in_child, close_pending   # for nobody else to call
