# Tracking, for externref.debug: where each block was made and handed out, and what became of those that were freed.
# While nobody tracks nothing here runs, and nothing asks whether somebody does: slab.h says how. No Python code runs in
# what is noted of an event, and no object is kept: track.h has what is known.
#
# A part of _core.pyx.

cdef extern from "_core/slab.h":
    ctypedef struct Watch:
        void (*made)(void *cell, void *payload) noexcept
        int (*freed)(void *cell) noexcept
    void block_set_watch(const Watch *) noexcept

cdef extern from "_core/registry.h":
    void registry_each(void (*look)(uintptr_t address, void *context) noexcept, void *context) noexcept

cdef extern from "_core/track.h" nogil:
    enum:
        TRACK_MISTAKES
        TRACK_TEXT
    ctypedef struct Place:
        int line
        const char *function
        char *file
    ctypedef struct Event:
        Event *before
        const char *what
        size_t length
        Place **calls
    ctypedef struct Record:
        uintptr_t address
        size_t serial
        Event *events
        char *payload_type
    ctypedef struct Look:
        uintptr_t address
        const VMExternVTable *vtable
        size_t count
        uint32_t handles
        uint32_t state
    ctypedef struct Copy:
        Record *record
        Look look
    ctypedef struct Track:
        size_t made
        bint is_on
        size_t most_kept
        size_t mistake_count
    Track track
    const char *track_own_folder
    void track_lock() noexcept
    void track_unlock() noexcept
    size_t track_read(const size_t *) noexcept
    Event *event_new(const char *what, size_t most) noexcept
    bint event_add(Event *, const char *file, const char *function, int line) noexcept
    void track_made(uintptr_t address, const char *payload_type, Event *) noexcept
    void track_happened(uintptr_t address, Event *) noexcept
    bint track_freed(VMExternData *, bint is_native, Event *) noexcept
    bint track_at_forks() noexcept
    void track_keep() noexcept
    void track_look() noexcept
    void track_forget() noexcept
    void look_at(VMExternData *, Look *) noexcept
    bint track_copy(uintptr_t address, Copy *) noexcept
    Py_ssize_t track_copies(Copy **) noexcept
    void copy_free(Copy *) noexcept
    bint track_mistake(size_t number, char *text) noexcept

cdef extern from *:
    """
    /* So that to note something runs no other code, and leaves an exception alone that is set. */
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

    /* The text of a str, or of a subclass of it, lent; "?" if it has none. */
    static const char *text_of(PyObject *str)
    {
        const char *text = str != NULL && PyUnicode_Check(str) ? PyUnicode_AsUTF8(str) : NULL;
        if (text == NULL) {
            PyErr_Clear();
            return "?";
        }
        return text;
    }

    /* The calls that this thread is in. NULL if memory is short. */
    static Event *event_now(const char *what, Py_ssize_t most)
    {
        Event *event = event_new(what, (size_t)most);
        PyFrameObject *frame = event != NULL ? PyEval_GetFrame() : NULL;
        Py_XINCREF(frame);
        while (frame != NULL) {
            PyCodeObject *code = PyFrame_GetCode(frame);    /* the frame has it, too */
            PyFrameObject *outer = NULL;
            if (event->length < (size_t)most &&
                event_add(event, text_of(code->co_filename), text_of(code->co_name), PyFrame_GetLineNumber(frame))) {
                outer = PyFrame_GetBack(frame);
            }
            Py_DECREF(code);
            Py_DECREF(frame);
            frame = outer;
        }
        PyErr_Clear();
        return event_fit(event);
    }
    """
    ctypedef struct Quiet:
        pass
    void quiet_begin(Quiet *) noexcept
    void quiet_end(Quiet *) noexcept
    const char *text_of(PyObject *) noexcept
    Event *event_now(const char *what, Py_ssize_t most) noexcept

ctypedef object (*Method)(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)

cdef extern from "Python.h":
    ctypedef struct PyMethodDef:
        void *ml_meth
        int ml_flags
    ctypedef struct PyMethodDescrObject:
        PyMethodDef *d_method
    const int METH_FASTCALL, METH_KEYWORDS
    PyObject *name_of_type "PyType_GetName"(PyTypeObject *) noexcept


