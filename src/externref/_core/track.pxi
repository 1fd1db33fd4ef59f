# Tracking, for externref.debug: where each block was made and handed out, and what became of those that were freed.
# While nobody tracks nothing here runs, and nothing asks whether somebody does: slab.h says how.
#
# A part of _core.pyx.

from collections import deque

cdef extern from "_core/slab.h":
    ctypedef struct Watch:
        void (*made)(void *cell, void *payload) noexcept
        int (*freed)(void *cell) noexcept
    void block_set_watch(const Watch *) noexcept
    void block_release(void *cell) noexcept

cdef extern from "_core/registry.h":
    void registry_each(void (*look)(uintptr_t address, void *context) noexcept, void *context) noexcept

cdef extern from "_core/guard.h":
    ctypedef struct Guarded:
        const char *life
        size_t drops
    void guard_put(VMExternData *, Guarded *) noexcept
    size_t guard_drops(Guarded *) noexcept
    size_t guard_clones(VMExternData *) noexcept
    bint guard_is_whole(VMExternData *, Guarded *) noexcept
    void guard_take(VMExternData *) noexcept

cdef extern from *:
    """
    /* So that to record something runs no other code, and leaves an exception alone that is set. */
    typedef struct {
        PyObject *exception;
    #if PY_VERSION_HEX < 0x030C0000
        PyObject *type, *traceback;
    #endif
        int collects;
    } Quiet;

    static void quiet_begin(Quiet *quiet)
    {
    #if PY_VERSION_HEX < 0x030C0000
        PyErr_Fetch(&quiet->type, &quiet->exception, &quiet->traceback);
    #else
        quiet->exception = PyErr_GetRaisedException();
    #endif
    #ifndef Py_GIL_DISABLED     /* there a collection begins between two lines of Python, and not here */
        quiet->collects = PyGC_Disable();
    #endif
    }

    static void quiet_end(Quiet *quiet)
    {
    #ifndef Py_GIL_DISABLED
        if (quiet->collects) {
            PyGC_Enable();
        }
    #endif
    #if PY_VERSION_HEX < 0x030C0000
        PyErr_Restore(quiet->type, quiet->exception, quiet->traceback);
    #else
        PyErr_SetRaisedException(quiet->exception);
    #endif
    }
    """
    ctypedef struct Quiet:
        pass
    void quiet_begin(Quiet *) noexcept
    void quiet_end(Quiet *) noexcept

cdef extern from "Python.h":
    ctypedef struct PyFrameObject:
        pass
    PyFrameObject *PyEval_GetFrame() noexcept
    object PyFrame_GetCode "(PyObject *)PyFrame_GetCode"(PyFrameObject *)
    int PyFrame_GetLineNumber(PyFrameObject *) noexcept
    PyFrameObject *PyFrame_GetBack(PyFrameObject *) noexcept


# What is noted of one block: the making, and so many of the newest events.
cdef enum:
    MOST_EVENTS = 64

cdef Py_ssize_t frames_most = 0         # of a traceback; 0: nobody tracks
cdef Py_ssize_t guard_most = 0          # freed blocks that are kept; 0: none is
cdef size_t records_made = 0
cdef dict records = {}                  # address: Record, of the blocks that live
cdef object guarded = hidden(deque())   # Records of freed blocks that are kept, the oldest first
cdef list mistakes = []                 # what was found of compiled code, in words; the newest
cdef size_t mistakes_made = 0           # ever

cdef enum:
    MOST_MISTAKES = 1000
cdef str package_folder = os.path.dirname(os.path.dirname(__file__)) + os.sep


@cython.final
@cython.internal
@cython.no_gc       # it is in no cycle, and where no collector sees it nobody can find it
cdef class Record:
    # The life of one block.
    cdef readonly size_t serial             # in the order of their making
    cdef readonly str payload_type
    cdef readonly uintptr_t address         # of the footer
    cdef readonly tuple events              # (what, stack_now()), in the order of time
    cdef bytes life                         # told_life(), once it is freed and kept
    cdef Guarded guarded                    # for threads without the GIL
    cdef bint is_native
    cdef bint is_alive                      # the lock
    cdef Lock lock


