# cython: language_level=3, binding=False, auto_pickle=False, autotestdict=False
"""The C half of externref.numba: what numba's generated code calls.

In nopython code a reference is a pointer to an NRT *meminfo*, the block that numba counts
its own values by. The meminfo has the record of one hold of the allocation, which it lets go
natively: on any thread, without the GIL. However many copies nopython code
makes of a reference, they share that hold::

    VMExternRef --unbox: clone--> meminfo --box: clone--> VMExternRef
                                     |
                      freed: end_record(record)
"""

from cpython.buffer cimport PyBUF_RECORDS
from cpython.exc cimport PyErr_SetObject
from cpython.float cimport PyFloat_AsDouble
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject
from libc.math cimport isfinite
from libc.stdint cimport uintptr_t

from externref._core cimport VMExternRef, end_record, is_native, new_record, object_of, register_raw, wrap_clone
from externref._numbers cimport PyLong_AsLongLongAndOverflow, shown
from externref._python cimport Py_DECREF, Py_INCREF, PyBufferProcs, TypeSlots

from externref._core import MovedError

cdef extern from *:
    """
    /* As numba/core/runtime/nrt_external.h has it; declared here so that the package
     * builds without numba. */
    typedef struct {
        void *allocate;
        void *allocate_external;
        void *(*manage_memory)(void *data, void (*dtor)(void *));
        void *acquire;
        void (*release)(void *meminfo);
        void *get_data;
    } NRTFunctions;
    """
    ctypedef struct NRTFunctions:
        void *(*manage_memory)(void *data, void (*dtor)(void *) noexcept) noexcept
        void (*release)(void *meminfo) noexcept

cdef extern from "Python.h":
    # Cython's own declarations take objects.
    ctypedef struct BufferView "Py_buffer":
        void *buf
        PyObject *obj
        Py_ssize_t len
        Py_ssize_t itemsize
        bint readonly
        int ndim
        char *format
        Py_ssize_t *shape
        Py_ssize_t *strides
        Py_ssize_t *suboffsets
        void *internal
    ctypedef struct BufferSlots "PyBufferProcs":
        int (*bf_getbuffer)(PyObject *, BufferView *, int) except -1
        void (*bf_releasebuffer)(PyObject *, BufferView *) noexcept

ctypedef const NRTFunctions *(*NRTGetAPI)() noexcept

cdef const NRTFunctions *nrt = NULL


cdef void *unbox(object ref) except NULL:
    """A new meminfo that owns a count of the reference's allocation; the caller owns it.

    TypeError, MovedError, OverflowError, MemoryError. Needs the GIL.
    """
    cdef void *record
    cdef void *meminfo
    if type(ref) is not VMExternRef:
        raise TypeError(f"expected a VMExternRef, not {type(ref).__name__}")
    register_raw((<VMExternRef>ref)._data)      # nopython code may hand out the address: ref.raw
    record = new_record(ref, True)              # and clone by it
    meminfo = nrt.manage_memory(record, end_record)
    if meminfo == NULL:
        end_record(record)
        raise MemoryError("no memory for a reference in nopython code")
    return meminfo


cdef class Constant:
    """A meminfo that compiled code refers to as a global; owned by whoever owns the code."""

    cdef void *meminfo

    def __cinit__(self, VMExternRef ref not None):
        self.meminfo = unbox(ref)

    def __dealloc__(self):
        if self.meminfo != NULL:
            nrt.release(self.meminfo)

    @property
    def address(self):
        return <uintptr_t>self.meminfo


# --- A look into a reference, from nopython code ------------------------------------
#
# An exception is handed to the generated code, which owns it and raises it once its own values are
# gone: numba leaks those that are live where a call fails. None returns from an except clause: see .ci/warnings.

cdef PyObject *owned(object value) noexcept:
    """A reference of the caller's."""
    Py_INCREF(<PyObject *>value)
    return <PyObject *>value


cdef bint fits(object number, int bits, bint signed):
    """Whether an int fits in so many bits."""
    cdef int overflow = 0
    cdef long long integer = PyLong_AsLongLongAndOverflow(number, &overflow)
    if signed:
        return not overflow and integer >> bits - 1 == (-1 if integer < 0 else 0)
    if bits == 64:
        return overflow == 0 and integer >= 0 or overflow > 0 and number <= 0xffffffffffffffff
    return not overflow and integer >> bits == 0


