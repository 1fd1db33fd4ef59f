# cython: language_level=3
"""What a package does with externref by `cimport`: a slot that owns a reference, and a payload of its own."""

from libc.stdint cimport uintptr_t

from externref cimport (
    VMExternRef, externref_clone, externref_drop, externref_import, externref_object, externref_wrap_clone)

externref_import()

from externref cimport (
    EXTERNREF_ABI_VERSION, EXTERNREF_API_VERSION, EXTERNREF_DROP_ANYWHERE, EXTERNREF_DROP_SLOW_OFFSET,
    EXTERNREF_REF_COUNT_OFFSET, EXTERNREF_VALUE_PTR_OFFSET, EXTERNREF_VTABLE_OFFSET, VMExternData, VMExternVTable,
    externref_footer_offset, externref_from_object, externref_hand_out, externref_new_anywhere, externref_new_with,
    externref_release, externref_strong_count, externref_take_object, externref_type, externref_type_with,
    externref_unwrap, externref_value, externref_wrap)


cdef class Slot:
    """Owns a reference, or nothing."""

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

    def __dealloc__(self):
        externref_drop(self.raw)

    def clone_and_drop(self, size_t times):
        """Without the GIL; the count afterwards."""
        cdef size_t _i
        cdef size_t count
        with nogil:
            for _i in range(times):
                externref_drop(externref_clone(self.raw))
            count = externref_strong_count(self.raw)
        return count

    def put_object(self, value):
        """Boxes any object, in place of what was there, which is released at once."""
        cdef void *old = self.raw
        self.raw = externref_from_object(value)
        externref_release(old)

    def move_out(self):
        """The VMExternRef itself: the slot is empty then."""
        ref = externref_wrap(self.raw)
        self.raw = NULL
        return ref

    def take(self):
        """The object itself: the slot is empty then."""
        value = externref_take_object(self.raw)
        self.raw = NULL
        return value

    def lent(self):
        """The address of the raw pointer, and of the payload."""
        return <uintptr_t>self.raw, <uintptr_t>externref_value(self.raw)


def lend(ref):
    """The raw pointer of any VMExternRef, 0 for None."""
    return <uintptr_t>externref_unwrap(ref)


def same(VMExternRef left not None, VMExternRef right not None):
    """One comparison of words."""
    return left._data == right._data


# A payload of the module's own.

cdef struct Point:
    double x
    double y


cdef size_t points_dropped = 0


cdef int make_point(void *value, void *ctx) except -1:
    cdef Point *point = <Point *>value
    point.x, point.y = <object>ctx
    return 0


cdef void drop_point(void *value) noexcept:
    global points_dropped
    points_dropped += 1


cdef const VMExternVTable *point_type = externref_type("Point", sizeof(Point), sizeof(double), drop_point)


def new_point(coordinates):
    """A VMExternRef to a Point; what goes wrong with the coordinates is raised, and nothing is made."""
    cdef void *raw = externref_new_with(point_type, make_point, <void *>coordinates)
    try:
        return externref_wrap(raw)
    except BaseException:
        externref_release(raw)
        raise


def squared_length(VMExternRef ref not None):
    cdef const VMExternData *data = <const VMExternData *>ref._data
    if data == NULL or data.vtable != point_type:
        raise TypeError("expected a reference to a Point")
    cdef const Point *point = <const Point *>externref_value(data)
    return point.x * point.x + point.y * point.y


# One whose drop needs no GIL.

cdef int make_number(void *value, void *ctx) noexcept nogil:
    (<size_t *>value)[0] = <size_t>ctx
    return 0


cdef size_t sum_of_dropped = 0


cdef void drop_number(void *value) noexcept nogil:
    global sum_of_dropped
    sum_of_dropped += (<size_t *>value)[0]


cdef const VMExternVTable *number_type = externref_type_with(
    "Number", sizeof(size_t), sizeof(size_t), drop_number, EXTERNREF_DROP_ANYWHERE)


def make_and_drop_numbers(size_t count):
    """The sum of those that were dropped, as soon as each was."""
    cdef size_t i
    with nogil:
        for i in range(count):
            externref_drop(externref_new_anywhere(number_type, make_number, <void *>i))
    return sum_of_dropped


def hand_out_number(size_t number):
    """The address of a Number, for from_raw()."""
    cdef void *raw = externref_new_anywhere(number_type, make_number, <void *>number)
    externref_hand_out(raw)
    return <uintptr_t>raw


def new_point_type(size_t align):
    externref_type("Point", sizeof(Point), align, NULL)


def count_dropped_points():
    return points_dropped


def numbers():
    """As of externref.abi, and the version of the C API."""
    return {
        "REF_COUNT_OFFSET": EXTERNREF_REF_COUNT_OFFSET, "VALUE_PTR_OFFSET": EXTERNREF_VALUE_PTR_OFFSET,
        "VTABLE_OFFSET": EXTERNREF_VTABLE_OFFSET, "DROP_SLOW_OFFSET": EXTERNREF_DROP_SLOW_OFFSET,
        "FOOTER_SIZE": sizeof(VMExternData), "ABI_VERSION": EXTERNREF_ABI_VERSION,
    }, EXTERNREF_API_VERSION, externref_footer_offset(sizeof(Point))


# What a typed memoryview takes: everything with a buffer of its items.

def first_byte(unsigned char[:] view):
    return view[0]


def first_number(double[:] view):
    return view[0]


def first_object(object[:] view):
    return view[0]


def first_of_strided(unsigned char[::1] view):
    return view[0]
