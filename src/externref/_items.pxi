# Items: what Func, Table, Global and Memory say and do alike in both runtimes.
#
# A part of wasm2c/_runtime.pyx and of wasmtime/_calls.pyx, each of which has the classes, HostFunc and Section. A
# Memory has enter() and leave(), which go around every use, with a Section of the caller's, and between them size()
# and base().

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memmove

cdef extern from "Python.h":
    object PySeqIter_New(object)


cdef str describe(object place, Py_ssize_t i, char letter):
    """What value i is for, in an error: "f() argument 2 (i32)". place: the function that it is passed to or comes
    from, or the words themselves."""
    if isinstance(place, Func):
        place = f"{(<Func>place).name}() argument {i + 1}"
    elif isinstance(place, HostFunc):
        place = f"{(<HostFunc>place).name}() result {i + 1}"
    return f"{place} ({name_of_type(letter)})"


cdef str shown_item(item):
    """A repr: the type as it is now, or why it cannot be told."""
    item = item     # own it: see _python.pxd
    cdef str name = f" {item.name!r}" if isinstance(item, Func) else ":"
    cdef object kind = type(item)       # now: its type runs code, which may let it go
    try:
        words = str(item.type)
    except Exception as reason:
        words = str(reason)
    return f"<{kind.__module__}.{kind.__name__}{name} {words}>"


# --- Stores -------------------------------------------------------------------------

cdef int refuse_closed() except -1:
    raise ValueError("the store is already closed")


cdef int refuse_thread() except -1:
    raise RuntimeError("the store is in use by another thread")


cdef int refuse_middle() except -1:
    raise RuntimeError("the store cannot be used by a finalizer or a signal handler that runs in the middle of its "
                       "work")


cdef int refuse_close() except -1:
    raise RuntimeError("the store is in use: it cannot be closed from within a call")


# --- Functions ----------------------------------------------------------------------

cdef class FuncSignature:
    """For inspect.signature(): of a function its own, of the class none, as of others that users do not make."""

    def __get__(self, func, owner):
        return None if func is None else (<Func?>func).new_signature()


cdef object refuse_keywords(Func function):
    raise TypeError(f"{function.name}() takes no keyword arguments")

# By its address: the compiler would put it into its only caller, and make the way of every call longer.
cdef object (*refuse_keywords_apart)(Func)
refuse_keywords_apart = refuse_keywords


cdef object func_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *names):
    cdef Func function = <Func>self     # there are callers that let it go in the middle of the call
    if has_keywords(names):
        return refuse_keywords_apart(function)
    return function.invoke(args, PyVectorcall_NARGS(nargsf), False)


cdef int refuse_count(Func function, Py_ssize_t given) except -1:
    raise TypeError(f"{function.name}() takes {len(function.type.params)} arguments, not {given}: {function.type}")


cdef int refuse_no_func(value, place, Py_ssize_t i) except -1:
    return refuse_kind("a Func or None", value, describe, place, i, FUNCREF)


cdef int refuse_func(place, Py_ssize_t i) except -1:
    raise ValueError(f"{describe(place, i, FUNCREF)}: the function is of another store")


# --- Tables and globals -------------------------------------------------------------

cdef uintptr_t index_within(number, uint64_t size, str kind) except? <uintptr_t>-1:
    cdef uintptr_t index
    if not fits_address(number, &index) or index >= size:
        raise IndexError(f"index {shown(number)} of a {kind} of {size}")
    return index


cdef int require_elements(first, count, uint64_t size) except -1:
    if first < 0 or count < 0 or first + count > size:
        raise IndexError(f"elements {shown(first)} to {shown(first + count)} of a table of {size}")
    return 0


cdef int refuse_growth(str what, number) except -1:
    raise ValueError(f"a {what} cannot grow by {shown(number)}")


cdef int require_externref(char letter, str what) except -1:
    if letter != EXTERNREF and letter != NON_NULL:
        raise TypeError(f"{what} {name_of_type(letter)}")
    return 0


cdef int refuse_element_deletion() except -1:
    raise TypeError("an element of a table cannot be deleted; assign None")


cdef int refuse_value_deletion() except -1:
    raise TypeError("a global's value cannot be deleted; assign one")


cdef int refuse_immutable() except -1:
    raise TypeError("the global is immutable")


# --- Memories -----------------------------------------------------------------------

# Numbers are converted first, which can run any code. SAFETY: between the question where the bytes are and their copy
# nothing runs, and a memory never shrinks.

cdef int refuse_bytes(Memory self, first, last) except -1:
    raise IndexError(f"bytes {shown(first)} to {shown(last)} of a memory of {self.size()}")


cdef bytes read_bytes(Memory self, start, stop):
    """The bytes from start to stop, None for the end."""
    cdef Section section
    cdef uintptr_t first, last
    self, stop = self, stop     # own them: see _python.pxd
    start = PyNumber_Index(start)
    stop = None if stop is None else PyNumber_Index(stop)
    self.enter(&section)
    try:
        last = self.size()
        if not fits_address(start, &first) or first > last:
            refuse_bytes(self, start, last if stop is None else stop)
        if stop is not None and (not fits_address(stop, &last) or not first <= last <= self.size()):
            refuse_bytes(self, start, stop)
        return (<const char *>self.base())[first:last]
    finally:
        self.leave(&section)


cdef Py_ssize_t write_bytes(Memory self, data, start) except -1:
    """Copies all bytes of a buffer, or none; how many."""
    cdef Section section
    cdef Py_buffer buffer
    cdef uintptr_t first
    self, data = self, data     # own them: see _python.pxd
    start = PyNumber_Index(start)
    PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
    try:
        self.enter(&section)
        try:
            if not fits_address(start, &first) or first > self.size() or <size_t>buffer.len > self.size() - first:
                refuse_bytes(self, start, start + buffer.len)
            memmove(self.base() + first, buffer.buf, buffer.len)    # it may be this memory's
        finally:
            self.leave(&section)
        return buffer.len
    finally:
        PyBuffer_Release(&buffer)


cdef object get_bytes(Memory self, index):
    """A byte, or those of a slice."""
    cdef Section section
    self, index = self, index   # own them: see _python.pxd
    if isinstance(index, slice):
        start, stop = places_of(self, index)
        return read_bytes(self, start, stop)
    number = PyNumber_Index(index)
    self.enter(&section)
    try:
        return self.base()[index_within(number, self.size(), "memory")]
    finally:
        self.leave(&section)


cdef int set_bytes(Memory self, index, value) except -1:
    """A byte, or as many as a slice has."""
    cdef Section section
    self, index, value = self, index, value     # own them: see _python.pxd
    if isinstance(index, slice):
        data = memoryview(value)
        start, stop = places_of(self, index)
        if data.nbytes != stop - start:
            raise ValueError(f"{data.nbytes} bytes for {stop - start} bytes of a memory")
        write_bytes(self, data, start)
        return 0
    number, byte = PyNumber_Index(index), PyNumber_Index(value)
    if not 0 <= byte <= 255:
        raise ValueError(f"a byte is from 0 to 255, not {shown(byte)}")
    self.enter(&section)
    try:
        self.base()[index_within(number, self.size(), "memory")] = byte
        return 0
    finally:
        self.leave(&section)


cdef tuple places_of(Memory self, given):
    """Where a slice begins and ends."""
    start, stop, step = given.indices(len(self))
    if step != 1:
        raise ValueError("a slice of a memory has no step")
    return start, max(start, stop)


cdef int refuse_byte_deletion() except -1:
    raise TypeError("a byte of a memory cannot be deleted; assign 0")
