# cython: language_level=3, binding=False, auto_pickle=False, autotestdict=False
# cython: embedsignature=True, embedsignature.format=clinic
"""externref.Function: calls to compiled code by the seed's protocol.

A parameter or result that is a reference is a raw pointer, null for None. It moves (the
callee, or we, own its count afterwards; no count changes on the way) or it is lent (it is
valid during the call, and whoever wants to keep it clones it). There is no ctypes and no
libffi in between: the C function is called through a pointer of its own type.
"""

cimport cython
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport uintptr_t
from libc.string cimport memset

from externref._core cimport (
    is_native, object_of, register_raw, release, take_object, to_raw, wrap, wrap_clone)

cdef extern from "Python.h":
    Py_ssize_t PyVectorcall_NARGS(size_t) noexcept
    Py_ssize_t PyTuple_GET_SIZE(PyObject *) noexcept
    PyObject *PyErr_Occurred() noexcept
    ctypedef struct PyTupleObject:
        PyObject **ob_item
    unsigned long Py_TPFLAGS_HAVE_VECTORCALL
    ctypedef struct TypeSlots "PyTypeObject":
        unsigned long tp_flags
        Py_ssize_t tp_vectorcall_offset

cdef extern from *:
    """
    static int reraise(void) { return -1; }
    """
    int reraise() except -1     # passes on the exception that C code set

cdef extern from "_function/call.h" nogil:
    const int MAX_WORDS
    uintptr_t call_word(void *function, int count, const uintptr_t *words) noexcept
    void call_void(void *function, int count, const uintptr_t *words) noexcept

ctypedef object (*vectorcallfunc)(PyObject *, PyObject *const *, size_t, PyObject *)


cdef uintptr_t word_of(object value) except? 0:
    """An int as a machine word; a negative one in two's complement."""
    number = PyNumber_Index(value)
    try:
        return <uintptr_t><Py_ssize_t>number if number < 0 else <uintptr_t>number
    except OverflowError:
        raise OverflowError(f"{number} does not fit in a machine word") from None


cdef int convert(Function self, PyObject *const *args, uintptr_t *words) except -1:
    """Makes the words of a call; those of references are owned, until the callee has them."""
    cdef int i
    for i in range(self.count):
        if self.codes[i] == c'w':
            words[i] = word_of(<object>args[i])
        else:
            words[i] = <uintptr_t>to_raw(<object>args[i])
            # The callee may give the address to Python as an int, by another way.
            register_raw(<void *>words[i])
    return 0

# Called so, an error is a return value, -1, with the exception set. A try statement would
# save and restore the exception state at every call.
ctypedef int (*plain_convert)(Function, PyObject *const *, uintptr_t *) noexcept
cdef plain_convert convert_or_fail = <plain_convert>convert