cdef tuple stack_now():
    """The calls of this thread, innermost first: (code, line) each."""
    cdef list calls = []
    cdef PyFrameObject *frame = PyEval_GetFrame()
    cdef PyFrameObject *outer
    if frame != NULL:
        Py_INCREF(<PyObject *>frame)
    try:
        while frame != NULL and len(calls) < frames_most:
            calls.append((PyFrame_GetCode(frame), PyFrame_GetLineNumber(frame)))
            outer = PyFrame_GetBack(frame)
            Py_DECREF(<PyObject *>frame)
            frame = outer
    finally:
        Py_XDECREF(<PyObject *>frame)
    return tuple(calls)


cdef str told_place(tuple calls):
    """Where that was: of the innermost call that is not the package's own."""
    if not calls:
        return "outside of Python code"
    for code, line in calls:
        if not code.co_filename.startswith(package_folder):
            break
    else:
        code, line = calls[0]
    return f"{code.co_filename}:{line} in {code.co_name}"


cdef str told_life(Record record):
    cdef list told = []
    if not record.events or record.events[0][0] != "made":
        told.append("made before anybody tracked")
    for what, calls in record.events:
        told.append(f"{what} at {told_place(calls)}")
    return f"{record.payload_type} {', '.join(told)}"


cdef int note(Record record, str what) except -1:
    record.events += ((what, stack_now()),)
    if len(record.events) > MOST_EVENTS:
        record.events = record.events[:1] + record.events[2:]
    return 0


cdef Record new_record_of(uintptr_t address, str payload_type):
    global records_made
    cdef Record record = Record.__new__(Record)
    records_made += 1
    record.serial = records_made
    record.address = address
    record.payload_type = payload_type
    record.events = ()
    record.is_alive = True
    return record


cdef int note_mistake(str mistake) except -1:
    """Says it at once, and keeps it."""
    keep_mistake(mistake)
    say(f"externref: {mistake}")
    return 0


cdef int keep_mistake(str mistake) except -1:
    global mistakes_made
    mistakes_made += 1
    mistakes.append(mistake)
    if len(mistakes) > MOST_MISTAKES:
        del mistakes[0]
    return 0


cdef extern from "<stdio.h>":
    ctypedef struct FILE:
        pass
    FILE *stderr
    int fputs(const char *, FILE *) noexcept
    int fflush(FILE *) noexcept


cdef int say(str line) except -1:
    # C's stderr, since sys.stderr may be any code.
    cdef bytes text = f"{line}\n".encode("utf-8", "backslashreplace")
    fputs(text, stderr)
    fflush(stderr)
    return 0


# --- What is noted of blocks --------------------------------------------------------

cdef void note_made(void *cell, void *payload) noexcept:
    cdef Quiet quiet
    quiet_begin(&quiet)
    try:
        note_block(<VMExternData *>(<char *>cell + sizeof(PyObject *)), type_name_of(<object>payload))
    except BaseException:
        pass    # no memory: it is not noted
    quiet_end(&quiet)


cdef Record note_block(VMExternData *data, str payload_type):
    cdef Record record = new_record_of(<uintptr_t>data, payload_type)
    note(record, "made")
    records[record.address] = record
    return record


cdef int note_freed(void *cell) noexcept:
    cdef VMExternData *data = <VMExternData *>(<char *>cell + sizeof(PyObject *))
    cdef Record record
    cdef bint kept = False
    cdef Quiet quiet
    quiet_begin(&quiet)
    try:
        record = records.pop(<uintptr_t>data, None)
        if record is None:
            record = new_record_of(<uintptr_t>data, "object")
        lock_take(&record.lock)
        record.is_alive = False
        lock_release(&record.lock)
        look_at_freed(record, data)
        if guard_most > 0:
            kept = guard(record, data)
    except BaseException:
        pass    # no memory: it is not noted
    quiet_end(&quiet)
    return kept


cdef int look_at_freed(Record record, VMExternData *data) except -1:
    """Whether it was given up rightly. A count that no operation of the package left at zero is another's."""
    cdef size_t count = EXTERNREF_ACQUIRE(&data.ref_count)
    if count > MAX_COUNT:
        note_mistake(f"compiled code dropped a reference more often than there were owners: {told_life(record)}")
    elif count == 0 and data.handles != 0:
        note_mistake(f"compiled code dropped a reference that Python still owns: {told_life(record)}")
    return 0


