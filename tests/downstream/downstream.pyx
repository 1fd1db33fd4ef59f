# cython: language_level=3
"""A slot that owns a reference, written with `cimport`."""

from externref cimport VMExternRef

cdef extern from "externref_api.h":
    # From externref.h: any thread, no GIL.
    void *externref_clone(void *raw) nogil
    void externref_drop(void *raw) nogil
    size_t externref_strong_count(const void *raw) nogil
    # The C API: the GIL's holder.
    int externref_import() except -1
    object externref_wrap_clone(void *raw)
    object externref_object(const void *raw)

externref_import()


cdef class Slot:
    cdef void *raw      # owns a count; NULL if empty

    def put(self, VMExternRef ref):
        """Keeps a clone of `ref` in place of what was there; None empties the slot."""
        cdef void *old = self.raw
        if ref is not None and ref._data == NULL:
            raise ValueError("the reference was moved out")
        self.raw = NULL if ref is None else externref_clone(ref._data)
        with nogil:
            externref_drop(old)

    def get(self):
        """Another owner of what is there, or None."""
        return externref_wrap_clone(self.raw)

    @property
    def value(self):
        return externref_object(self.raw)

    def clone_and_drop(self, size_t times):
        """Without the GIL; the count afterwards."""
        cdef size_t _i
        cdef size_t count
        with nogil:
            for _i in range(times):
                externref_drop(externref_clone(self.raw))
            count = externref_strong_count(self.raw)
        return count

    def __dealloc__(self):
        externref_drop(self.raw)


def same(VMExternRef left not None, VMExternRef right not None):
    """One comparison of words."""
    return left._data == right._data


# What a typed memoryview takes: everything with a buffer of its items.

def first_byte(unsigned char[:] view):
    return view[0]


def first_number(double[:] view):
    return view[0]


def first_object(object[:] view):
    return view[0]


def first_of_strided(unsigned char[::1] view):
    return view[0]
