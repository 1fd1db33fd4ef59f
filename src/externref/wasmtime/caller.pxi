# Callers: the instance whose code calls a host function, while it calls.
#
# A part of _calls.pyx.

cdef object MISSING = object()
cdef uint8_t MEMORY_KIND = ffi.WASMTIME_EXTERN_MEMORY.value


@cython.final
@cython.no_gc_clear
cdef class Caller:
    """Who calls a host function of func(..., access_caller=True): its first argument, valid during that call.

    caller["memory"], or caller.memory, is what the calling instance exports under the name, bound: a Memory, Func,
    Table or Global, which stays valid after the call. caller.get(name) is None, or what is given, if there is
    nothing. An export named `get` or `store`, or with an underscore before it, is caller["get"]. bind() and func()
    take a caller for its store.

    Raises KeyError or AttributeError if nothing has the name, TypeError for what cannot be bound, RuntimeError once
    the call is over or on another thread. Needs the GIL.

    Source: wasmtime_caller_export_get.
    """
    cdef StoreState state
    cdef wasmtime_caller_t *pointer     # NULL once the call is over

    def __cinit__(self, *given):
        require_maker(given, MAKER, "a host function of externref.wasmtime.func() gets these")

    @property
    def store(self):
        """The wasmtime.Store."""
        self.require_call()
        return self.state.living_store()

    def get(self, name, default=None, /):
        """The export, bound, or the default if there is none."""
        return self.look_up(name, default)

    def __getitem__(self, name):
        name = name     # own it: see _python.pxd
        item = self.look_up(name, MISSING)
        if item is MISSING:
            raise KeyError(name)
        return item

    def __getattr__(self, name):
        self, name = self, name     # own them: see _python.pxd
        if name.startswith("_"):
            # Not for the guest to answer: wasmtime-py takes what has a `_context` for a store.
            raise AttributeError(name)
        item = self.look_up(name, MISSING)
        if item is MISSING:
            raise AttributeError(f"the calling instance exports nothing named {name!r}")
        return item

    def __iter__(self):
        raise TypeError("a caller's exports are found by name only")

    def __contains__(self, name):
        name = name     # own it: see _python.pxd
        return self.look_up(name, MISSING) is not MISSING

    def __repr__(self):
        return f"<externref.wasmtime.Caller{', the call is over' if self.is_over() else ''}>"

    cdef bint is_over(self) noexcept:
        return slot_load(<void **>&self.pointer) == NULL

    cdef int require_call(self) except -1:
        if self.is_over():
            raise RuntimeError("the call is over")
        if not owner_is(&self.state.owner, PyThread_get_thread_ident()):
            refuse_thread()
        return 0

    cdef object look_up(self, object name, object missing):
        cdef wasmtime_extern_t found
        cdef Py_ssize_t size
        cdef bytes encoded
        if not isinstance(name, str):
            raise TypeError(f"an export's name is a str, not {type(name).__name__}")
        encoded = (<str>name).encode("utf-8", "surrogatepass")     # which no name has: wasmtime finds none
        size = len(encoded)
        store = self.store
        self.state.enter()
        try:
            # SAFETY: the call is not over, and enter() found that it is this thread's.
            if not api.caller_export_get(self.pointer, <const char *>encoded, size, &found):
                return missing
            if found.kind == MEMORY_KIND:
                return new_memory(store, self.state, &found.of.memory)
            item = copied_out(ffi.wasmtime_extern_t, &found, sizeof(wasmtime_extern_t))
            return bind_item(store, self.state, wrap_extern(item), False, name)
        finally:
            self.state.leave()


cdef Caller new_caller(StoreState state, wasmtime_caller_t *pointer):
    cdef Caller self = <Caller>make_secretly(Caller, MAKER)
    self.state = state
    self.pointer = pointer
    return self


cdef object store_of(object given):
    """What is given as a store: the store of a caller."""
    return (<Caller>given).store if isinstance(given, Caller) else given