cdef void note_handed_out(uintptr_t address, str what) noexcept:
    cdef Quiet quiet
    cdef Record record
    quiet_begin(&quiet)
    try:
        record = records.get(address)
        if record is not None:
            note(record, what)
    except BaseException:
        pass    # no memory: it is not noted
    quiet_end(&quiet)


cdef object tracked_give_raw(VMExternRef self):
    ptr = give_raw(self)
    note_handed_out(ptr, "moved out")
    return ptr


cdef object own_as_raw = VMExternRef.__dict__["as_raw"]


@cython.binding(True)   # for it to be a method
def tracked_as_raw(VMExternRef self not None, /):
    ptr = own_as_raw(self)
    note_handed_out(ptr, "lent")
    return ptr


cdef void *tracked_unwrap(object ref) except? NULL:
    cdef void *raw = unwrap(ref)
    note_handed_out(<uintptr_t>raw, "lent")
    return raw


cdef int set_as_raw(object method) except -1:
    # By a pointer to lend(), as for give_raw(), it would take 503 instructions in place of 493.
    (<dict><object>(<TypeSlots *>VMExternRef).tp_dict)["as_raw"] = method
    PyType_Modified(<PyTypeObject *>VMExternRef)


cdef void *tracked_new_with(
        const VMExternVTable *vtable, int (*init)(void *, void *) noexcept, void *ctx) except NULL:
    cdef void *raw = new_with(vtable, init, ctx)
    cdef Quiet quiet
    quiet_begin(&quiet)
    try:
        note_block(<VMExternData *>raw, vtable_name(vtable)).is_native = True
    except BaseException:
        pass    # no memory: it is not noted
    quiet_end(&quiet)
    return raw


# --- Freed blocks that are kept, for who drops or clones them again -----------------

cdef bint guard(Record record, VMExternData *data) except -1:
    note(record, "freed")
    record.life = told_life(record).encode("utf-8", "backslashreplace")
    record.guarded.life = record.life
    guarded.append(record)
    guard_put(data, &record.guarded)
    while len(guarded) > guard_most:
        let_go_of_oldest()
    return True


cdef int let_go_of_oldest() except -1:
    cdef Record record = guarded.popleft()
    cdef VMExternData *data = <VMExternData *>record.address
    look_at_guarded(record)
    guard_take(data)
    block_release(block_of(data))
    return 0


cdef str told_times(size_t times):
    return "" if times == 1 else f" {times} times"


cdef int look_at_guarded(Record record) except -1:
    cdef VMExternData *data = <VMExternData *>record.address
    cdef size_t times = guard_drops(&record.guarded)
    if times != 0:      # guard_dropped() has said so
        keep_mistake(f"compiled code dropped a freed reference{told_times(times)}: {told_life(record)}")
    times = guard_clones(data)
    if times != 0:
        note_mistake(f"compiled code cloned a freed reference{told_times(times)}: {told_life(record)}")
    if not guard_is_whole(data, &record.guarded):
        note_mistake(f"compiled code wrote to a freed reference: {told_life(record)}")
        guard_put(data, &record.guarded)
    return 0


# --- For externref.debug ------------------------------------------------------------

cdef Watch watch
watch.made = note_made
watch.freed = note_freed


def _track(Py_ssize_t frames, Py_ssize_t most_guarded):
    """Tracks from now on: so many calls are noted of each event, so many freed blocks kept. With 0 frames no more."""
    global frames_most, guard_most, spare_pair_count
    cdef bint is_new = frames_most == 0
    if frames == 0 and is_new:
        return
    frames_most = frames
    guard_most = most_guarded
    while len(guarded) > guard_most:
        let_go_of_oldest()
    if frames == 0:
        spare_pair_count = 0
        set_give_raw(give_raw)
        set_as_raw(own_as_raw)
        c_api.new_with = new_with
        c_api.unwrap = unwrap
        block_set_watch(NULL)
        records.clear()
    elif is_new:
        free_spare_pairs()
        spare_pair_count = SPARE_LIMIT      # none is kept: each block is made and freed
        set_give_raw(tracked_give_raw)
        set_as_raw(with_calls_noted)
        c_api.new_with = tracked_new_with
        c_api.unwrap = tracked_unwrap
        block_set_watch(&watch)