@cython.final
cdef class Function:
    """Function(address, params, result='', *, release_gil=False)\n--\n
    A C function whose parameters and result are machine words or references.

    address: of the function, an int. Whatever it belongs to must stay loaded.
    params: a letter for each parameter, at most eight:
        'm'  a reference moved in: the callee owns a count
        'r'  a reference lent: the callee may use it during the call, and clone it to keep it
        'w'  a machine word: an int from -2**63 to 2**64 - 1 (with 64 bits), a size or an address
    result: 'm', a reference that the callee moves out to us; 'r', one that it lends; 'w', a
        word, unsigned; '' for void.
    release_gil: let other threads run Python during the call. The callee must not use Python.

    For a reference pass a VMExternRef, which stays valid and is another owner ('m') or an owner
    for the call ('r'); any other object, which is boxed; or None, which travels as null. A
    resulting reference comes back as its object, None for null; as a VMExternRef if its
    payload is a native one, or from `refs`.

    Raises TypeError for a letter that is none of these, ValueError for more than eight or a null
    address, OverflowError for an address that does not fit. A call raises TypeError for
    a wrong number of arguments or an argument that is no int where a word is due,
    OverflowError for one that does not fit, MovedError for a spent wrapper, MemoryError: all before
    the callee runs, and nothing has moved then. An exception that the callee
    sets, holding the GIL, comes out of the call.

    Nothing checks that the function has these parameters: a wrong one corrupts memory.

    Source: "Reference Counting Protocol and Wasm Functions" of externref.rs.
    """
    cdef vectorcallfunc vectorcall      # CPython finds it by tp_vectorcall_offset
    cdef void *function
    cdef int count
    cdef bint any_lent
    cdef readonly bint release_gil
    cdef readonly str params
    cdef readonly str result
    cdef char codes[8]
    cdef char result_code

    def __cinit__(self, address, str params not None, str result not None="", *, bint release_gil=False):
        if len(params) > MAX_WORDS:
            raise ValueError(f"at most {MAX_WORDS} parameters, not {len(params)}")
        for i, code in enumerate(params):
            if code not in "mrw":
                raise TypeError(f"parameter {i + 1} is {code!r}: use 'm' (moved), 'r' (lent) or 'w' (word)")
            self.codes[i] = ord(code)
        if result not in ("", "m", "r", "w"):
            raise TypeError(f"the result is {result!r}: use 'm' (moved), 'r' (lent), 'w' (word) or '' (void)")
        self.function = <void *>word_of(address)
        if self.function == NULL:
            raise ValueError("the address of the function is null")
        self.count = len(params)
        self.any_lent = "r" in params
        self.params = params
        self.result = result
        self.result_code = ord(result) if result else 0
        self.release_gil = release_gil
        self.vectorcall = function_vectorcall

    @property
    def address(self):
        """The address of the C function, an int."""
        return <uintptr_t>self.function

    def __call__(self, *args):
        return self.invoke((<PyTupleObject *>args).ob_item, len(args), False)

    def refs(self, *args):
        """As a call, but a resulting reference comes back as a VMExternRef, None for null."""
        return self.invoke((<PyTupleObject *>args).ob_item, len(args), True)

    def __repr__(self):
        return f"<externref.Function at {<uintptr_t>self.function:#x}, {self.params!r} -> {self.result!r}>"

    cdef object invoke(self, PyObject *const *args, Py_ssize_t nargs, bint as_refs):
        cdef uintptr_t words[8]
        cdef uintptr_t word = 0
        if nargs != self.count:
            raise TypeError(f"{self!r} takes {self.count} arguments, not {nargs}")
        memset(words, 0, sizeof(words))
        if convert_or_fail(self, args, words) != 0:
            self.give_back(words, c'm')     # the callee did not get them
            self.give_back(words, c'r')
            reraise()
        if self.release_gil:
            with nogil:
                word = self.call(words)
        else:
            word = self.call(words)
            if PyErr_Occurred() != NULL:
                self.give_back(words, c'r')
                if self.result_code == c'm':
                    release(<void *>word)
                reraise()
        if not self.any_lent:
            return self.convert_result(word, as_refs)
        try:
            return self.convert_result(word, as_refs)
        finally:    # after the result was cloned: it may be one of these
            self.give_back(words, c'r')

    cdef void give_back(self, const uintptr_t *words, char code) noexcept:
        """Releases the references of this code among the words."""
        cdef int i
        for i in range(self.count):
            if self.codes[i] == code:
                release(<void *>words[i])

    cdef uintptr_t call(self, const uintptr_t *words) noexcept nogil:
        if self.result_code == 0:
            call_void(self.function, self.count, words)
            return 0
        return call_word(self.function, self.count, words)

    cdef object convert_result(self, uintptr_t word, bint as_refs):
        cdef void *raw = <void *>word
        if self.result_code == 0:
            return None
        if self.result_code == c'w':
            return word
        as_refs = as_refs or is_native(raw)
        if self.result_code == c'm':
            return wrap(raw) if as_refs else take_object(raw)
        return wrap_clone(raw) if as_refs else object_of(raw)


cdef object function_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *names):
    if names != NULL and PyTuple_GET_SIZE(names) != 0:
        raise TypeError("a Function takes no keyword arguments")
    return (<Function>self).invoke(args, PyVectorcall_NARGS(nargsf), False)


cdef void prepare_type() noexcept:
    # Cython knows no vectorcall for instances. By way of an argument tuple, a trip of an
    # object through an identity function took 0.46 of cffi's, in place of 0.29.
    cdef TypeSlots *cls = <TypeSlots *>Function
    cls.tp_vectorcall_offset = <Py_ssize_t>&(<Function>NULL).vectorcall
    cls.tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL


prepare_type()
