# Tables and globals: each read or write converts one wasmtime_val_t, in an operation of its own.
#
# A part of _calls.pyx.

cdef extern from "Python.h":
    object PySeqIter_New(object)


cdef int require_externref(char letter, str place) except -1:
    if letter != EXTERNREF:
        raise TypeError(f"{place}: {name_of_type(letter)}, no externref")
    return 0


cdef int finish_write(StoreState state, char letter, wasmtime_val_t *val, wasmtime_error_t *error) except -1:
    """For a write that began with put_val() and `locked`, which lasts as long as wasmtime drops the old
    values: that may run finalizers of wasmtime-py's."""
    state.locked = False
    drop_val(letter, val)
    return check(error)


@cython.final
@cython.no_gc_clear
cdef class Table:
    """A table of a wasmtime.Store, bound by bind(): a sequence of objects or functions.

    len(t), t[i], t[i] = value, iteration, grow, fill; ref(i) for an externref as a VMExternRef.
    An index is an int from 0 to len(t) - 1. A slice is a list, and takes as many values as it has.

    Raises IndexError for an index out of bounds, and otherwise what a Func raises. Needs the GIL.

    Source: wasmtime_table_get, wasmtime_table_set, wasmtime_table_size, wasmtime_table_grow.
    """
    cdef StoreState state
    cdef wasmtime_table_t item
    cdef char letter
    cdef readonly object store
    cdef object __weakref__

    def __cinit__(self, *given):
        require_maker(given, MAKER, MADE_OTHERWISE)

    def __len__(self):
        self.state.enter()
        try:
            return api.table_size(self.state.context, &self.item)
        finally:
            self.state.leave()

    def __iter__(self):
        return PySeqIter_New(self)      # t[0], t[1]... until IndexError

    def __getitem__(self, index):
        if isinstance(index, slice):
            return get_slice(self, index)
        return self.get(index, False)

    def ref(self, index, /):
        """t[index] as a VMExternRef, None for null; TypeError for a table of functions."""
        require_externref(self.letter, "the elements")
        return self.get(index, True)

    def __setitem__(self, index, value):
        if isinstance(index, slice):
            set_slice(self, index, value)
            return
        self.state.enter()
        try:
            self.store_range(self.checked_index(index), 1, value)
        finally:
            self.state.leave()

    def __delitem__(self, index):
        raise TypeError("an element of a table cannot be deleted; assign None")

    def fill(self, start, value, count, /):
        """Stores the value in `count` elements from `start` on: the same reference in all.

        Raises IndexError, and stores nothing, if they are not all within bounds.
        """
        first, length = PyNumber_Index(start), PyNumber_Index(count)
        self.state.enter()
        try:
            size = api.table_size(self.state.context, &self.item)
            if first < 0 or length < 0 or first + length > size:
                raise IndexError(f"elements {shown(first)} to {shown(first + length)} of a table of {size}")
            self.store_range(first, length, value)
        finally:
            self.state.leave()

    def grow(self, delta, init=None, /):
        """Adds `delta` elements, each the value `init`; the size before.

        Raises ValueError if the table cannot grow so far.
        """
        cdef uint64_t added
        cdef uint64_t before = 0
        cdef wasmtime_val_t val
        cdef wasmtime_error_t *error
        number = PyNumber_Index(delta)
        if not 0 <= number <= UINT64_MAX:
            raise ValueError(f"a table cannot grow by {shown(number)}")
        added = number
        self.state.enter()
        try:
            put_val(self.state, self.letter, init, &val)
            self.state.locked = True
            error = api.table_grow(self.state.context, &self.item, added, &val, &before)
            try:
                finish_write(self.state, self.letter, &val, error)
            except wasmtime.WasmtimeError as failure:
                size = api.table_size(self.state.context, &self.item)
                raise ValueError(f"a table of {size} elements cannot grow by {added}") from failure
            return before
        finally:
            self.state.leave()

    def __repr__(self):
        return f"<externref.wasmtime.Table of {name_of_type(self.letter)}>"

    cdef uint64_t checked_index(self, object index) except? 0:
        """An index within bounds."""
        cdef uint64_t size = api.table_size(self.state.context, &self.item)
        number = PyNumber_Index(index)
        if not 0 <= number < size:
            raise IndexError(f"index {shown(number)} of a table of {size}")
        return number

    cdef object get(self, object index, bint as_refs):
        cdef wasmtime_val_t val
        self.state.enter()
        try:
            if not api.table_get(self.state.context, &self.item, self.checked_index(index), &val):
                raise IndexError(index)
            return take_val(self.state, self.letter, &val, as_refs)
        finally:
            self.state.leave()

    cdef int store_range(self, uint64_t first, uint64_t count, object value) except -1:
        cdef wasmtime_val_t val
        cdef wasmtime_error_t *error = NULL
        cdef uint64_t i
        put_val(self.state, self.letter, value, &val)
        self.state.locked = True
        for i in range(first, first + count):
            error = api.table_set(self.state.context, &self.item, i, &val)
            if error != NULL:
                break
        return finish_write(self.state, self.letter, &val, error)