# --- What is noted ------------------------------------------------------------------

cdef VMExternData *data_in(void *cell) noexcept:
    return <VMExternData *>(<char *>cell + sizeof(PyObject *))


cdef Event *event_here(const char *what) noexcept:
    return event_now(what, atomic_count_load(&frames_most))


cdef void note_made(void *cell, void *payload) noexcept:
    cdef Quiet quiet
    cdef PyObject *name
    quiet_begin(&quiet)
    name = name_of_type(Py_TYPE(<PyObject *>payload))       # the type has it, too
    track_made(<uintptr_t>data_in(cell), text_of(name), event_here("made"))
    Py_XDECREF(name)
    quiet_end(&quiet)


cdef bint is_guarded() noexcept:
    """Whether freed blocks are kept, and what compiled code drops of Python's is given back."""
    return atomic_count_load(&track.most_kept) != 0


cdef int note_freed(void *cell) noexcept:
    return note_freed_block(data_in(cell), False)


cdef bint note_freed_block(VMExternData *data, bint is_native) noexcept:
    """Whether it stays."""
    cdef bint is_kept
    cdef Quiet quiet
    quiet_begin(&quiet)
    is_kept = track_freed(data, is_native, event_here("freed") if is_guarded() else NULL)
    quiet_end(&quiet)
    return is_kept


cdef void note_handed_out(uintptr_t address, const char *what) noexcept:
    cdef Quiet quiet
    quiet_begin(&quiet)
    track_happened(address, event_here(what))
    quiet_end(&quiet)


cdef object tracked_give_raw(VMExternRef self):
    ptr = give_raw(self)
    note_handed_out(ptr, "moved out")
    return ptr


# The method's definition is changed in place: by a pointer to lend(), as for give_raw(), as_raw() would take 503
# instructions in place of 493, and with another method in the type's dict CPython 3.13 gives up caching look-ups in the
# type after a thousand changes.
cdef PyMethodDef *as_raw_definition = (<PyMethodDescrObject *><PyObject *>VMExternRef.__dict__["as_raw"]).d_method
if as_raw_definition.ml_flags != METH_FASTCALL | METH_KEYWORDS:
    raise SystemError("externref was built by a Cython not known to it, by its methods")  # not reached: it is known
cdef Method own_as_raw = <Method>(<void **>&as_raw_definition.ml_meth)[0]


cdef object tracked_as_raw(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names):
    ptr = own_as_raw(self, args, count, names)
    note_handed_out(ptr, "lent")
    return ptr


cdef void *tracked_unwrap(object ref) except? NULL:
    cdef void *raw = unwrap(ref)
    note_handed_out(<uintptr_t>raw, "lent")
    return raw


cdef void *tracked_new_with(
        const VMExternVTable *vtable, int (*init)(void *, void *) noexcept, void *ctx) except NULL:
    cdef void *raw = new_with(vtable, init, ctx)
    cdef Quiet quiet
    if vtable.drop_slow != drop_anywhere:       # its end would not be seen
        quiet_begin(&quiet)
        track_made(<uintptr_t>raw, vtable.type_name, event_here("made"))
        quiet_end(&quiet)
    return raw


# --- Who tracks ---------------------------------------------------------------------

cdef Watch watch
watch.made = note_made
watch.freed = note_freed

cdef bytes own_folder = os.fsencode(os.path.dirname(__file__) + os.sep)
track_own_folder = own_folder

cdef struct Tracking:
    Tracking *next
    bint is_in          # the list
    Py_ssize_t frames
    size_t kept

cdef Tracking *trackings = NULL     # track_lock()
cdef size_t tracking_changes = 0    # likewise: of the list


cdef void watch_if(bint on) noexcept:
    """Has makings and freeings noted, or not any more. track_lock(), so that no record outlives what sees its block's
    end: the watch, and free_block(), which asks `frames_most`."""
    global spare_pair_count
    if on == track.is_on:
        return
    if on:
        free_spare_pairs()
        block_set_watch(&watch)
    track.is_on = on
    if not on:
        track_forget()
        block_set_watch(NULL)
        atomic_count_store(&frames_most, 0)
    spare_pair_count = SPARE_LIMIT if on else 0     # with all there may be, none is kept: each block is made and freed