cdef object as_integer(object value, int bits, bint signed):
    cdef object number
    try:
        number = PyNumber_Index(value)
    except TypeError:
        if hasattr(type(value), "__index__"):
            raise
        raise TypeError(f"value_as: expected an int, not {type(value).__name__}") from None
    if not fits(number, bits, signed):
        raise OverflowError(f"value_as: {shown(number)} does not fit in {'' if signed else 'u'}int{bits}")
    return number


cdef object as_float(object value, int bits):
    cdef double number = PyFloat_AsDouble(value)
    if bits == 32 and isfinite(number) and not isfinite(<float>number):
        raise OverflowError(f"value_as: {number} does not fit in float32")
    return number


cdef object as_str(object value):
    if not isinstance(value, str):
        raise TypeError(f"value_as: expected a str, not {type(value).__name__}")
    return value


cdef PyObject *read_value(const void *raw, int kind, int bits, PyObject **error) noexcept:
    """The payload as an object that numba unboxes without fail, which the caller owns; or NULL, and
    the error, the caller's too. `kind` is as numpy's. Needs the GIL; arbitrary code."""
    cdef object value
    cdef PyObject *result = NULL
    try:
        value = object_of(raw)
        if kind == c"i" or kind == c"u":
            value = as_integer(value, bits, kind == c"i")
        elif kind == c"f":
            value = as_float(value, bits)
        elif kind == c"b":
            value = bool(value)
        else:
            value = as_str(value)
        result = owned(value)
    except BaseException as raised:
        error[0] = owned(raised)
    return result


cdef bint is_instance(const void *raw, const void *classes, PyObject **error) noexcept with gil:
    """isinstance() of two payloads; an error is the caller's. Takes the GIL; arbitrary code."""
    cdef bint result = False
    try:
        kinds = object_of(classes)
        result = not is_native(raw) and isinstance(object_of(raw), kinds)
    except BaseException as raised:
        error[0] = owned(raised)
    return result


cdef void raise_error(PyObject *error) noexcept with gil:
    """Sets an error that one of these gave, and takes it from the caller."""
    PyErr_SetObject(type(<object>error), <object>error)
    Py_DECREF(error)


cdef void forget_error(PyObject *error) noexcept with gil:
    Py_DECREF(error)


# --- Numba's dispatcher ---------------------------------------------------------------
#
# Numba's dispatcher finds the type of an argument by a *fingerprint*, which it has for
# builtins, arrays and buffers only. For any other object it raises and clears an exception
# and then asks Python code, which takes several times as long as the rest of the call. A
# buffer's fingerprint is its shape, its format and its Python type. So VMExternRef answers
# that one request, for a writable buffer with strides and a format, with an empty buffer of
# a format that nobody has: a pointer to a function without a type. Typed memoryviews of Cython's make the same
# request, and refuse the format. It refuses every other as before: it is not bytes-like.

cdef Py_ssize_t no_items = 0
cdef Py_ssize_t one_byte = 1


cdef int get_fingerprint(PyObject *self, BufferView *view, int flags) except -1:
    view.obj = NULL
    if flags != PyBUF_RECORDS:
        raise TypeError("a bytes-like object is required, not 'externref.VMExternRef'")
    if (<VMExternRef>self)._data == NULL:
        raise MovedError        # typeof_ref() will say more
    Py_INCREF(self)
    view.obj = self
    view.buf = b""
    view.len = 0
    view.itemsize = 1
    view.readonly = False
    view.ndim = 1
    view.format = b"X{}"
    view.shape = &no_items
    view.strides = &one_byte
    view.suboffsets = NULL
    view.internal = NULL
    return 0


cdef BufferSlots fingerprint
fingerprint.bf_getbuffer = get_fingerprint
fingerprint.bf_releasebuffer = NULL


def initialize(get_api):
    """Takes the address of NRT_get_api, after which the functions may be called; gives
    numba's dispatcher its fingerprint of a VMExternRef."""
    global nrt
    nrt = (<NRTGetAPI><uintptr_t>get_api)()
    (<TypeSlots *>VMExternRef).tp_as_buffer = <PyBufferProcs *>&fingerprint


# By the names that generated code has for them, also in another process with a later release: one whose arguments
# change needs another name.
SYMBOLS = {
    "externref_numba_unbox": <uintptr_t>&unbox,
    "externref_numba_box": <uintptr_t>wrap_clone,
    "externref_numba_read_value": <uintptr_t>&read_value,
    "externref_numba_is_instance": <uintptr_t>&is_instance,
    "externref_numba_raise_error": <uintptr_t>&raise_error,
    "externref_numba_forget_error": <uintptr_t>&forget_error,
}