cdef struct Look:
    uintptr_t address
    PyObject *payload_class     # owned; NULL for a native payload
    const VMExternVTable *vtable
    size_t count
    uint32_t handles
    uint32_t state

cdef struct Looks:
    Look *looks
    size_t length
    size_t room


cdef void look_at(VMExternData *data, Look *look) noexcept:
    """The block's lock, or whatever keeps it."""
    cdef PyObject *payload = payload_of(data)
    look.address = <uintptr_t>data
    look.vtable = data.vtable
    look.count = EXTERNREF_ACQUIRE(&data.ref_count)
    look.handles = data.handles
    look.state = host_state(data)
    look.payload_class = NULL
    if payload != NULL:
        look.payload_class = <PyObject *>Py_TYPE(payload)
        Py_INCREF(look.payload_class)


cdef tuple row_of(Look *look, Record record):
    """What debug.py makes a Block of. Takes the reference to the class."""
    cdef str payload_type
    if look.payload_class == NULL:
        payload_type = vtable_name(look.vtable)
    else:
        payload_type = PyType_GetName(<PyTypeObject *>look.payload_class)
        Py_DECREF(look.payload_class)
    cdef tuple facts    # declared: Cython 3.3.1 does not come to an end of inferring it
    facts = (look.address, payload_type, look.count, look.handles, look.state & EXTERNREF_STATE_LENDS,
             look.state & EXTERNREF_STATE_EXPOSED != 0, look.state & EXTERNREF_STATE_REGISTERED != 0,
             look.vtable.size, look.vtable.align)
    return facts, record


def _tracked():
    """A row for each block that was made while somebody tracked and lives, the oldest first."""
    cdef list rows = []
    cdef Record record
    cdef VMExternData *data
    cdef Look look
    cdef bint is_alive
    for record in list(records.values()):
        data = <VMExternData *>record.address
        if record.is_native:
            registry_lock(record.address)
            is_alive = registry_contains(record.address)
            if is_alive:
                look_at(data, &look)
            registry_unlock(record.address)
        else:
            lock_take(&record.lock)
            is_alive = record.is_alive
            if is_alive:
                look_at(data, &look)
            lock_release(&record.lock)
        if is_alive:
            rows.append(row_of(&look, record))
    rows.sort(key=lambda row: row[1].serial)
    return rows


cdef void look_at_registered(uintptr_t address, void *context) noexcept:
    cdef Looks *looks = <Looks *>context
    if looks.length < looks.room:
        look_at(<VMExternData *>address, &looks.looks[looks.length])
    looks.length += 1


def _registered():
    """A row for each block whose address was handed out and that lives."""
    cdef Looks looks
    cdef list rows = []
    cdef size_t i
    looks.looks = NULL
    looks.length = 0
    while True:
        looks.room = looks.length
        looks.length = 0
        registry_each(look_at_registered, &looks)
        if looks.length <= looks.room:
            break
        for i in range(looks.room):
            Py_XDECREF(looks.looks[i].payload_class)
        free(looks.looks)
        looks.looks = <Look *>malloc(looks.length * sizeof(Look))
        if looks.looks == NULL:
            raise MemoryError("no memory for the list of references")
    for i in range(looks.length):
        rows.append(row_of(&looks.looks[i], records.get(looks.looks[i].address)))
    free(looks.looks)
    return rows


def _row(VMExternRef ref not None):
    """The row of one block."""
    cdef Section section
    cdef Look look
    cdef bint is_spent
    section_begin(&section, <PyObject *>ref)
    is_spent = ref._data == NULL
    if not is_spent:
        look_at(<VMExternData *>ref._data, &look)
    section_end(&section)
    if is_spent:
        refuse_moved()
    return row_of(&look, records.get(look.address))


def _newest_serial():
    return records_made


def _mistakes_made():
    return mistakes_made


def _mistakes(size_t before):
    """What compiled code did wrong, in words: what was found after so many mistakes."""
    cdef Record record
    for record in list(guarded):
        look_at_guarded(record)
    return mistakes[max(len(mistakes) - <Py_ssize_t>(mistakes_made - before), 0):]


def _told_place(calls):
    return told_place(calls)


cdef object with_calls_noted = tracked_as_raw
del tracked_as_raw      # for nobody else to call