cdef void retrack() noexcept:
    """Does what the trackings are for; once more if another thread has changed them meanwhile. Runs no code."""
    cdef Tracking *tracking
    cdef size_t changes, kept
    cdef Py_ssize_t frames
    cdef bint on
    while True:
        frames = kept = 0
        track_lock()
        changes = tracking_changes
        tracking = trackings
        while tracking != NULL:
            frames = max(frames, tracking.frames)
            kept = max(kept, tracking.kept)
            tracking = tracking.next
        if trackings != NULL:
            atomic_count_store(&frames_most, frames)
        atomic_count_store(&track.most_kept, kept)
        track_unlock()
        track_keep()
        track_lock()
        on = trackings != NULL
        watch_if(on)
        track_unlock()
        set_give_raw(tracked_give_raw if on else give_raw)
        slot_store(<void **>&c_api.new_with, <void *>tracked_new_with if on else <void *>new_with)
        slot_store(<void **>&c_api.unwrap, <void *>tracked_unwrap if on else <void *>unwrap)
        slot_store(<void **>&as_raw_definition.ml_meth, <void *>tracked_as_raw if on else <void *>own_as_raw)
        if changes == track_read(&tracking_changes):
            return


@cython.final
cdef class _Tracking:
    """Tracks as long as it lives, or until its end(): so many calls are noted of each event, so many freed blocks
    kept; the largest figures of all trackings count."""
    cdef Tracking tracking

    def __cinit__(self, Py_ssize_t frames, Py_ssize_t kept):
        global trackings, tracking_changes
        if frames < 1 or kept < 0:
            raise ValueError("frames must be at least 1, and kept blocks 0")
        self.tracking.frames = frames
        self.tracking.kept = kept
        track_lock()
        tracking_changes += 1
        self.tracking.next = trackings
        self.tracking.is_in = True
        trackings = &self.tracking
        track_unlock()
        retrack()

    def end(self):
        """Once more does nothing."""
        global trackings, tracking_changes
        cdef Tracking **link = &trackings
        cdef bint was_in
        track_lock()
        was_in = self.tracking.is_in
        if was_in:
            tracking_changes += 1
            while link[0] != NULL and link[0] != &self.tracking:     # NULL: half begun in the parent of this child
                link = &link[0].next
            if link[0] != NULL:
                link[0] = self.tracking.next
            self.tracking.is_in = False
        track_unlock()
        if was_in:
            retrack()

    def never_end(self):
        """Nor as the interpreter does: compiled code may drop what it should not still later."""
        Py_INCREF(<PyObject *>self)

    def __dealloc__(self):
        self.end()


if not track_at_forks():
    raise MemoryError("no memory for what externref does at a fork")     # not reached: no memory at import


def _is_tracking():
    cdef bint is_so
    track_lock()
    is_so = trackings != NULL
    track_unlock()
    return is_so


# --- What externref.debug shows -----------------------------------------------------

cdef object text(const char *utf8):
    return utf8.decode("utf-8", "replace")


cdef tuple history_of(Record *record):
    cdef list events = []
    cdef list calls
    cdef Event *event = record.events
    cdef size_t i
    while event != NULL:
        calls = []
        for i in range(event.length):
            calls.append((text(event.calls[i].file), text(event.calls[i].function), event.calls[i].line))
        events.append((text(event.what), tuple(calls)))
        event = event.before
    events.reverse()
    return tuple(events)


cdef tuple row_of(Look *look, object payload_type, Record *record):
    """What debug.py makes a Block of; `record` may be NULL."""
    # declared: Cython 3.3.1 does not come to an end of inferring it
    cdef tuple facts = (look.address, payload_type, look.count, look.handles, look.state & EXTERNREF_STATE_LENDS,
                        look.state & EXTERNREF_STATE_EXPOSED != 0, look.state & EXTERNREF_STATE_REGISTERED != 0,
                        look.vtable.size, look.vtable.align)
    return (facts, 0, ()) if record == NULL else (facts, record.serial, history_of(record))


