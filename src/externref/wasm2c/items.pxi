# Items: Table, Global and Memory, which Python and compiled code both read and write.
#
# A part of _runtime.pyx.

from cpython.buffer cimport PyBuffer_FillInfo

cdef enum:
    PAGE_SIZE = 65536       # of a usual memory


cdef inline object value_at(Store store, char letter, const void *address, bint as_ref):
    """The value that is there in a table or a global."""
    cdef uint64_t[FUNCREF_SLOTS] slots
    if letter == EXTERNREF:
        return lend_value((<void *const *>address)[0], as_ref)
    slots[0] = 0
    memcpy(slots, address, value_size(letter))
    return get_plain(store, letter, slots)


@cython.final
@cython.no_gc_clear
cdef class Table:
    """A WebAssembly table of externref or funcref: t[i], t[i] = x, len(t), iteration.

    What is put into an externref table lives until it is overwritten and a collection has run.
    Indices are counted from 0; one that is negative or too large raises IndexError. Values
    are as for a Func's parameters, and raise what they do there.
    """
    cdef Store store
    cdef Instance instance      # keeps the table alive
    cdef Wasm2cTable *table
    cdef char letter            # of the elements
    cdef object declared        # the TableType in its module

    def __cinit__(self, *maker):
        require_maker(maker, MAKER, "a Table comes from an instance's exports")

    @property
    def type(self):
        """Its TableType: the elements' type, the size now, the maximum or None."""
        return self.declared._replace(minimum=self.table.size)

    def __len__(self):
        self.store.check()
        return self.table.size

    def __getitem__(self, index):
        return self.get(index, False)

    def ref(self, index, /):
        """The element as a VMExternRef, None for null. IndexError; TypeError for a funcref table."""
        if self.letter != EXTERNREF:
            raise TypeError("the table's elements are funcref")
        return self.get(index, True)

    def __setitem__(self, index, value):
        cdef uint64_t[FUNCREF_SLOTS] slots
        cdef size_t i = self.checked_index(index)
        self.put(value, slots)
        self.store_at(i, 1, slots)      # a table never shrinks

    def fill(self, start, value, count, /):
        """Set `count` elements from `start` on to the value. IndexError if they are not all there;
        nothing is set then."""
        cdef uint64_t[FUNCREF_SLOTS] slots
        first, number = PyNumber_Index(start), PyNumber_Index(count)
        self.store.check()
        if first < 0 or number < 0 or first + number > self.table.size:
            raise IndexError(f"elements {first} to {first + number} of a table of {self.table.size}")
        self.put(value, slots)
        self.store_at(first, number, slots)

    def grow(self, count, value=None, /):
        """Add `count` elements that hold the value; the size before. ValueError if the table
        cannot have so many."""
        cdef uint64_t[FUNCREF_SLOTS] slots
        cdef uint32_t before
        cdef const Wasm2cModule *module = self.instance.code.module
        cdef Running *outer
        number = PyNumber_Index(count)
        if not 0 <= number <= UINT32_MAX:
            raise ValueError(f"a table cannot grow by {number}")
        self.put(value, slots)
        outer = set_running(&self.store.running)
        if self.letter == EXTERNREF:
            before = module.grow_externref_table(self.table, number, get_ref(slots))
        else:
            before = module.grow_funcref_table(self.table, number, <Wasm2cFuncref *>slots)
        set_running(outer)
        if before == UINT32_MAX:
            raise ValueError(f"a table of {self.table.size} elements cannot grow by {number}")
        return before

    def __repr__(self):
        return f"<externref.wasm2c.Table: {self.type}>"

    cdef object get(self, index, bint as_ref):
        cdef size_t i = self.checked_index(index)
        return value_at(self.store, self.letter, self.element(i), as_ref)

    cdef size_t checked_index(self, index) except? -1:
        i = PyNumber_Index(index)
        self.store.check()
        if not 0 <= i < self.table.size:
            raise IndexError(f"index {i} of a table of {self.table.size}")
        return i

    cdef char *element(self, size_t i) noexcept:
        return <char *>self.table.data + value_size(self.letter) * i

    cdef int put(self, value, uint64_t *slots) except -1:
        """The value in the slots, owned by the store; after it nothing has run."""
        return put_value(self.store, self.letter, value, slots, "the element")

    cdef void store_at(self, size_t first, size_t count, const uint64_t *slots) noexcept:
        # What was there stays with the store until a collection: nothing is dropped here.
        cdef size_t i
        for i in range(first, first + count):
            memcpy(self.element(i), slots, value_size(self.letter))


