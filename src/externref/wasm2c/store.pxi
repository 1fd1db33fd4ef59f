# Stores: whose thread may use one, collections and their roots, and entering compiled code.
#
# A part of _runtime.pyx.

cdef extern from "wasm2c/runtime.h":
    const int WASM2C_RAISED
    const int WASM2C_NO_MEMORY
    const int WASM2C_TOO_MUCH
    const int WASM2C_INTERRUPTED

cdef extern from "_core/atomics.h" nogil:
    long atomic_flag_swap(long *, long) noexcept
    void *atomic_pointer_load(void **) noexcept

cdef extern from "_core/locks.h":
    const bint EXTERNREF_FREE_THREADED
    ctypedef struct Section:
        pass
    void section_begin(Section *, PyObject *) noexcept
    void section_end(Section *) noexcept

cdef extern from "wasm2c/enter.h":
    enum: MOST_FRAMES
    ctypedef struct Trapped:
        int function
        int count
        void *frames[MOST_FRAMES]
    ctypedef struct Running:
        Wasm2cState seen
        void *innermost
        PyThreadState *thread
        void *base
        PyObject *guard
        long interrupted
        int64_t timeout
        MemoryQuota memory
        Quota tables
        Trapped trapped
    Running *set_running(Running *) noexcept
    int enter(Running *, Section *, Wasm2cCall, void *, void *, uint64_t *, bint release_gil) noexcept
    void mark_frames(RefSet *, const void *) noexcept
    bint is_here(const Running *) noexcept
    bint is_called_by_none() noexcept

# wasm_rt_strerror of wasm2c's runtime, by wasm_rt_trap_t.
cdef tuple REASONS = (
    "No error",
    "Out-of-bounds access in linear memory or a table",
    "Integer overflow on divide or truncation",
    "Integer divide by zero",
    "Conversion from NaN to integer",
    "Unreachable instruction executed",
    "Invalid call_indirect or return_call_indirect",
    "Null reference",
    "Uncaught exception",
    "Unaligned atomic memory access",
    "Call stack exhausted",
)
cdef str INTERRUPTED = "interrupted"


cdef class Store


cdef int refuse_store(Store store) except -1:
    cdef void *thread = atomic_pointer_load(<void **>&store.running.thread)
    if store.closed:
        refuse_closed()
    if thread == NULL:
        refuse_middle()
    if thread == <void *>PyThreadState_Get():
        raise RuntimeError("the store is in use by another greenlet")
    refuse_thread()


cdef int make_room(VMExternRefActivationsTable table, size_t count) except -1:
    return table.make_room(count)

# Called so, an error is a return value, -1, with the exception set. A try statement would
# save and restore the exception state at every call.
cdef int (*refuse_store_later)(Store) noexcept
cdef int (*make_room_or_fail)(VMExternRefActivationsTable, size_t) noexcept
refuse_store_later = <int (*)(Store) noexcept>refuse_store
make_room_or_fail = <int (*)(VMExternRefActivationsTable, size_t) noexcept>make_room