def _tracked():
    """A row for each block that was made while somebody tracked and lives, the oldest first."""
    cdef list rows = []
    cdef Copy *copies = NULL
    cdef Py_ssize_t i
    cdef Py_ssize_t length = track_copies(&copies)
    if length < 0:
        raise MemoryError("no memory for the list of references")
    try:
        for i in range(length):
            rows.append(row_of(&copies[i].look, text(copies[i].record.payload_type), copies[i].record))
    finally:
        for i in range(length):
            copy_free(&copies[i])
        free(copies)
    return rows


cdef struct TypedLook:
    Look look
    PyObject *payload_class     # owned; NULL for a native payload

cdef struct TypedLooks:
    TypedLook *looks
    size_t length
    size_t room


cdef void look_at_type(VMExternData *data, TypedLook *typed) noexcept:
    cdef PyObject *payload = payload_of(data)
    look_at(data, &typed.look)
    typed.payload_class = NULL
    if payload != NULL:
        typed.payload_class = <PyObject *>Py_TYPE(payload)
        Py_INCREF(typed.payload_class)


cdef object type_in(TypedLook *typed):
    """The payload type's name. Takes the reference to the class."""
    cdef PyObject *payload_class = typed.payload_class
    typed.payload_class = NULL
    if payload_class == NULL:
        return vtable_name(typed.look.vtable)
    cls = own_reference(payload_class)
    return PyType_GetName(<PyTypeObject *>cls)


cdef void look_at_registered(uintptr_t address, void *context) noexcept:
    cdef TypedLooks *found = <TypedLooks *>context
    if found.length < found.room:
        look_at_type(<VMExternData *>address, &found.looks[found.length])
    found.length += 1


def _registered():
    """A row for each block whose address was handed out and that lives, without its history."""
    cdef TypedLooks found
    cdef list rows = []
    cdef size_t i
    found.looks = NULL
    found.length = 0
    while True:
        found.room = found.length
        found.length = 0
        registry_each(look_at_registered, &found)
        if found.length <= found.room:
            break
        for i in range(found.room):
            Py_XDECREF(found.looks[i].payload_class)    # not reached: without a GIL alone
        free(found.looks)
        found.looks = <TypedLook *>malloc(found.length * sizeof(TypedLook))
        if found.looks == NULL:
            raise MemoryError("no memory for the list of references")
    try:
        for i in range(found.length):
            rows.append(row_of(&found.looks[i].look, type_in(&found.looks[i]), NULL))
    finally:
        for i in range(found.length):
            Py_XDECREF(found.looks[i].payload_class)
        free(found.looks)
    return rows


def _row(VMExternRef ref not None):
    """The row of one block."""
    cdef Section section
    cdef TypedLook typed
    cdef Copy copy
    cdef bint is_spent
    copy.record = NULL
    section_begin(&section, <PyObject *>ref)
    is_spent = ref._data == NULL
    if not is_spent:
        look_at_type(<VMExternData *>ref._data, &typed)
        if not track_copy(typed.look.address, &copy):
            copy.record = NULL
    section_end(&section)
    if is_spent:
        refuse_moved()
    try:
        return row_of(&typed.look, type_in(&typed), copy.record)
    finally:
        if copy.record != NULL:
            copy_free(&copy)


def _newest_serial():
    return track_read(&track.made)


def _mistakes_made():
    return track_read(&track.mistake_count)


def _mistakes(size_t before):
    """What compiled code did wrong, in words: what was found after so many mistakes, the newest thousand."""
    cdef char words[TRACK_TEXT]
    cdef list found = []
    cdef size_t number, count
    with nogil:     # it may have much to say
        track_look()
    count = track_read(&track.mistake_count)
    number = max(before, count - min(<size_t>TRACK_MISTAKES, count))
    while number < track_read(&track.mistake_count) and len(found) < TRACK_MISTAKES:
        if track_mistake(number, words):    # it may have made room for another meanwhile
            found.append(text(words))
        number += 1
    return found
