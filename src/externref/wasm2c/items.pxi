# Items: Table, Global and Memory, which Python and compiled code both read and write.
#
# A part of _runtime.pyx.

from cpython.buffer cimport PyBuffer_FillInfo

cdef extern from "wasm2c/allocate.h":
    uint32_t WASM_PAGE
    uint64_t MOST_PAGES
    bint is_usual(const Wasm2cMemory *) noexcept


cdef inline object value_at(Store store, char letter, const void *address, bint as_ref):
    """The value that is there in a table or a global. In the section."""
    cdef uint64_t[FUNCREF_SLOTS] slots
    if letter == EXTERNREF:
        return lend_value((<void *const *>address)[0], as_ref)
    slots[0] = 0
    memcpy(slots, address, value_size(letter))
    return get_plain(store, letter, slots)


cdef Store require_store(given):
    if not isinstance(given, Store):
        raise TypeError(f"store must be a Store, not {type(given).__name__}")
    cdef Store store = given
    with cython.critical_section(store.activations):
        store.check()
    return store


cdef uint64_t most_pages(bint is64) noexcept:
    """Of a memory whose type has no maximum."""
    return <uint64_t>2**48 if is64 else MOST_PAGES


cdef object require_kind(given, int kind):
    if not isinstance(given, kinds[kind]):
        raise TypeError(f"type must be a {kinds[kind].__name__}, not {type(given).__name__}")
    return given


cdef ItemType sized_type(int kind, char letter, minimum, maximum, uint64_t most):
    """Raises ValueError if a size is over the most, or the minimum over the maximum."""
    minimum = PyNumber_Index(minimum)
    maximum = None if maximum is None else PyNumber_Index(maximum)
    if not 0 <= minimum <= (most if maximum is None else maximum) <= most:
        raise ValueError(f"sizes of a {kinds[kind].__name__} are from 0 to {most}, the maximum at least the minimum, "
                         f"not {shown(minimum)} to {'any' if maximum is None else shown(maximum)}")
    return new_type(kind, letter, minimum, maximum)


cdef char letter_among(value, tuple names, str what) except -1:
    """The letter of a value type. ValueError unless it is one of these."""
    for name in names:
        if value == name:
            return LETTERS[name]
    raise ValueError(f"{what} must be one of {', '.join(names)}, not {value!r}")


