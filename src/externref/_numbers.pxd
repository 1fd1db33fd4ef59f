"""Python's numbers as machine code has them, and back: i32, i64, f32, f64, and the machine word.

Errors name the place: a runtime says what the number is for by a Describe, which is only called
when there is something to complain about.
"""

from cpython.float cimport PyFloat_AsDouble
from cpython.number cimport PyNumber_Index
from libc.math cimport isfinite
from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.string cimport memcpy

from externref._python cimport PyErr_Occurred

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object, int *) except? -1
    unsigned long long PyLong_AsUnsignedLongLong(object) except? 0xffffffffffffffff
    size_t PyLong_AsSize_t(object) noexcept
    Py_ssize_t PyLong_AsSsize_t(object) noexcept
    void PyErr_Clear() noexcept

cdef extern from *:
    """
    #define EXTERNREF_I32 'i'
    #define EXTERNREF_I64 'j'
    #define EXTERNREF_F32 'f'
    #define EXTERNREF_F64 'd'
    #define EXTERNREF_EXTERNREF 'e'
    #define EXTERNREF_FUNCREF 'r'
    #define EXTERNREF_NON_NULL 'n'
    #define EXTERNREF_V128 'o'
    #define EXTERNREF_V128_SIZE 16

    typedef union {
        int32_t i32;
        int64_t i64;
        float f32;
        double f64;
    } ExternrefNumber;
    """
    # A WebAssembly value type, as a byte of a signature: the letter that wasm2c has for it, if it knows the type.
    const char I32 "EXTERNREF_I32"
    const char I64 "EXTERNREF_I64"
    const char F32 "EXTERNREF_F32"
    const char F64 "EXTERNREF_F64"
    const char EXTERNREF "EXTERNREF_EXTERNREF"
    const char FUNCREF "EXTERNREF_FUNCREF"
    const char NON_NULL "EXTERNREF_NON_NULL"
    const char V128 "EXTERNREF_V128"
    enum: V128_SIZE "EXTERNREF_V128_SIZE"

    ctypedef union Number "ExternrefNumber":
        int32_t i32
        int64_t i64
        float f32
        double f64

# What value `index` of a type is for, in an error: "parameter 2 (i32)".
ctypedef str (*Describe)(object place, Py_ssize_t index, char letter)


cdef inline str name_of_type(char letter):
    """The name of a value type."""
    return {I32: "i32", I64: "i64", F32: "f32", F64: "f64", V128: "v128", EXTERNREF: "externref",
            FUNCREF: "funcref", NON_NULL: "(ref extern)"}[letter]


cdef inline int64_t limit_of(str name, value, unit, str what="a number") except? -1:
    """A limit that a user gave, in units of which `what` it is to be has so many. ValueError."""
    if not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be {what} that is not negative, or None, not {value!r}")
    return int(min(value * unit, 2**62))    # centuries, exbibytes: as much again can be added


cdef inline str shown(object number):
    """A number for an error's text: Python refuses to write out an int of thousands of digits."""
    if isinstance(number, int) and number.bit_length() > 1024:
        return f"an int of {number.bit_length()} bits"
    return repr(number)


cdef inline int refuse_kind(str expected, object value, Describe describe, object place, Py_ssize_t index,
                            char letter) except -1:
    raise TypeError(f"{describe(place, index, letter)}: expected {expected}, not {type(value).__name__}") from None


cdef inline int refuse_range(object value, Describe describe, object place, Py_ssize_t index, char letter) except -1:
    raise OverflowError(
        f"{describe(place, index, letter)}: {shown(value)} does not fit in {name_of_type(letter)}") from None


cdef inline int put_number(Number *out, char letter, object value, Describe describe, object place,
                           Py_ssize_t index) except -1:
    """A Python number as one of the type, the other bits zero; an int signed, or the same bits unsigned.

    TypeError, OverflowError, what the value's conversion raises. May run arbitrary code.
    """
    cdef long long integer
    cdef double real = 0
    cdef int overflow = 0
    out.i64 = 0
    if letter == I32 or letter == I64:
        if type(value) is not int:
            try:
                value = PyNumber_Index(value)
            except TypeError:
                refuse_kind("an int", value, describe, place, index, letter)
        integer = PyLong_AsLongLongAndOverflow(value, &overflow)
        if letter == I32:
            if overflow or integer < -0x80000000 or integer > 0xffffffff:
                refuse_range(value, describe, place, index, letter)
            out.i32 = <int32_t>integer
        else:
            if overflow < 0 or overflow > 0 and value > 0xffffffffffffffff:
                refuse_range(value, describe, place, index, letter)
            out.i64 = <int64_t>PyLong_AsUnsignedLongLong(value) if overflow else integer
        return 0
    try:
        real = PyFloat_AsDouble(value)
    except TypeError:
        refuse_kind("a number", value, describe, place, index, letter)
    except OverflowError:
        refuse_range(value, describe, place, index, letter)
    if letter == F64:
        out.f64 = real
        return 0
    out.f32 = <float>real
    if isfinite(real) and not isfinite(out.f32):
        refuse_range(value, describe, place, index, letter)
    return 0


cdef inline object get_number(const Number *number, char letter):
    """The Python number; ints are signed."""
    if letter == I32:
        return number.i32
    if letter == I64:
        return number.i64
    if letter == F32:
        return number.f32
    return number.f64


cdef inline int put_v128(void *out, object value, Describe describe, object place, Py_ssize_t index) except -1:
    """16 bytes, as they are. TypeError, ValueError."""
    if not isinstance(value, bytes):
        refuse_kind("16 bytes", value, describe, place, index, V128)
    if len(<bytes>value) != V128_SIZE:
        raise ValueError(f"{describe(place, index, V128)}: a v128 has 16 bytes, not {len(<bytes>value)}")
    memcpy(out, <const char *>(<bytes>value), V128_SIZE)
    return 0


cdef inline bint fits_address(object number, uintptr_t *address) noexcept:
    """Whether an int is an address, which is put in place then."""
    # Declared noexcept: a try statement would save and restore the exception state at every call.
    address[0] = PyLong_AsSize_t(number)
    if address[0] == <uintptr_t>-1 and PyErr_Occurred() != NULL:
        PyErr_Clear()
        return False
    return True


cdef inline str no_address(object number):
    return f"{shown(number)} is no address: it does not fit in a word"


cdef inline uintptr_t address_of(object value) except? 0:
    """An int as an address. TypeError, OverflowError; may run arbitrary code."""
    cdef uintptr_t address
    number = PyNumber_Index(value)
    if not fits_address(number, &address):
        raise OverflowError(no_address(number))
    return address


cdef inline uintptr_t word_of(object value) except? 0:
    """An int as a machine word; a negative one in two's complement. TypeError, OverflowError; may run
    arbitrary code."""
    cdef uintptr_t word
    number = PyNumber_Index(value)
    if number < 0:
        word = <uintptr_t>PyLong_AsSsize_t(number)
        if word != <uintptr_t>-1 or PyErr_Occurred() == NULL:
            return word
        PyErr_Clear()
    elif fits_address(number, &word):
        return word
    raise OverflowError(f"{shown(number)} does not fit in a machine word")


cdef inline tuple results_of(object returned, Py_ssize_t count, str function):
    """What a host function with several results returned, as a tuple. TypeError if these are not so many values."""
    try:
        values = iter(returned)
    except TypeError as error:
        raise TypeError(f"{function} must return {count} values, not {type(returned).__name__}") from error
    results = tuple(values)
    if len(results) != count:
        raise TypeError(f"{function} must return {count} values, not {len(results)}")
    return results
