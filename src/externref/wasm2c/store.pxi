# Stores: whose thread may use one, collections and their roots, and entering compiled code.
#
# A part of _runtime.pyx.

cdef extern from "wasm2c/runtime.h":
    const int WASM2C_RAISED
    const int WASM2C_NO_MEMORY

cdef extern from "wasm2c/enter.h":
    int enter(Wasm2cCall, void *, void *, uint64_t *, void **) noexcept
    void mark_frames(RefSet *, const void *) noexcept

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


# Where an instance keeps references: its own tables and globals, not those it imports.
cdef struct Roots:
    Roots *previous
    Roots *next
    PyObject *instance      # its Instance, borrowed
    char *start             # of its memory
    char *end
    size_t table_count
    Wasm2cTable **tables
    size_t global_count
    void ***globals


cdef int refuse_closed() except -1:
    raise RuntimeError("the store is closed")


cdef int refuse_thread() except -1:
    raise RuntimeError("the store is in use by another thread")


cdef int raise_reason(int reason) except -1:
    if reason == WASM2C_RAISED:
        reraise()
    if reason == WASM2C_NO_MEMORY:
        raise MemoryError("no memory for a WebAssembly table or memory")
    raise Trap(REASONS[reason])


@cython.final
@cython.no_gc_clear     # the activations table clears itself
cdef class Store:
    """Store()\n--\n
    What a group of instances shares: their references are owned and collected together.

    Close it, or use it in a with block; or let it go: objects that only the store
    keeps alive, and that lead back to it, are found by Python's cycle collector.

    One thread at a time: while compiled code of the store is on one thread's stack, every operation
    on another raises RuntimeError.
    """
    cdef readonly VMExternRefActivationsTable activations
    """The table that owns the references passed in, a VMExternRefActivationsTable: to be looked at, len() and
    `collections`. Its other operations raise RuntimeError, since the store alone knows the roots."""
    cdef Roots roots            # the ring of live instances; this one stands for none
    cdef Py_ssize_t depth       # calls into compiled code that have not returned
    cdef unsigned long thread   # whose they are
    cdef void *stack_base       # the end of the stack they use
    cdef readonly bint closed
    cdef set pinned             # instances that live as long as the store
    cdef object __weakref__

    def __cinit__(self):
        self.activations = VMExternRefActivationsTable()
        self.activations.lends = False      # to no code that counts
        self.roots.next = self.roots.previous = &self.roots
        self.pinned = set()

    def gc(self):
        """Drop every reference that compiled code can no longer reach; how many were dropped.

        Right at any moment, also in an imported function: references on the stack are
        kept, and with them, perhaps, some that merely look as if they were there.
        Finalizers run before it returns.
        Raises RuntimeError if the store is closed or in use by another thread, MemoryError.
        """
        self.check()
        return self.collect()

    def close(self):
        """Drop every reference. Every operation on the store and what is in it raises RuntimeError
        from then on; the memory of instances goes with their last Python reference. Nothing
        if it is closed already.

        Raises RuntimeError while compiled code of the store is active.
        """
        if self.closed:
            return
        self.check()
        if self.depth:
            raise RuntimeError("the store is active: it cannot be closed from within a call")
        self.closed = True
        self.pinned = set()
        self.activations.drop_all()

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, *exc_info):
        self.close()

    cdef inline int check(self) except -1:
        """Raises unless this thread may use the store now."""
        if self.closed:
            refuse_closed()
        if self.depth != 0 and self.thread != PyThread_get_thread_ident():
            refuse_thread()
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
        if self.depth != 0:
            mark_frames(entries, self.stack_base)
        return table.sweep_unmarked()

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

    cdef int run(self, Wasm2cCall call, void *code, void *instance, uint64_t *slots) except -1:
        """Runs compiled code. The caller has checked, and nothing ran since it inserted the arguments."""
        cdef int reason
        if self.depth == 0:
            self.thread = PyThread_get_thread_ident()
            self.stack_base = NULL
        self.depth += 1
        reason = enter(call, code, instance, slots, &self.stack_base)
        self.depth -= 1
        if reason != 0:
            raise_reason(reason)
        return 0

    cdef inline int settle(self) except -1:
        """At the end of a call: collects if it was the outermost and the chunk is full."""
        cdef VMExternRefActivationsTable table = self.activations
        if self.depth == 0 and table.alloc.next == table.alloc.end and table.inserted() >= table.threshold:
            self.collect()
        return 0

    cdef object owner_of(self, void *address):
        """The Instance whose memory this is in."""
        cdef Roots *roots = self.roots.next
        while roots != &self.roots:
            if roots.start <= <char *>address < roots.end:
                return <object>roots.instance
            roots = roots.next
        raise RuntimeError("this funcref's instance is not of the store")
