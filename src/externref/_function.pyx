# cython: language_level=3, binding=False, auto_pickle=False, autotestdict=False, freethreading_compatible=True
# cython: embedsignature=True, embedsignature.format=clinic
"""externref.Function: calls to compiled code by wasmtime's protocol for references.

A parameter or result that is a reference is a raw pointer, null for None. It moves (the
callee, or we, own its count afterwards; no count changes on the way) or it is lent (it is
valid during the call, and whoever wants to keep it clones it). There is no ctypes and no
libffi in between: the C function is called through a pointer of its own type.
"""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uintptr_t
from libc.string cimport memset

from externref._core cimport (
    drain_pending, end_hold, externref_clone, hold_registered, lend_value, move_out, release, take_raw)
from externref._numbers cimport word_of
from externref._python cimport (
    PyErr_Occurred, PyVectorcall_NARGS, call_by_vectorcall, has_keywords, items_of, let_all_go, name_publicly, own_all,
    reraise, vectorcallfunc)

cdef extern from "_function/call.h" nogil:
    const int MAX_WORDS
    uintptr_t call_word(void *function, int count, const uintptr_t *words) noexcept
    void call_void(void *function, int count, const uintptr_t *words) noexcept


cdef inline int convert_one(Function self, PyObject *const *args, uintptr_t *words, int i) except -1:
    if self.letters[i] == c'w':
        words[i] = word_of(<object>args[i])
    else:
        # Registered: the callee may give the address to Python as an int, by another way.
        words[i] = <uintptr_t>hold_registered(<object>args[i], self.letters[i] == c'r')
    return 0


cdef int convert_owned(Function self, PyObject *const *args, uintptr_t *words, int first) except -1:
    """convert() from `first` on, whose __index__ may make the caller let the arguments go."""
    cdef PyObject **owned = own_all(args, self.count)
    cdef int i
    try:
        for i in range(first, self.count):
            convert_one(self, owned, words, i)
    finally:
        let_all_go(owned, self.count)
    return 0


cdef int convert(Function self, PyObject *const *args, uintptr_t *words) except -1:
    """Makes the words of a call; those of references are holds, until the callee has them. Arbitrary code."""
    cdef int i
    for i in range(self.count):
        if self.letters[i] == c'w' and type(<object>args[i]) is not int:
            return convert_owned(self, args, words, i)
        convert_one(self, args, words, i)
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

    __class_getitem__ = classmethod(type(list[int]))    # types.GenericAlias: Function[int], by what a call returns
    cdef vectorcallfunc vectorcall      # CPython finds it by tp_vectorcall_offset
    cdef void *function
    cdef int count
    cdef bint any_lent
    cdef bint any_moved
    cdef readonly bint release_gil
    """Whether calls let other threads run Python meanwhile."""
    cdef readonly str params
    """A letter for each parameter: 'm', 'r' or 'w'."""
    cdef readonly str result
    """The result's letter, '' for void."""
    cdef char letters[8]
    cdef char result_letter

    def __cinit__(self, address, str params not None, str result not None="", *, bint release_gil=False):
        if len(params) > MAX_WORDS:
            raise ValueError(f"at most {MAX_WORDS} parameters, not {len(params)}")
        for i, letter in enumerate(params):
            if letter not in "mrw":
                raise TypeError(f"parameter {i + 1} is {letter!r}: use 'm' (moved), 'r' (lent) or 'w' (word)")
            self.letters[i] = ord(letter)
        if result not in ("", "m", "r", "w"):
            raise TypeError(f"the result is {result!r}: use 'm' (moved), 'r' (lent), 'w' (word) or '' (void)")
        self.function = <void *>word_of(address)
        if self.function == NULL:
            raise ValueError("the address of the function is null")
        self.count = len(params)
        self.any_lent = "r" in params
        self.any_moved = "m" in params
        self.params = params
        self.result = result
        self.result_letter = ord(result) if result else 0
        self.release_gil = release_gil
        self.vectorcall = function_vectorcall

    @property
    def address(self):
        """The address of the C function, an int."""
        return <uintptr_t>self.function

    def __call__(self, *args):
        self = self     # own it: see _python.pxd
        return self.invoke(items_of(args), len(args), False)

    def refs(self, *args):
        """As a call, but a resulting reference comes back as a VMExternRef, None for null."""
        self = self     # own it: see _python.pxd
        return self.invoke(items_of(args), len(args), True)

    def __repr__(self):
        self = self     # own it: see _python.pxd
        return f"<externref.Function at {<uintptr_t>self.function:#x}, {self.params!r} -> {self.result!r}>"

    cdef object invoke(self, PyObject *const *args, Py_ssize_t nargs, bint as_refs):
        cdef uintptr_t words[8]
        cdef uintptr_t word = 0
        if nargs != self.count:
            raise TypeError(f"{self!r} takes {self.count} arguments, not {nargs}")
        memset(words, 0, sizeof(words))
        if convert_or_fail(self, args, words) != 0:
            self.end_holds(words, c'm')     # the callee did not get them
            self.end_holds(words, c'r')
            reraise()
        if self.any_moved or self.any_lent:
            drain_pending()     # not before: the caller may let go of the arguments
        # From here to the callee nothing runs: what is moved to it is nobody's hold any more.
        if self.any_moved:
            self.move_arguments(words)
        if self.release_gil:
            with nogil:
                word = self.call(words)
                if self.result_letter == c'r':      # lent until other code runs, which begins with the GIL
                    externref_clone(<void *>word)
        else:
            word = self.call(words)
            if PyErr_Occurred() != NULL:
                if self.result_letter == c'm':
                    release(<void *>word)       # before other code can take its count
                self.end_holds(words, c'r')
                reraise()
        if not self.any_lent:
            return self.convert_result(word, as_refs)
        try:
            return self.convert_result(word, as_refs)
        finally:    # after the result was counted: it may be one of these
            self.end_holds(words, c'r')

    cdef void move_arguments(self, const uintptr_t *words) noexcept:
        cdef int i
        for i in range(self.count):
            if self.letters[i] == c'm':
                move_out(<void *>words[i])

    cdef void end_holds(self, const uintptr_t *words, char letter) noexcept:
        """Ends the holds of the parameters of this letter. Arbitrary code."""
        cdef int i
        for i in range(self.count):
            if self.letters[i] == letter:
                end_hold(<void *>words[i], letter == c'r')

    cdef uintptr_t call(self, const uintptr_t *words) noexcept nogil:
        if self.result_letter == 0:
            call_void(self.function, self.count, words)
            return 0
        return call_word(self.function, self.count, words)

    cdef object convert_result(self, uintptr_t word, bint as_refs):
        cdef void *raw = <void *>word
        if self.result_letter == 0:
            return None
        if self.result_letter == c'w':
            return word
        # Both count the reference as ours before anything else runs.
        if self.result_letter == c'm' or self.release_gil:
            return take_raw(raw, as_refs)
        return lend_value(raw, as_refs)


cdef object function_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *names):
    cdef Function function = <Function>self     # there are callers that let it go in the middle of the call
    if has_keywords(names):
        raise TypeError("a Function takes no keyword arguments")
    return function.invoke(args, PyVectorcall_NARGS(nargsf), False)


call_by_vectorcall(Function, <Py_ssize_t>&(<Function>NULL).vectorcall)
name_publicly(Function, "externref.Function")
