# Tables and globals: each read or write converts one wasmtime_val_t, in an operation of its own.
#
# A part of _calls.pyx.

cdef str THE_ELEMENT = "the element"    # in an error

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
    cdef object declared        # its TableType; None until it is asked for
    cdef readonly object store
    """The wasmtime.Store."""
    cdef object __weakref__

    def __cinit__(self, *given):
        require_maker(given, MAKER, MADE_OTHERWISE)

    @property
    def type(self):
        """Its TableType: the elements' type, the size now, the maximum or None. The maximum of a 64-bit table is not
        told."""
        self = self     # own it: see _python.pxd
        self.state.enter()
        try:
            if self.declared is None:
                item = copied_out(ffi.wasmtime_table_t, &self.item, sizeof(wasmtime_table_t))
                self.declared = table_type(self.store, wasmtime.Table._from_raw(item), name_of_type(self.letter))
            return self.declared._replace(minimum=api.table_size(self.state.context, &self.item))
        finally:
            self.state.leave()

    def __len__(self):
        self.state.enter()
        try:
            return api.table_size(self.state.context, &self.item)
        finally:
            self.state.leave()

    def __iter__(self):
        self = self     # own it: see _python.pxd
        return PySeqIter_New(self)      # t[0], t[1]... until IndexError

    def __getitem__(self, index):
        if isinstance(index, slice):
            return get_slice(self, index)
        return self.get(index, False)

    def ref(self, index, /):
        """t[index] as a VMExternRef, None for null; TypeError for a table of functions."""
        require_externref(self.letter, "the table's elements are")
        return self.get(index, True)

    def __setitem__(self, index, value):
        if isinstance(index, slice):
            set_slice(self, index, value)
            return
        self, value = self, value   # own them: see _python.pxd
        number = PyNumber_Index(index)
        self.state.enter()
        try:
            self.store_range(self.checked_index(number), 1, value)
        finally:
            self.state.leave()

    def __delitem__(self, index):
        refuse_element_deletion()

    def fill(self, start, value, count, /):
        """Stores the value in `count` elements from `start` on: the same reference in all.

        Raises IndexError, and stores nothing, if they are not all within bounds.
        """
        self, value, count = self, value, count     # own them: see _python.pxd
        first, length = PyNumber_Index(start), PyNumber_Index(count)
        self.state.enter()
        try:
            require_elements(first, length, api.table_size(self.state.context, &self.item))
            self.store_range(first, length, value)
        finally:
            self.state.leave()

    def grow(self, count, value=None, /):
        """Adds `count` elements that hold the value; the size before.

        Raises ValueError if the table cannot grow so far.
        """
        cdef uint64_t before = 0
        cdef wasmtime_val_t val
        cdef wasmtime_error_t *error
        self, value = self, value   # own them: see _python.pxd
        number = PyNumber_Index(count)
        self.state.enter()
        try:
            if not 0 <= number <= UINT64_MAX:
                self.refuse_to_grow(number)
            put_val(self.state, self.letter, value, &val, THE_ELEMENT)
            self.state.locked = True
            error = api.table_grow(self.state.context, &self.item, number, &val, &before)
            try:
                finish_write(self.state, self.letter, &val, error)
            except wasmtime.WasmtimeError:
                self.refuse_to_grow(number)
            return before
        finally:
            self.state.leave()

    def __repr__(self):
        return shown_item(self)

    cdef uint64_t checked_index(self, number) except? <uint64_t>-1:
        return index_within(number, api.table_size(self.state.context, &self.item), "table")

    cdef int refuse_to_grow(self, number) except -1:
        return refuse_growth(f"table of {api.table_size(self.state.context, &self.item)} elements", number)

    cdef object get(self, object index, bint as_refs):
        cdef wasmtime_val_t val
        self = self     # own it: see _python.pxd
        number = PyNumber_Index(index)
        self.state.enter()
        try:
            if not api.table_get(self.state.context, &self.item, self.checked_index(number), &val):
                raise IndexError(number)
            return take_val(self.state, self.letter, &val, as_refs)
        finally:
            self.state.leave()

    cdef int store_range(self, uint64_t first, uint64_t count, object value) except -1:
        cdef wasmtime_val_t val
        cdef wasmtime_error_t *error = NULL
        cdef uint64_t i
        put_val(self.state, self.letter, value, &val, THE_ELEMENT)
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

    Raises TypeError when an immutable one is assigned, and otherwise what a Func raises. Needs the GIL.

    Source: wasmtime_global_get, wasmtime_global_set.
    """
    cdef StoreState state
    cdef wasmtime_global_t item
    cdef char letter
    cdef bint mutable
    cdef readonly object type
    """Its GlobalType: the value's type, and whether it is mutable."""
    cdef readonly object store
    """The wasmtime.Store."""
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
        self, value = self, value   # own them: see _python.pxd
        if not self.mutable:
            refuse_immutable()
        self.state.enter()
        try:
            put_val(self.state, self.letter, value, &val, "the global's value")
            self.state.locked = True
            error = api.global_set(self.state.context, &self.item, &val)
            finish_write(self.state, self.letter, &val, error)
        finally:
            self.state.leave()

    @value.deleter
    def value(self):
        refuse_value_deletion()

    @property
    def ref(self):
        """The value as a VMExternRef, None for null; TypeError for other types."""
        require_externref(self.letter, "the global's value is")
        return self.get(True)

    def __repr__(self):
        return shown_item(self)

    cdef object get(self, bint as_refs):
        cdef wasmtime_val_t val
        self = self     # own it: see _python.pxd
        self.state.enter()
        try:
            api.global_get(self.state.context, &self.item, &val)
            return take_val(self.state, self.letter, &val, as_refs)
        finally:
            self.state.leave()


cdef Table bind_table(object store, StoreState state, object item):
    cdef Table self
    cdef wasmtime_table_t table
    cdef wasm_tabletype_t *type_
    cdef char letter
    copy_item(item._table, ffi.wasmtime_table_t, &table, sizeof(wasmtime_table_t))
    require_same_store(state, table.item.store_id)
    state.enter()
    type_ = api.table_type(state.context, &table)
    state.leave()
    try:
        letter = letter_of(api.tabletype_element(type_), "the element")
    finally:
        api.tabletype_delete(type_)
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
    cdef wasm_globaltype_t *type_
    cdef bint mutable
    cdef char letter
    copy_item(item._global, ffi.wasmtime_global_t, &global_, sizeof(wasmtime_global_t))
    require_same_store(state, global_.store_id)
    state.enter()
    type_ = api.global_type(state.context, &global_)
    state.leave()
    try:
        mutable = api.globaltype_mutability(type_)
        letter = letter_of(api.globaltype_content(type_), "the content")
    finally:
        api.globaltype_delete(type_)
    shown_type = GlobalType(name_of_type(letter), bool(mutable))
    self = <Global>make_secretly(Global, MAKER)     # last, as in bind_table()
    self.type = shown_type
    self.mutable = mutable
    self.item = global_
    self.letter = letter
    self.state = state
    self.store = store
    return self