@cython.final
@cython.no_gc_clear
cdef class Table:
    """Table(store, type, value=None)\n--\n
    A WebAssembly table of externref or funcref: t[i], t[i] = x, len(t), iteration; a slice is a list, and takes as
    many values as it has.

    An instance's export, or made here: of the TableType, its minimum of elements, each of them the value.
    Raises TypeError for another store or type, ValueError for sizes that no table has, MemoryError if there is
    no memory or the store's table_limit does not allow it, what a Func raises for its store.

    What is put into an externref table lives until it is overwritten and a collection has run.
    Indices are counted from 0; one that is negative or too large raises IndexError. Values
    are as for a Func's parameters, and raise what they do there.
    """
    cdef readonly Store store
    """The Store that it is of."""
    cdef Owner owner            # keeps the table alive
    cdef Wasm2cTable *table
    cdef ItemType declared      # in its module
    cdef char letter            # of the elements
    cdef object __weakref__

    def __cinit__(self, store, type=None, value=None):
        if store is MAKER[0]:
            return      # new_table() does the rest
        hidden(self)    # until it is whole
        cdef OneItem owner = new_owner(require_store(store))
        cdef ItemType declared
        cdef int reason
        require_kind(type, TABLE)
        declared = sized_type(TABLE, letter_among(type.element, ("externref", "funcref"), "a table's elements"),
                              type.minimum, type.maximum, UINT32_MAX)
        self.begin(owner.store, owner, declared, &owner.table)
        with cython.critical_section(self.store.activations):
            self.store.check()
            reason = new_table_of(&self.store.running.tables, self.table, declared.minimum,
                                  min(declared.maximum, <uint64_t>UINT32_MAX), value_size(self.letter))
        self.store.require(reason, NULL)
        if self.letter == EXTERNREF:
            owner.hold_table()
        self.put(value, 0, declared.minimum)
        PyObject_GC_Track(<PyObject *>self)

    cdef void begin(self, Store store, Owner owner, ItemType declared, void *table) noexcept:
        self.store = store
        self.owner = owner
        self.table = <Wasm2cTable *>table
        self.letter = declared.letter
        self.declared = declared

    @property
    def type(self):
        """Its TableType: the elements' type, the size now, the maximum or None."""
        self = self     # own it: see _python.pxd
        return self.declared.shown(self.size())

    def __len__(self):
        return self.size()

    def __iter__(self):
        self = self     # own it: see _python.pxd
        return PySeqIter_New(self)      # t[0], t[1]... until IndexError

    def __getitem__(self, index):
        self = self     # own it: see _python.pxd
        if isinstance(index, slice):
            return get_slice(self, index)
        return self.get(index, False)

    def ref(self, index, /):
        """The element as a VMExternRef, None for null. IndexError; TypeError for a funcref table."""
        self = self     # own it: see _python.pxd
        require_externref(self.letter, "the table's elements are")
        return self.get(index, True)

    def __setitem__(self, index, value):
        self, value = self, value   # own them: see _python.pxd
        if isinstance(index, slice):
            set_slice(self, index, value)
        else:
            self.put(value, index_within(PyNumber_Index(index), self.size(), "table"), 1)

    def __delitem__(self, index):
        refuse_element_deletion()

    def fill(self, start, value, count, /):
        """Set `count` elements from `start` on to the value. IndexError if they are not all there;
        nothing is set then."""
        self = self     # own it: see _python.pxd
        first, number = PyNumber_Index(start), PyNumber_Index(count)
        require_elements(first, number, self.size())
        self.put(value, first, number)

    def grow(self, count, value=None, /):
        """Add `count` elements that hold the value; the size before. ValueError if the table
        cannot have so many."""
        cdef uint64_t[FUNCREF_SLOTS] slots
        cdef uint32_t before = self.size(), added
        cdef Section section
        cdef char[2] letters
        cdef int failed
        self = self     # own it: see _python.pxd
        number = PyNumber_Index(count)
        if not 0 <= number <= UINT32_MAX:
            refuse_growth(f"table of {before} elements", number)
        added = number
        convert_value(self.store, self.letter, value, slots, "the element")
        letters[0], letters[1] = self.letter, 0
        section_begin(&section, <PyObject *>self.store.activations)
        failed = self.store.adopt(slots, letters, self.letter == EXTERNREF)
        if failed == 0:
            before = more_table(&self.store.running.tables, self.table, added, slots, value_size(self.letter))
        section_end(&section)
        if failed != 0:
            give_up(letters, slots)
        if before == UINT32_MAX:
            refuse_growth(f"table of {self.size()} elements", number)
        return before

    def __repr__(self):
        return shown_item(self)

    cdef object get(self, index, bint as_ref):
        cdef size_t i
        number = PyNumber_Index(index)
        with cython.critical_section(self.store.activations):
            self.store.check()
            i = index_within(number, self.table.size, "table")
            return value_at(self.store, self.letter, <char *>self.table.data + value_size(self.letter) * i, as_ref)

    cdef uint32_t size(self) except? <uint32_t>-1:
        """How many elements it has, and never less."""
        with cython.critical_section(self.store.activations):
            self.store.check()
            return self.table.size

    cdef int put(self, value, size_t first, size_t count) except -1:
        """Sets elements that are there."""
        cdef uint64_t[FUNCREF_SLOTS] slots
        convert_value(self.store, self.letter, value, slots, "the element")
        return write_values(self.store, self.letter, slots, &self.table.data, first, count)


cdef Table new_table(Store store, Owner owner, ItemType declared, void *table):
    cdef Table self = <Table>make_secretly(Table, MAKER)
    self.begin(store, owner, declared, table)
    return self