@cython.final
@cython.no_gc_clear     # clear_store() does it
cdef class Store:
    """Store(*, timeout=None, memory_limit=None, table_limit=10_000_000)\n--\n
    What a group of instances shares: their references are owned and collected together.

    timeout: seconds that a call from Python may take, those of the host's functions included, or None; after it
        compiled code that runs, or comes back from the host, ends with Trap("interrupted").
    memory_limit: bytes that all memories may have together, or None; table_limit: elements of all tables. More is
        MemoryError when an instance is made; memory.grow and table.grow give -1.
    Raises ValueError for a limit that is negative or no number.

    Close it, or use it in a with block; or let it go: objects that only the store
    keeps alive, and that lead back to it, are found by Python's cycle collector.

    One thread at a time: while compiled code of the store is on one thread's stack, every operation
    on another raises RuntimeError, but interrupt().
    """
    cdef readonly VMExternRefActivationsTable activations
    """The table that owns the references passed in, a VMExternRefActivationsTable: to be looked at, len() and
    `collections`. Its other operations raise RuntimeError, since the store alone knows the roots."""
    # Without a GIL its critical section is the store's: what looks at the table looks at what the store changes. No
    # Python code runs in it, nor compiled code: while that runs, `running` keeps other threads out.
    cdef Roots roots            # the ring of live owners; this one stands for none
    cdef Running running        # what runs, if anything does
    cdef readonly bint closed
    """Whether close() was called: then nothing of it can be used."""
    cdef tuple pinned           # owners that live as long as the store; nobody can take one out of a tuple
    cdef object __weakref__

    def __cinit__(self, *, timeout=None, memory_limit=None, table_limit=10_000_000):
        hidden(self)    # until it is whole: the limits may run other code
        # Of no time at all there is a nanosecond: 0 is for none.
        self.running.timeout = 0 if timeout is None else max(<int64_t>limit_of("timeout", timeout, 10**9), <int64_t>1)
        cdef MemoryQuota *memory = &self.running.memory
        memory.bytes.limit = SIZE_MAX if memory_limit is None else limit_of("memory_limit", memory_limit, 1)
        memory.room.limit = MOST_ROOM_OF_STORE
        self.running.tables.limit = SIZE_MAX if table_limit is None else limit_of("table_limit", table_limit, 1)
        self.activations = VMExternRefActivationsTable()
        self.activations.lends = False      # to no code that counts
        self.running.guard = <PyObject *>self.activations
        self.roots.next = self.roots.previous = &self.roots
        self.pinned = ()
        PyObject_GC_Track(<PyObject *>self)

    def gc(self):
        """Drop every reference that compiled code can no longer reach; how many were dropped.

        Right at any moment, also in an imported function: references on the stack are
        kept, and with them, perhaps, some that merely look as if they were there.
        Finalizers run before it returns.
        Raises ValueError if the store is closed, RuntimeError if it is in use by another thread, MemoryError.
        """
        self = self     # own it: see _python.pxd
        return self.collect()

    def close(self):
        """Drop every reference. Every operation on the store and what is in it raises ValueError
        from then on; the memory of instances goes with their last Python reference. Nothing
        if it is closed already.

        Raises RuntimeError while compiled code of the store is active.
        """
        cdef tuple pinned
        self = self     # own it: see _python.pxd
        with cython.critical_section(self.activations):
            if self.closed:
                return
            self.check()
            if self.running.innermost != NULL:
                refuse_close()
            self.closed = True
            pinned, self.pinned = self.pinned, ()
        pinned = None
        self.activations.drop_all()

    def interrupt(self):
        """Stop the compiled code of the store that runs, on whatever thread: its calls from Python end with
        Trap("interrupted") as soon as they come to a loop or a call. Nothing if none runs. From any thread."""
        atomic_flag_swap(&self.running.interrupted, 1)

    def __enter__(self):
        with cython.critical_section(self.activations):
            self.check()
        return self

    def __exit__(self, *exc_info):
        self.close()

    cdef inline int check(self) except -1:
        """Raises unless this thread may use the store now. In the section."""
        if not self.is_usable():
            refuse_store(self)
        return 0

    cdef inline bint is_usable(self) noexcept:
        return not self.closed and (self.running.innermost == NULL or is_here(&self.running))

    cdef int pin(self, Owner owner) except -1:
        """Makes the owner live as long as the store."""
        cdef tuple before, after
        while not owner.is_pinned:
            with cython.critical_section(self.activations):
                before = self.pinned
                after = before + (owner,)
                if self.pinned is before:       # to make a tuple may collect, and a finalizer pin another
                    self.pinned = after
                    owner.is_pinned = True
        return 0

    cdef int unpin(self, Owner owner) except -1:
        """Undoes pin(), for an owner that nothing in the store refers to."""
        cdef tuple before, after
        cdef list others
        while owner.is_pinned:
            with cython.critical_section(self.activations):
                before = self.pinned
                others = hidden([])
                for pinned in before:
                    if pinned is not owner:
                        others.append(pinned)
                after = tuple(others)
                if self.pinned is before:       # as above
                    self.pinned = after
                    owner.is_pinned = False
        return 0

    cdef Py_ssize_t collect(self) except -1:
        """gc(). Runs arbitrary code."""
        cdef RefSet old
        with cython.critical_section(self.activations):
            self.check()
            self.detach_unreachable(&old)
        return self.activations.drop_detached(old)

    cdef int detach_unreachable(self, RefSet *old) except -1:
        """Takes out of the table what compiled code cannot reach. In the section; nothing runs."""
        cdef VMExternRefActivationsTable table = self.activations
        cdef RefSet *entries = &table.over_approximated
        cdef Roots *roots = self.roots.next
        cdef size_t i
        table.flush()
        while roots != &self.roots:
            for i in range(roots.table_count):
                refset_mark_words(entries, roots.tables[i].data,
                                  <void **>roots.tables[i].data + roots.tables[i].size)
            for i in range(roots.global_count):
                refset_mark(entries, <uintptr_t>roots.globals[i][0])
            roots = roots.next
        if self.running.innermost != NULL:
            mark_frames(entries, self.running.base)
        try:
            return table.detach_unmarked(old)
        except MemoryError:
            table.unmark()      # the next collection would keep what is marked now
            raise

    cdef int collect_if_it_can(self) except -1:
        """A collection that the next one can do as well, where there is nobody to tell that there is no memory, or that
        the store is in use. Runs arbitrary code."""
        cdef RefSet old
        cdef bint is_detached = False
        with cython.critical_section(self.activations):
            if self.is_usable() and self.activations.owned() != 0:
                try:
                    self.detach_unreachable(&old)
                    is_detached = True
                except MemoryError:
                    pass
        if is_detached:
            self.activations.drop_detached(old)
        return 0

    cdef inline bint has_room(self, Py_ssize_t count) noexcept:
        """Whether the bump chunk has room for `count` more. In the section."""
        return self.activations.alloc.end - self.activations.alloc.next >= count

    cdef int collect_if_due(self, Py_ssize_t count) except -1:
        """Collects if there is no room for `count` more, and enough came in. Runs arbitrary code."""
        cdef VMExternRefActivationsTable table = self.activations
        cdef bint is_due
        with cython.critical_section(table):
            is_due = not self.has_room(count) and table.inserted() + count > table.threshold
        if is_due:
            self.collect()
        return 0

    cdef inline int adopt(self, const uint64_t *slots, const char *letters, Py_ssize_t count) noexcept:
        """Moves the `count` holds in the slots into the table, if this thread may use the store now. On failure none
        was moved: -1, with the exception set, to be raised when the section is over. In the section; nothing runs."""
        cdef VMExternRefActivations *alloc = &self.activations.alloc
        if not self.is_usable():
            return refuse_store_later(self)
        if count == 0:
            return 0
        if not self.has_room(count) and make_room_or_fail(self.activations, count) != 0:
            return -1
        while letters[0] != 0:
            if letters[0] == EXTERNREF and get_ref(slots) != NULL:
                alloc.next[0] = held_word(get_ref(slots))
                alloc.next += 1
            slots += slots_of(letters[0])
            letters += 1
        return 0

    cdef inline int run(self, Section *section, Wasm2cCall call, void *code, void *instance, uint64_t *slots,
                        bint release_gil, Trapped *trapped) noexcept:
        """Runs compiled code: 0, or the reason that it was left, for require() with what is put in `trapped`. In the
        section, which ends meanwhile; the caller has checked in it, and inserted the arguments."""
        cdef int reason = enter(&self.running, section, call, code, instance, slots, release_gil)
        if reason != 0:
            trapped[0] = self.running.trapped       # before the next call, of another thread or a finalizer
        return reason

    cdef int require(self, int reason, const Trapped *trapped) except -1:
        """Raises for the reason that compiled code was left, or something could not be had; 0 is none."""
        if reason == 0:
            return 0
        if reason == WASM2C_RAISED:
            reraise()
        if reason == WASM2C_NO_MEMORY:
            raise MemoryError("no memory for a WebAssembly table or memory")
        if reason == WASM2C_TOO_MUCH:
            raise MemoryError("the store's memory_limit or table_limit does not allow a WebAssembly table or memory")
        raise new_trap(INTERRUPTED if reason == WASM2C_INTERRUPTED else REASONS[reason], self.frames(trapped))

    cdef tuple frames(self, const Trapped *trapped):
        """The functions that ran, as far as they are known, the innermost first."""
        cdef Code code
        cdef int i
        cdef set codes = hidden(set())
        cdef list frames = []
        cdef Roots *roots
        with cython.critical_section(self.activations):
            roots = self.roots.next
            while roots != &self.roots:
                if roots.code != NULL:      # which an Instance has until it is out of the ring
                    codes.add(<object>roots.code)
                roots = roots.next
        for i in range(trapped.count):
            for code in codes:
                index = code.index_at(<uintptr_t>trapped.frames[i])
                if index is not None:
                    if not frames and trapped.function >= 0 and trapped.function != index:
                        frames.append(code.frame(trapped.function))     # that the compiler put into this one
                    frames.append(code.frame(index))
        return tuple(frames)

    cdef inline bint is_full(self) noexcept:
        """At the end of a call: whether it was the outermost, and filled the chunk. In the section."""
        cdef VMExternRefActivationsTable table = self.activations
        return (self.running.innermost == NULL and table.alloc.next == table.alloc.end
                and table.inserted() >= table.threshold)

    cdef object owner_of(self, void *address):
        """The Instance whose memory this is in. In the section."""
        cdef Roots *roots = self.roots.next
        while roots != &self.roots:
            if roots.start <= <char *>address < roots.end:
                # One whose functions can be values is pinned until the store is closed. Others may be about to go, on
                # another thread. With a GIL a collection may have closed the store, and that one be about to go.
                if roots.is_pinned[0] and Py_REFCNT(roots.instance) > 0:
                    return <object>roots.instance
            roots = roots.next
        raise RuntimeError("this funcref's instance is not of the store")


cdef int clear_store(PyObject *self) noexcept:
    """For the cycle collector: closes the store, so that a finalizer that still has a part of it is told so."""
    cdef Store store = <Store>self
    cdef tuple pinned = None
    with cython.critical_section(store.activations):
        if store.running.innermost != NULL:     # another thread has revived it: a later collection finds it again
            return 0
        store.closed = True
        pinned, store.pinned = store.pinned, ()
    pinned = None
    store.activations.drop_all()
    return 0


(<TypeSlots *>Store).tp_clear = clear_store
