# Memories: bytes in and out, copied.
#
# A part of _calls.pyx.

cdef extern from "_core/locks.h":
    ctypedef struct Section:
        pass


@cython.final
@cython.no_gc_clear
cdef class Memory:
    """A linear memory of a wasmtime.Store, bound by bind(): bytes that are copied in and out.

    len(m) in bytes, read, write, grow; m[i] and m[i] = byte, m[a:b] and m[a:b] = data, which takes as many bytes
    as the slice has. It has no buffer for a memoryview: when it grows, by anybody's doing, it may move, so its
    address is asked for at every use. read() and write() raise IndexError out of bounds; a slice ends there.

    Raises IndexError for what is out of bounds, and otherwise what a Func raises. Needs the GIL.

    Source: wasmtime_memory_data, wasmtime_memory_data_size, wasmtime_memory_grow.
    """
    cdef StoreState state
    cdef wasmtime_memory_t item
    cdef readonly object store
    """The wasmtime.Store."""
    cdef object __weakref__

    def __cinit__(self, *given):
        require_maker(given, MAKER, MADE_OTHERWISE)

    @property
    def type(self):
        """Its MemoryType: pages now, and at most, or None; whether addresses have 64 bits."""
        self = self     # own it: see _python.pxd
        self.state.enter()
        try:
            item = copied_out(ffi.wasmtime_memory_t, &self.item, sizeof(wasmtime_memory_t))
            found = wasmtime.Memory._from_raw(item).type(self.store)
            return MemoryType(api.memory_size(self.state.context, &self.item), found.limits.max, found.is_64)
        finally:
            self.state.leave()

    def __len__(self):
        self.state.enter()
        try:
            return self.size()
        finally:
            self.state.leave()

    def __iter__(self):
        self = self     # own it: see _python.pxd
        return PySeqIter_New(self)

    def __bytes__(self):
        return self.read()

    def read(self, start=0, stop=None, /):
        """The bytes from start to stop, at first all, copied. IndexError if they are not all there."""
        return read_bytes(self, start, stop)

    def write(self, data, start=0, /):
        """Copies the bytes of a buffer to the memory, from start on; how many. IndexError if they do not all fit,
        and then nothing is written; TypeError and BufferError if it has no bytes."""
        return write_bytes(self, data, start)

    def __getitem__(self, index):
        return get_bytes(self, index)

    def __setitem__(self, index, value):
        set_bytes(self, index, value)

    def __delitem__(self, index):
        refuse_byte_deletion()

    def grow(self, pages, /):
        """Adds pages, of 64 KiB if its type says nothing else; how many there were. ValueError if there cannot be so
        many."""
        cdef uint64_t before = 0
        cdef wasmtime_error_t *error
        self = self     # own it: see _python.pxd
        number = PyNumber_Index(pages)
        self.state.enter()
        try:
            if not 0 <= number <= UINT64_MAX:
                self.refuse_to_grow(number)
            error = api.memory_grow(self.state.context, &self.item, number, &before)
            try:
                check(error)
            except wasmtime.WasmtimeError:
                self.refuse_to_grow(number)
            return before
        finally:
            self.state.leave()

    def __repr__(self):
        return shown_item(self)

    cdef int refuse_to_grow(self, number) except -1:
        return refuse_growth(f"memory of {api.memory_size(self.state.context, &self.item)} pages", number)

    cdef int enter(self, Section *unused) except -1:
        return self.state.enter()

    cdef void leave(self, Section *unused) noexcept:
        self.state.leave()

    cdef uint64_t size(self) noexcept:
        return api.memory_data_size(self.state.context, &self.item)

    cdef uint8_t *base(self) noexcept:
        return api.memory_data(self.state.context, &self.item)


cdef Memory new_memory(object store, StoreState state, const wasmtime_memory_t *item):
    cdef Memory self = <Memory>make_secretly(Memory, MAKER)
    self.item = item[0]
    self.state = state
    self.store = store
    return self


cdef Memory bind_memory(object store, StoreState state, object item):
    cdef wasmtime_memory_t memory
    copy_item(item._memory, ffi.wasmtime_memory_t, &memory, sizeof(wasmtime_memory_t))
    require_same_store(state, memory.item.store_id)
    return new_memory(store, state, &memory)