@cython.final
@cython.no_gc_clear
cdef class Global:
    """A global of a wasmtime.Store, bound by bind(): read and assign its value.

    Raises WasmtimeError when an immutable one is assigned, and otherwise what a Func raises.
    Needs the GIL.

    Source: wasmtime_global_get, wasmtime_global_set.
    """
    cdef StoreState state
    cdef wasmtime_global_t item
    cdef char letter
    cdef readonly object store
    cdef object __weakref__

    def __cinit__(self, *given):
        require_maker(given, MAKER, MADE_OTHERWISE)

    @property
    def value(self):
        """The value, converted as a result is."""
        return self.get(False)

    @value.setter
    def value(self, value):
        cdef wasmtime_val_t val
        cdef wasmtime_error_t *error
        self.state.enter()
        try:
            put_val(self.state, self.letter, value, &val)
            self.state.locked = True
            error = api.global_set(self.state.context, &self.item, &val)
            finish_write(self.state, self.letter, &val, error)
        finally:
            self.state.leave()

    @value.deleter
    def value(self):
        raise TypeError("a global's value cannot be deleted; assign one")

    @property
    def ref(self):
        """The value as a VMExternRef, None for null; TypeError for other types."""
        require_externref(self.letter, "the value")
        return self.get(True)

    def __repr__(self):
        return f"<externref.wasmtime.Global of {name_of_type(self.letter)}>"

    cdef object get(self, bint as_refs):
        cdef wasmtime_val_t val
        self.state.enter()
        try:
            api.global_get(self.state.context, &self.item, &val)
            return take_val(self.state, self.letter, &val, as_refs)
        finally:
            self.state.leave()


cdef Table bind_table(object store, StoreState state, object item):
    cdef Table self
    cdef wasmtime_table_t table
    cdef char letter
    copy_item(item._table, ffi.wasmtime_table_t, &table, sizeof(wasmtime_table_t))
    require_same_store(state, table.item.store_id)
    # Of one that is made here: see bind_func().
    item = copied_out(ffi.wasmtime_table_t, &table, sizeof(wasmtime_table_t))
    letter = letter_of(wasmtime.Table._from_raw(item).type(store).element, "the element")
    # Last of all: gc.get_objects() finds it from here on.
    self = <Table>make_secretly(Table, MAKER)
    self.item = table
    self.letter = letter
    self.state = state
    self.store = store
    return self


cdef Global bind_global(object store, StoreState state, object item):
    cdef Global self
    cdef wasmtime_global_t global_
    cdef char letter
    copy_item(item._global, ffi.wasmtime_global_t, &global_, sizeof(wasmtime_global_t))
    require_same_store(state, global_.store_id)
    item = copied_out(ffi.wasmtime_global_t, &global_, sizeof(wasmtime_global_t))
    letter = letter_of(wasmtime.Global._from_raw(item).type(store).content, "the content")
    self = <Global>make_secretly(Global, MAKER)     # last, as in bind_table()
    self.item = global_
    self.letter = letter
    self.state = state
    self.store = store
    return self