@cython.final
@cython.no_gc_clear
cdef class Global:
    """Global(store, type, value=None)\n--\n
    A WebAssembly global: its `value`, as a Func's results and parameters have it.

    An instance's export, or made here, of the GlobalType. Raises TypeError for another store or type, ValueError for
    a type that no value has, what a Func raises for an argument.
    """
    cdef readonly Store store
    """The Store that it is of."""
    cdef Owner owner            # keeps the global alive
    cdef void *address
    cdef ItemType declared      # in its module
    cdef char letter            # of the value
    cdef object __weakref__

    def __cinit__(self, store, type=None, value=None):
        if store is MAKER[0]:
            return      # new_global() does the rest
        hidden(self)    # until it is whole
        cdef OneItem owner = new_owner(require_store(store))
        cdef ItemType declared
        require_kind(type, GLOBAL)
        declared = new_type(GLOBAL, letter_among(type.value, tuple(LETTERS), "a global's value"), 0, None)
        declared.is_mutable = type.mutable
        self.begin(owner.store, owner, declared, owner.value())
        if self.letter == EXTERNREF:
            owner.hold_value()
        self.put(value)
        PyObject_GC_Track(<PyObject *>self)

    cdef void begin(self, Store store, Owner owner, ItemType declared, void *address) noexcept:
        self.store = store
        self.owner = owner
        self.declared = declared
        self.letter = declared.letter
        self.address = address

    @property
    def type(self):
        """Its GlobalType: the value's type, and whether it is mutable."""
        self = self     # own it: see _python.pxd
        return self.declared.shown(0)

    @property
    def value(self):
        """The value, converted as a result is, or as an argument. Setting one that is not mutable raises TypeError."""
        self = self     # own it: see _python.pxd
        return self.get(False)

    @value.setter
    def value(self, value):
        self, value = self, value   # own them: see _python.pxd
        if not self.declared.is_mutable:
            refuse_immutable()
        self.put(value)

    @value.deleter
    def value(self):
        refuse_value_deletion()

    cdef int put(self, value) except -1:
        cdef uint64_t[FUNCREF_SLOTS] slots
        convert_value(self.store, self.letter, value, slots, "the global's value")
        return write_values(self.store, self.letter, slots, &self.address, 0, 1)

    cdef object get(self, bint as_ref):
        with cython.critical_section(self.store.activations):
            self.store.check()
            return value_at(self.store, self.letter, self.address, as_ref)

    @property
    def ref(self):
        """The value of an externref global as a VMExternRef, None for null. TypeError for another."""
        self = self     # own it: see _python.pxd
        require_externref(self.letter, "the global's value is")
        return self.get(True)

    def __repr__(self):
        return shown_item(self)


cdef Global new_global(Store store, Owner owner, ItemType declared, void *address):
    cdef Global self = <Global>make_secretly(Global, MAKER)
    self.begin(store, owner, declared, address)
    return self


