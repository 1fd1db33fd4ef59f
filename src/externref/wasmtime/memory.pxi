# Memories: bytes in and out, copied.
#
# A part of _calls.pyx.

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize


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
    cdef object __weakref__

    def __cinit__(self, *given):
        require_maker(given, MAKER, MADE_OTHERWISE)

    @property
    def type(self):
        """Its wasmtime.MemoryType, as wasmtime-py has it."""
        self.state.enter()
        try:
            item = copied_out(ffi.wasmtime_memory_t, &self.item, sizeof(wasmtime_memory_t))
            return wasmtime.Memory._from_raw(item).type(self.store)
        finally:
            self.state.leave()

    def __len__(self):
        self.state.enter()
        try:
            return self.size()
        finally:
            self.state.leave()

    def __iter__(self):
        return PySeqIter_New(self)

    def __bytes__(self):
        return self.read()

    def read(self, start=0, stop=None, /):
        """The bytes from start to stop, at first all, copied. IndexError if they are not all there."""
        first = PyNumber_Index(start)
        last = None if stop is None else PyNumber_Index(stop)
        self.state.enter()
        try:
            if last is None:
                last = self.size()
            self.require_range(first, last)
            result = PyBytes_FromStringAndSize(NULL, last - first)
            # SAFETY: a memory never shrinks, and nothing runs between the question where it is and the copy.
            memcpy(PyBytes_AS_STRING(result), self.base() + <size_t>first, <size_t>(last - first))
            return result
        finally:
            self.state.leave()

    def write(self, data, start=0, /):
        """Copies the bytes of a buffer to the memory, from start on; how many. IndexError if they do not all fit,
        and then nothing is written; TypeError and BufferError if it has no bytes."""
        cdef Py_buffer buffer
        first = PyNumber_Index(start)
        PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
        try:
            self.state.enter()
            try:
                self.require_range(first, first + buffer.len)
                # SAFETY: as in read().
                memmove(self.base() + <size_t>first, buffer.buf, buffer.len)
            finally:
                self.state.leave()
            return buffer.len
        finally:
            PyBuffer_Release(&buffer)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.read(*self.places(index))
        number = PyNumber_Index(index)
        self.state.enter()
        try:
            return self.byte_at(number)[0]
        finally:
            self.state.leave()

    def __setitem__(self, index, value):
        if isinstance(index, slice):
            self.write_slice(index, memoryview(value))
            return
        number, byte = PyNumber_Index(index), PyNumber_Index(value)
        if not 0 <= byte <= 255:
            raise ValueError(f"a byte is from 0 to 255, not {shown(byte)}")
        self.state.enter()
        try:
            self.byte_at(number)[0] = byte
        finally:
            self.state.leave()

    def __delitem__(self, index):
        raise TypeError("a byte of a memory cannot be deleted; assign 0")

    def grow(self, pages, /):
        """Adds pages, of 64 KiB if its type says nothing else; how many there were. ValueError if there cannot be so
        many."""
        cdef uint64_t before = 0
        cdef wasmtime_error_t *error
        number = PyNumber_Index(pages)
        if not 0 <= number <= UINT64_MAX:
            raise ValueError(f"a memory cannot grow by {shown(number)} pages")
        self.state.enter()
        try:
            error = api.memory_grow(self.state.context, &self.item, number, &before)
            try:
                check(error)
            except wasmtime.WasmtimeError as failure:
                found = api.memory_size(self.state.context, &self.item)
                raise ValueError(f"a memory of {found} pages cannot grow by {number}") from failure
            return before
        finally:
            self.state.leave()

    def __repr__(self):
        return "<externref.wasmtime.Memory>"

    cdef size_t size(self) noexcept:
        return api.memory_data_size(self.state.context, &self.item)

    cdef uint8_t *base(self) noexcept:
        return api.memory_data(self.state.context, &self.item)

    cdef int require_range(self, first, last) except -1:
        cdef size_t size = self.size()
        if not 0 <= first <= last <= size:
            raise IndexError(f"bytes {shown(first)} to {shown(last)} of a memory of {size}")
        return 0

    cdef uint8_t *byte_at(self, number) except NULL:
        cdef size_t size = self.size()
        if not 0 <= number < size:
            raise IndexError(f"index {shown(number)} of a memory of {size}")
        return self.base() + <size_t>number

    cdef tuple places(self, object given):
        """Where a slice begins and ends."""
        start, stop, step = given.indices(len(self))
        if step != 1:
            raise ValueError("a slice of a memory has no step")
        return start, max(start, stop)

    cdef int write_slice(self, object given, object data) except -1:
        start, stop = self.places(given)
        if data.nbytes != stop - start:
            raise ValueError(f"{data.nbytes} bytes for {stop - start} bytes of a memory")
        self.write(data, start)
        return 0


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