cdef Table new_table(Store store, Instance instance, object declared, void *table):
    cdef Table self = <Table>make_secretly(Table, MAKER)
    self.store = store
    self.instance = instance
    self.table = <Wasm2cTable *>table
    self.letter = LETTERS[declared.element]
    self.declared = declared
    return self


@cython.final
@cython.no_gc_clear
cdef class Global:
    """A WebAssembly global: its `value`, as a Func's results and parameters have it."""
    cdef Store store
    cdef Instance instance      # keeps the global alive
    cdef void *address
    cdef char letter            # of the value
    cdef readonly object type
    """Its GlobalType: the value's type, and whether it is mutable."""

    def __cinit__(self, *maker):
        require_maker(maker, MAKER, "a Global comes from an instance's exports")

    @property
    def value(self):
        self.store.check()
        return value_at(self.store, self.letter, self.address, False)

    @value.setter
    def value(self, value):
        cdef uint64_t[FUNCREF_SLOTS] slots
        if not self.type.mutable:
            raise TypeError("the global is immutable")
        put_value(self.store, self.letter, value, slots, "the global's value")
        memcpy(self.address, slots, value_size(self.letter))

    @property
    def ref(self):
        """The value of an externref global as a VMExternRef, None for null. TypeError for another."""
        if self.letter != EXTERNREF:
            raise TypeError(f"the global's value is {self.type.value}")
        self.store.check()
        return value_at(self.store, self.letter, self.address, True)

    def __repr__(self):
        return f"<externref.wasm2c.Global: {self.type}>"


cdef Global new_global(Store store, Instance instance, object type_, void *address):
    cdef Global self = <Global>make_secretly(Global, MAKER)
    self.store = store
    self.instance = instance
    self.type = type_
    self.letter = LETTERS[type_.value]
    self.address = address
    return self


@cython.final
@cython.no_gc_clear
cdef class Memory:
    """A linear memory, a writable buffer of bytes: memoryview(memory), numpy.frombuffer(memory).

    A buffer has the size of the memory when it was made, and stays valid when the memory
    grows and after the store is closed. len() is in bytes.
    """
    cdef Store store
    cdef Instance instance      # keeps the memory alive
    cdef Wasm2cMemory *memory
    cdef object declared        # the MemoryType in its module

    def __cinit__(self, *maker):
        require_maker(maker, MAKER, "a Memory comes from an instance's exports")

    @property
    def type(self):
        """Its MemoryType: pages of 64 KiB now, and at most, or None; whether addresses have 64 bits."""
        return self.declared._replace(minimum=self.memory.pages)

    def __len__(self):
        self.store.check()
        return self.memory.size

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        self.store.check()
        if self.memory.is64 or self.memory.page_size != PAGE_SIZE:
            # wasm2c's runtime reserves address space for the usual memories only.
            raise BufferError("a 64-bit memory can move when it grows: it has no buffer")
        PyBuffer_FillInfo(buffer, self, self.memory.data, self.memory.size, 0, flags)

    def grow(self, pages, /):
        """Add pages of 64 KiB; how many there were. ValueError if there cannot be so many."""
        cdef uint64_t before
        cdef Running *outer
        number = PyNumber_Index(pages)
        self.store.check()
        if not 0 <= number <= UINT32_MAX:
            raise ValueError(f"a memory cannot grow by {number} pages")
        outer = set_running(&self.store.running)
        before = self.instance.code.module.grow_memory(self.memory, number)
        set_running(outer)
        if before == UINT64_MAX:
            raise ValueError(f"a memory of {self.memory.pages} pages cannot grow by {number}")
        return before

    def __repr__(self):
        return f"<externref.wasm2c.Memory: {self.type}>"


cdef Memory new_memory(Store store, Instance instance, object declared, void *memory):
    cdef Memory self = <Memory>make_secretly(Memory, MAKER)
    self.store = store
    self.instance = instance
    self.memory = <Wasm2cMemory *>memory
    self.declared = declared
    return self


cdef Store store_of(object thing):
    if isinstance(thing, Func):
        return (<Func>thing).store
    if isinstance(thing, Table):
        return (<Table>thing).store
    if isinstance(thing, Global):
        return (<Global>thing).store
    return (<Memory>thing).store
