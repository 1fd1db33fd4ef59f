# Draining: freeing, under the GIL, what was let go without it; who does it, and what forks and exit do about it.
#
# A part of _core.pyx.

cdef extern from "_core/pending.h":
    ctypedef struct PendingState:
        ExternrefHold *holds_batch
    PendingState pending
    bint pending_any() noexcept
    VMExternData *pending_pop() noexcept
    ExternrefHold *pending_pop_hold() noexcept
    ExternrefHold *pending_first_hold() noexcept
    size_t pending_count() noexcept
    bint pending_set_draining(bint) noexcept

cdef extern from "_core/helper.h":
    const long DRAIN_AUTO
    const long DRAIN_MAIN
    const long DRAIN_SCHEDULED
    bint helper_setup(unsigned long main_thread, void (*drain)() noexcept, bint (*schedule)() noexcept) noexcept
    void helper_set_mode(long mode) noexcept
    void helper_drained() noexcept
    void helper_before_fork() noexcept
    void helper_after_fork(bint child) noexcept
    void helper_close() noexcept


cdef Py_ssize_t run_drain() noexcept:
    """Frees what compiled code dropped; how many blocks. Runs arbitrary code.

    A thread that drains does not drain again, or the finalizers of what it drains would nest as deep as the
    list is long: the loop here comes to what they add. Another thread takes from the same list meanwhile.
    """
    cdef Py_ssize_t freed = 0
    cdef Py_ssize_t before
    cdef VMExternData *data
    cdef ExternrefHold *record
    cdef PyObject *payload
    if pending_set_draining(True):
        return 0
    helper_drained()
    while True:
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
            before = live_blocks
            payload = drop_handle(data)
            freed += before - live_blocks
        Py_XDECREF(payload)     # arbitrary code, which may let go of more
    pending_set_draining(False)
    return freed


cdef inline void drain_if_any() noexcept:
    if pending_any():
        run_drain()


cdef Py_ssize_t count_let_go() except -1:
    """How many blocks have no owners left but holds that were let go."""
    cdef dict seen = {}     # how many were let go, by block
    cdef ExternrefHold *record
    cdef size_t count
    cdef Py_ssize_t blocks = 0
    cdef int i
    # Ints in a dict: nothing that is made from here on is collected, and so nothing runs.
    for i in range(2):
        # SAFETY: only holders of the GIL take records away.
        record = pending.holds_batch if i == 0 else pending_first_hold()
        while record != NULL:
            count = <size_t>seen.get(<uintptr_t>record.footer, 0) + 1
            seen[<uintptr_t>record.footer] = count
            blocks += count == externref_strong_count(record.footer)
            record = record.next
    return blocks


# --- Who drains ---------------------------------------------------------------------

cdef object drain_setting = "auto"      # as set_drain() was given it


cdef object choose_drain(object setting):
    """set_drain(), with a setting that is right."""
    global drain_setting
    before = drain_setting
    drain_setting = setting
    helper_set_mode(DRAIN_SCHEDULED if callable(setting) else DRAIN_MAIN if setting == "main" else DRAIN_AUTO)
    return before


cdef void drain_for_helper() noexcept:
    run_drain()


cdef bint schedule_for_helper() noexcept:
    # An exception is reported as unraisable and gives False: then the main thread is asked.
    schedule = drain_setting
    try:
        schedule()
    finally:
        if Py_REFCNT(<PyObject *>schedule) == 1:
            # Replaced meanwhile, and perhaps what only its own thread may release: a Tcl interpreter aborts the
            # process else. So it goes the way of all that is let go on a foreign thread.
            externref_drop(new_block(<PyObject *>schedule, 0))
    return True


if not helper_setup(threading.main_thread().ident, drain_for_helper, schedule_for_helper):
    raise MemoryError("no memory for the lock of externref's helper thread")


# --- Forks and the end --------------------------------------------------------------

def before_fork():
    helper_before_fork()


def after_fork_in_parent():
    helper_after_fork(False)


def after_fork_in_child():
    helper_after_fork(True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=before_fork, after_in_parent=after_fork_in_parent, after_in_child=after_fork_in_child)


@atexit.register
def close_pending():
    # From here on compiled code may still drop references, but nobody is asked to drain.
    run_drain()
    helper_close()
    run_drain()     # what was let go since


del before_fork, after_fork_in_parent, after_fork_in_child, close_pending   # for nobody else to call