@cython.final
@cython.no_gc_clear
cdef class Memory:
    """Memory(store, type)\n--\n
    A linear memory: bytes that are copied in and out, and a writable buffer: memoryview(memory),
    numpy.frombuffer(memory).

    len(m) in bytes, read, write, grow; m[i] and m[i] = byte, m[a:b] and m[a:b] = data, which takes as many bytes
    as the slice has. read() and write() raise IndexError out of bounds, and so does an index; a slice ends there.

    An instance's export, or made here, of the MemoryType. Raises TypeError for another store or type, ValueError for
    sizes that no memory has, MemoryError if there is no memory or the store's memory_limit does not allow it,
    what a Func raises for its store.

    A buffer has the size of the memory when it was made, and stays valid when the memory
    grows and after the store is closed. A 64-bit memory has none.
    """
    cdef readonly Store store
    """The Store that it is of."""
    cdef Owner owner            # keeps the memory alive
    cdef Wasm2cMemory *memory
    cdef ItemType declared      # in its module
    cdef object __weakref__

    def __cinit__(self, store, type=None):
        if store is MAKER[0]:
            return      # new_memory_item() does the rest
        hidden(self)    # until it is whole
        cdef OneItem owner = new_owner(require_store(store))
        cdef ItemType declared
        cdef bint is64 = require_kind(type, MEMORY).is64
        cdef int reason
        declared = sized_type(MEMORY, 0, type.minimum, type.maximum, most_pages(is64))
        declared.is64 = is64
        self.begin(owner.store, owner, declared, &owner.memory)
        with cython.critical_section(self.store.activations):
            self.store.check()
            reason = new_memory(&self.store.running.memory, self.memory, declared.minimum,
                                min(declared.maximum, most_pages(is64)), is64, WASM_PAGE)
        self.store.require(reason, NULL)
        PyObject_GC_Track(<PyObject *>self)

    cdef void begin(self, Store store, Owner owner, ItemType declared, void *memory) noexcept:
        self.store = store
        self.owner = owner
        self.memory = <Wasm2cMemory *>memory
        self.declared = declared

    @property
    def type(self):
        """Its MemoryType: pages of 64 KiB now, and at most, or None; whether addresses have 64 bits."""
        self = self     # own it: see _python.pxd
        return self.declared.shown(self.pages())

    def __len__(self):
        with cython.critical_section(self.store.activations):
            self.store.check()
            return self.memory.size

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        with cython.critical_section(self.store.activations):
            self.store.check()
            if not is_usual(self.memory):
                raise BufferError("a 64-bit memory can move when it grows: it has no buffer, but read() and write()")
            PyBuffer_FillInfo(buffer, self, self.memory.data, self.memory.size, 0, flags)

    def __bytes__(self):
        return self.read()

    def __iter__(self):
        self = self     # own it: see _python.pxd
        return PySeqIter_New(self)

    def __getitem__(self, index):
        return get_bytes(self, index)

    def __setitem__(self, index, value):
        set_bytes(self, index, value)

    def __delitem__(self, index):
        refuse_byte_deletion()

    def grow(self, pages, /):
        """Add pages of 64 KiB; how many there were. ValueError if there cannot be so many."""
        self = self     # own it: see _python.pxd
        cdef uint64_t before = self.pages(), added
        number = PyNumber_Index(pages)
        if not 0 <= number <= UINT32_MAX:
            refuse_growth(f"memory of {before} pages", number)
        added = number
        with cython.critical_section(self.store.activations):
            self.store.check()
            before = more_memory(&self.store.running.memory, self.memory, added)
        if before == UINT64_MAX:
            refuse_growth(f"memory of {self.pages()} pages", number)
        return before

    def read(self, start=0, stop=None, /):
        """The bytes from start to stop, at first all, copied. IndexError if they are not all there."""
        return read_bytes(self, start, stop)

    def write(self, data, start=0, /):
        """Copy the bytes of a buffer to the memory, from start on; how many. IndexError if they do not all fit, and
        then nothing is written; TypeError and BufferError if it has no bytes."""
        return write_bytes(self, data, start)

    def __repr__(self):
        return shown_item(self)

    cdef uint64_t pages(self) except? <uint64_t>-1:
        """How many it has, and never less."""
        with cython.critical_section(self.store.activations):
            self.store.check()
            return self.memory.pages

    cdef int enter(self, Section *section) except -1:
        section_begin(section, <PyObject *>self.store.activations)
        try:
            self.store.check()
        except BaseException:
            section_end(section)
            raise
        return 0

    cdef void leave(self, Section *section) noexcept:
        section_end(section)

    cdef inline uint64_t size(self) noexcept:
        return self.memory.size

    cdef inline uint8_t *base(self) noexcept:
        return self.memory.data


cdef Memory new_memory_item(Store store, Owner owner, ItemType declared, void *memory):
    cdef Memory self = <Memory>make_secretly(Memory, MAKER)
    self.begin(store, owner, declared, memory)
    return self


cdef Store store_of(object thing):
    if isinstance(thing, Func):
        return (<Func>thing).store
    if isinstance(thing, Table):
        return (<Table>thing).store
    if isinstance(thing, Global):
        return (<Global>thing).store
    return (<Memory>thing).store
