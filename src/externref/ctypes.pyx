# cython: language_level=3, auto_pickle=False, autotestdict=False, freethreading_compatible=True
"""References in ctypes: what functions and callbacks take and return. docs/ctypes.md has an example of each.

    lib.keep.argtypes = [VMExternRef]               # lends for the call; None passes NULL
    lib.take.restype = externref.ctypes.moved       # a VMExternRef comes back, or None for NULL

    @externref.ctypes.callback(None, externref.ctypes.lent, ctypes.c_int)
    def on_event(ref, event): ...                   # gets a VMExternRef, or None for NULL

An argument is VMExternRef's own affair, in `_core/pointers.pxi`, which needs ctypes, and not this module.
"""

cimport cython

from externref._core cimport VMExternRef, take_handed_out
from externref._python cimport hidden

import ctypes

from externref import _core

cdef extern from "Python.h":
    void PyErr_SetObject(object, object) noexcept
    void PyErr_WriteUnraisable(object) noexcept

__all__ = ["callback", "lent", "moved"]

# In C: finalizers may call at exit, when the names of modules are gone.
cdef object simple_type = ctypes._SimpleCData
cdef object c_void_p = ctypes.c_void_p
cdef object option_into_raw = _core.option_into_raw


# --- Results ------------------------------------------------------------------------

cdef object address_of(object word):
    """The address, an int, or None for NULL. ctypes makes an instance first, for a subclass of `moved` or `lent`."""
    word = word     # own it: see _python.pxd
    return word.value if isinstance(word, simple_type) else word


class Result:
    """What `moved` and `lent` share. ctypes gives `_check_retval_` the whole word that a function returned."""

    def __new__(cls, *call):
        if not call:
            return super().__new__(cls)
        # As an errcheck, it does the same.
        if len(call) != 3 or getattr(call[1], "restype", None) is not c_void_p:
            raise TypeError(f"externref.ctypes.{cls.__name__} is a restype, and not to be called: "
                            f"function.restype = externref.ctypes.{cls.__name__}")
        return cls._check_retval_(call[0])


class moved(Result, simple_type):
    """The restype of a function that moves a reference out: it gives its count up, and the VMExternRef owns that.

        lib.take.restype = externref.ctypes.moved

    A call returns a VMExternRef, or None for NULL. It raises InvalidRawPointerError if there is no raw owner to take
    over from: then the function lends; and MemoryError if there is no memory for the wrapper: then the reference is
    dropped. Any thread; ctypes has the GIL again when it converts a result.
    """

    _type_ = "P"

    @staticmethod
    def _check_retval_(word, /):
        return take_handed_out(address_of(word))


class lent(Result, simple_type):
    """The restype of a function that lends a reference: it keeps its count, and the VMExternRef is a clone.

        lib.peek.restype = externref.ctypes.lent

    A call returns a VMExternRef, or None for NULL. It raises InvalidRawPointerError if the reference is gone, and
    OverflowError if its count is at its limit. Who lends keeps the count until the GIL is back, since another thread
    may run before; with a ctypes.PyDLL, which keeps the GIL, none does.
    """

    _type_ = "P"

    @staticmethod
    def _check_retval_(word, /):
        address = address_of(word)
        return None if address is None else VMExternRef.clone_from_raw(address)


def refuse_argument(cls, value, /):
    """Raises TypeError: `moved` and `lent` are not for argtypes."""
    raise TypeError(f"externref.ctypes.{cls.__name__} is for results: an argument that is lent has VMExternRef in "
                    "argtypes; one that is moved has ctypes.c_void_p, and is passed as ref.into_raw()")


# Only now: ctypes puts c_void_p's from_param, which takes nearly everything, into each new class with this _type_.
moved.from_param = classmethod(refuse_argument)
lent.from_param = classmethod(refuse_argument)

cdef object moved_type = moved
cdef object lent_type = lent


# --- Callbacks ----------------------------------------------------------------------

@cython.final
@cython.internal
cdef class Callback:
    """What ctypes calls. In C, so that no exception, Ctrl-C's neither, can leave it: ctypes would return a word
    that nobody has set."""
    cdef object function
    cdef object restype
    cdef tuple argtypes
    cdef object zero

    def __call__(self, *words):
        self = self     # own it: see _python.pxd
        result = self.zero
        try:
            result = self.given(self.function(*self.received(words)))
        except BaseException as error:
            PyErr_SetObject(type(error), error)
            PyErr_WriteUnraisable(self.function)
        return result

    cdef list received(self, tuple words):
        cdef list values = hidden(list(words))      # a finalizer that found it could take an address away
        cdef object error = None
        # First what was moved, all of it: it is ours, whatever is wrong with one.
        for i, kind in enumerate(self.argtypes):
            if kind is moved_type:
                try:
                    values[i] = take_handed_out(values[i])
                except Exception as failed:
                    error = failed
        if error is not None:
            raise error
        for i, kind in enumerate(self.argtypes):
            if kind is lent_type and values[i] is not None:
                values[i] = VMExternRef.clone_from_raw(values[i])
        return values

    cdef object given(self, object result):
        if self.restype is not moved_type:
            return result
        return option_into_raw(result.clone() if type(result) is VMExternRef else result)


cdef object plain(object kind):
    """As C has it, so that ctypes takes a callback for a parameter that is declared with c_void_p."""
    return c_void_p if kind is moved_type or kind is lent_type else kind


def callback(restype, *argtypes):
    """A decorator: the function as a C callback of these types, as by ctypes.CFUNCTYPE, references among them.

        @externref.ctypes.callback(externref.ctypes.moved, externref.ctypes.lent, ctypes.c_int)
        def transform(ref, number): ...

    restype: a ctypes type, None for void, or `moved`: the function returns a VMExternRef, a clone of which is moved
        to the caller, or None for NULL.
    argtypes: ctypes types; for `lent` the function gets a VMExternRef that is a clone, for `moved` one that owns the
        count which the caller gave up, for both None for NULL.
    Returns the decorator; what that returns is an instance of the CFUNCTYPE with c_void_p for `moved` and `lent`, and
        has to live as long as C code may call it.
    Raises TypeError if restype is `lent`, since nobody would own what the function lends, if what is decorated cannot
    be called, and as ctypes.CFUNCTYPE does.

    What the function raises goes to sys.unraisablehook; C code gets zero then, NULL for `moved`, where ctypes on its
    own leaves the result undefined. What was moved to it is dropped. C code may call it on any thread, without the GIL.
    """
    if restype is lent_type:
        raise TypeError("a callback cannot lend what it returns, which nobody would own: "
                        "use externref.ctypes.moved, and let the C code drop it")
    make = ctypes.CFUNCTYPE(plain(restype), *map(plain, argtypes))
    zero = None if restype is None or restype is ctypes.py_object else getattr(restype(), "value", None)

    def decorate(function, /):
        # Own it, and what is in this closure, before anything is allocated: see _python.pxd.
        function, result, words, nothing, made = function, restype, argtypes, zero, make
        cdef Callback called = Callback.__new__(Callback)
        if not callable(function):
            raise TypeError(f"a callback is made of a function, not of {type(function).__name__}")
        called.function = function
        called.restype = result
        called.argtypes = words
        called.zero = nothing
        return made(called)

    return decorate
