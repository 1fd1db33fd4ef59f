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

cdef extern from "wasm2c/enter.h":
    enum: MOST_FRAMES
    ctypedef struct Running:
        Wasm2cState seen
        void *innermost
        PyThreadState *thread
        void *base
        void *store
        long interrupted
        int64_t timeout
        MemoryQuota memory
        Quota tables
        int trapped
        int frame_count
        void *frames[MOST_FRAMES]
    Running *set_running(Running *) noexcept
    int enter(Running *, Wasm2cCall, void *, void *, uint64_t *, bint release_gil) noexcept
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


cdef int refuse_use(PyThreadState *thread) except -1:
    if thread == NULL:
        refuse_middle()
    if thread == PyThreadState_Get():
        raise RuntimeError("the store is in use by another greenlet")
    refuse_thread()


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
    cdef Roots roots            # the ring of live owners; this one stands for none
    cdef Running running        # what runs, if anything does
    cdef readonly bint closed
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
        self.running.store = <PyObject *>self
        self.activations = VMExternRefActivationsTable()
        self.activations.lends = False      # to no code that counts
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
        self.check()
        return self.collect()

    def close(self):
        """Drop every reference. Every operation on the store and what is in it raises ValueError
        from then on; the memory of instances goes with their last Python reference. Nothing
        if it is closed already.

        Raises RuntimeError while compiled code of the store is active.
        """
        if self.closed:
            return
        self.check()
        if self.running.innermost != NULL:
            refuse_close()
        self.closed = True
        self.pinned = ()
        self.activations.drop_all()

    def interrupt(self):
        """Stop the compiled code of the store that runs, on whatever thread: its calls from Python end with
        Trap("interrupted") as soon as they come to a loop or a call. Nothing if none runs. From any thread."""
        atomic_flag_swap(&self.running.interrupted, 1)

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, *exc_info):
        self.close()

    cdef inline int check(self) except -1:
        """Raises unless this thread may use the store now."""
        if self.closed:
            refuse_closed()
        if self.running.innermost != NULL and not is_here(&self.running):
            refuse_use(self.running.thread)
        return 0

    cdef int pin(self, Owner owner) except -1:
        """Makes the owner live as long as the store."""
        cdef tuple before, after
        while not owner.is_pinned:
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
        """gc(), for who has checked. Runs arbitrary code."""
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
            return table.sweep_unmarked()
        except MemoryError:
            table.unmark()      # the next collection would keep what is marked now
            raise

    cdef int collect_if_it_can(self) except -1:
        """A collection that the next one can do as well, where there is nobody to tell that there is no memory."""
        try:
            self.collect()
        except MemoryError:
            pass
        return 0

    cdef int make_room(self, Py_ssize_t count) except -1:
        """Makes the bump chunk have room for `count`, collecting if enough came in. May run
        arbitrary code, but none between the room and the return."""
        if self.activations.inserted() + count > self.activations.threshold:
            self.collect()
            self.check()
        return self.activations.make_room(count)

    cdef inline int adopt(self, const uint64_t *slots, const char *letters, Py_ssize_t count) except -1:
        """Moves the `count` holds in the slots into the table. May run arbitrary code before
        the first is moved; on failure none was."""
        cdef VMExternRefActivations *alloc = &self.activations.alloc
        self.check()
        if alloc.end - alloc.next < count:
            self.make_room(count)
        while letters[0] != 0:
            if letters[0] == EXTERNREF and get_ref(slots) != NULL:
                alloc.next[0] = held_word(get_ref(slots))
                alloc.next += 1
            slots += slots_of(letters[0])
            letters += 1
        return 0

    cdef int run(self, Wasm2cCall call, void *code, void *instance, uint64_t *slots, bint release_gil) except -1:
        """Runs compiled code. The caller has checked, and nothing ran since it inserted the arguments."""
        return self.require(self.run_for_reason(call, code, instance, slots, release_gil))

    cdef inline int run_for_reason(self, Wasm2cCall call, void *code, void *instance, uint64_t *slots,
                                   bint release_gil) noexcept:
        """As run(), but raises nothing: 0, or the reason that it was left, for require()."""
        return enter(&self.running, call, code, instance, slots, release_gil)

    cdef int require(self, int reason) except -1:
        """Raises for the reason that compiled code was left, or something could not be had; 0 is none."""
        if reason == 0:
            return 0
        if reason == WASM2C_RAISED:
            reraise()
        if reason == WASM2C_NO_MEMORY:
            raise MemoryError("no memory for a WebAssembly table or memory")
        if reason == WASM2C_TOO_MUCH:
            raise MemoryError("the store's memory_limit or table_limit does not allow a WebAssembly table or memory")
        raise new_trap(INTERRUPTED if reason == WASM2C_INTERRUPTED else REASONS[reason], self.frames())

    cdef tuple frames(self):
        """The functions that ran at the last trap, as far as they are known, the innermost first."""
        cdef Instance instance
        cdef Code code
        cdef int i, trapped = self.running.trapped, count = self.running.frame_count
        cdef void *addresses[MOST_FRAMES]
        cdef set codes
        cdef list frames
        memcpy(addresses, self.running.frames, sizeof(addresses))   # before anything runs, which may be compiled code
        codes = set()
        frames = []
        instance = self.instance_after(&self.roots)
        while instance is not None:
            codes.add(instance.code)    # which may collect, but not this instance
            instance = self.instance_after(&instance.roots)
        for i in range(count):
            for code in codes:
                index = code.index_at(<uintptr_t>addresses[i])
                if index is not None:
                    if not frames and trapped >= 0 and trapped != index:
                        frames.append(code.frame(trapped))      # that the compiler put into this one
                    frames.append(code.frame(index))
        return tuple(frames)

    cdef inline int settle(self) except -1:
        """At the end of a call: collects if it was the outermost and the chunk is full."""
        cdef VMExternRefActivationsTable table = self.activations
        if (self.running.innermost == NULL and table.alloc.next == table.alloc.end
                and table.inserted() >= table.threshold):
            self.collect_if_it_can()    # the call is over, and may have had effects
        return 0

    cdef object owner_of(self, void *address):
        """The Instance whose memory this is in."""
        cdef Instance instance = self.instance_after(&self.roots)
        while instance is not None:
            if instance.roots.start <= <char *>address < instance.roots.end:
                return instance
            instance = self.instance_after(&instance.roots)
        raise RuntimeError("this funcref's instance is not of the store")

    cdef Instance instance_after(self, Roots *roots):
        """The next in the ring; None if these are the last. One that is being deallocated is passed over."""
        roots = roots.next
        while roots != &self.roots:
            if roots.instance != NULL and Py_REFCNT(roots.instance) > 0:
                return <Instance>roots.instance
            roots = roots.next
        return None


cdef int clear_store(PyObject *self) noexcept:
    """For the cycle collector: closes the store, so that a finalizer that still has a part of it is told so."""
    cdef Store store = <Store>self
    store.closed = True
    store.pinned = ()
    store.activations.drop_all()
    return 0


(<TypeSlots *>Store).tp_clear = clear_store
