# Types: what a module's types say, how values lie in slots, and the library that was loaded.
#
# A part of _runtime.pyx.

# The letter of each value type that can be carried.
cdef dict LETTERS = hidden({name_of_type(letter): letter for letter in (I32, I64, F32, F64, V128, EXTERNREF, FUNCREF)})

cdef extern from "dlfcn.h":
    const int RTLD_NOW
    const int RTLD_LOCAL
    void *dlopen(const char *, int) noexcept
    void *dlsym(void *, const char *) noexcept
    char *dlerror() noexcept

# binary.py's, and the places in it.
cdef tuple kinds = KINDS

cdef enum:
    FUNCTION
    TABLE
    MEMORY
    GLOBAL
    KIND_COUNT

cdef uint64_t NO_MAXIMUM = UINT64_MAX

cdef enum:
    V128_SLOTS = 2


cdef inline Py_ssize_t slots_of(char letter) noexcept:
    """How many slots a value of the type takes."""
    return FUNCREF_SLOTS if letter == FUNCREF else V128_SLOTS if letter == V128 else 1


cdef inline void *get_ref(const uint64_t *slot) noexcept:
    """The raw pointer in the slot."""
    cdef void *raw
    memcpy(&raw, slot, sizeof(raw))
    return raw


cdef inline void put_ref(uint64_t *slot, void *raw) noexcept:
    slot[0] = 0
    memcpy(slot, &raw, sizeof(raw))


cdef inline size_t value_size(char letter) noexcept:
    """Bytes of a value where compiled code has it, in a table or a global; as many in its slots."""
    if letter == I32 or letter == F32:
        return 4
    if letter == EXTERNREF:
        return sizeof(void *)
    return sizeof(Wasm2cFuncref) if letter == FUNCREF else V128_SIZE if letter == V128 else 8


@cython.final
@cython.no_gc       # or the collector takes it from a HostFunc that a finalizer still has called
cdef class Signature:
    """A function type of a compiled module, and how to call its functions."""
    cdef object type                # FuncType
    cdef bytes param_letters        # a letter for each
    cdef bytes result_letters
    cdef const char *params         # the same for C
    cdef const char *results
    cdef Py_ssize_t param_count
    cdef Py_ssize_t result_count
    cdef Py_ssize_t slot_count      # how many a call needs
    cdef Py_ssize_t ref_params      # how many are externrefs
    cdef Py_ssize_t ref_results
    cdef Wasm2cCall call
    cdef void *host_code
    cdef const char *id

    cdef bint carries(self, char letter) except -1:
        """Whether a parameter or a result is of the type."""
        return letter in self.param_letters or letter in self.result_letters


cdef Py_ssize_t count_slots(bytes letters):
    cdef char letter
    cdef Py_ssize_t count = 0
    for letter in letters:
        count += slots_of(letter)
    return count


cdef bytes letters_of(names):
    cdef bytearray letters = bytearray()
    for name in names:
        letters.append(LETTERS[name])
    return bytes(letters)


cdef object field(named, Py_ssize_t i):
    """A field of one of binary.py's named tuples. Not by its name: anybody can set a class's attributes."""
    if not isinstance(named, tuple):
        raise TypeError(f"expected a tuple, not {type(named).__name__}")
    return (<tuple>named)[i]


cdef Signature new_signature(type_, const Wasm2cFunctionType *function_type):
    cdef Signature self = Signature.__new__(Signature)
    self.type = type_
    self.param_letters = letters_of(field(type_, 0))
    self.result_letters = letters_of(field(type_, 1))
    self.params = self.param_letters
    self.results = self.result_letters
    self.param_count = len(self.param_letters)
    self.result_count = len(self.result_letters)
    self.slot_count = max(count_slots(self.param_letters), count_slots(self.result_letters))
    self.ref_params = self.param_letters.count(EXTERNREF)
    self.ref_results = self.result_letters.count(EXTERNREF)
    self.call = function_type.call
    self.host_code = function_type.host_code
    self.id = function_type.id
    return self


@cython.final
@cython.no_gc       # as Signature
cdef class ItemType:
    """The type of a function, table, memory or global, read once. Linking goes by this alone: what binary.py's types
    say, and what they are equal to, can change."""
    cdef int kind
    cdef Signature signature    # a function's
    cdef char letter            # of a table's elements, or a global's value
    cdef bint is_mutable        # a global
    cdef bint is64              # a memory's addresses
    cdef uint64_t minimum       # elements or pages
    cdef uint64_t maximum       # NO_MAXIMUM if there is none

    cdef bint takes(self, ItemType given, uint64_t size) except -1:
        """Whether an import of this type can be what is given, which has this size now."""
        if given.kind != self.kind:
            return False
        if self.kind == FUNCTION:
            return self.takes_function(given.signature)
        if self.kind == GLOBAL:
            return given.letter == self.letter and given.is_mutable == self.is_mutable
        return (given.letter == self.letter and given.is64 == self.is64 and size >= self.minimum
                and given.maximum <= self.maximum)

    cdef bint takes_function(self, Signature given) except -1:
        return (given.param_letters == self.signature.param_letters
                and given.result_letters == self.signature.result_letters)

    cdef bint carries(self, char letter) except -1:
        """Whether a value of this type can come in or go out by it."""
        return self.signature.carries(letter) if self.kind == FUNCTION else self.letter == letter

    cdef object shown(self, uint64_t size):
        """It as binary.py's, of this size."""
        if self.kind == FUNCTION:
            return self.signature.type
        maximum = None if self.maximum == NO_MAXIMUM else self.maximum
        if self.kind == TABLE:
            return TableType(name_of_type(self.letter), size, maximum)
        if self.kind == MEMORY:
            return MemoryType(size, maximum, bool(self.is64))
        return GlobalType(name_of_type(self.letter), bool(self.is_mutable))


cdef ItemType new_type(int kind, char letter, uint64_t minimum, maximum):
    cdef ItemType self = ItemType.__new__(ItemType)
    self.kind = kind
    self.letter = letter
    self.minimum = minimum
    self.maximum = NO_MAXIMUM if maximum is None else maximum
    return self


cdef ItemType item_type(type_):
    """Of one of binary.py's that is no FuncType."""
    cdef ItemType self
    if type(type_) is kinds[TABLE]:
        return new_type(TABLE, LETTERS[field(type_, 0)], field(type_, 1), field(type_, 2))
    if type(type_) is kinds[MEMORY]:
        self = new_type(MEMORY, 0, field(type_, 0), field(type_, 1))
        self.is64 = field(type_, 2)
        return self
    self = new_type(GLOBAL, LETTERS[field(type_, 0)], 0, None)
    self.is_mutable = field(type_, 1)
    return self


cdef ItemType function_item_type(Signature signature):
    cdef ItemType self = ItemType.__new__(ItemType)
    self.kind = FUNCTION
    self.signature = signature
    return self


@cython.final
@cython.no_gc       # as Signature
cdef class Port:
    """An import or an export of a module."""
    cdef str module             # an import's
    cdef str name
    cdef ItemType type
    cdef size_t number          # its index among the items of its kind, imports first
    cdef size_t place           # of an exported function: its code's in Wasm2cModule.exports


@cython.final
cdef class Code:
    """A loaded library, which is never unloaded, and what linking goes by; load() makes it."""
    cdef const Wasm2cModule *module
    cdef tuple sections             # of the binary, for the names
    cdef tuple signatures           # by type index
    cdef tuple functions            # signatures by function index
    cdef tuple imports              # a Port for each
    cdef tuple exports
    cdef tuple tables               # an ItemType for each, imports first
    cdef tuple memories
    cdef tuple globals
    cdef tuple imported             # for each kind, the places of those among the imports
    cdef bint carries_funcrefs      # whether one can come in or go out through imports and exports
    cdef dict indices               # of functions by address, and Names, once they were asked for
    cdef object names

    def __cinit__(self, *maker):
        require_maker(maker, MAKER, "a module is compiled by externref.wasm2c.compile()")

    cdef int begin(self, str path, binary) except -1:
        cdef size_t i
        cdef list found = hidden([])
        cdef tuple types = field(binary, 1)
        self.sections = field(binary, 0)
        # SAFETY: the compiler made the library from our glue.
        self.module = (<const Wasm2cModule *(*)(const Wasm2cHost *) noexcept>entry_of(os.fsencode(path)))(&host)
        if self.module.version != WASM2C_GLUE_VERSION or self.module.type_count != <size_t>len(types):
            raise OSError("the library was compiled for another version of externref")
        for i in range(self.module.type_count):
            found.append(new_signature(types[i], &self.module.types[i]))
        self.signatures = tuple(found)
        found = hidden([])
        for number in field(binary, 2):
            found.append(self.signatures[number])
        self.functions = tuple(found)
        self.tables = types_of(field(binary, 5))
        self.memories = types_of(field(binary, 6))
        self.globals = types_of(field(binary, 7))
        self.read_imports(field(binary, 3))
        self.read_exports(field(binary, 4))
        return 0

    cdef int read_imports(self, imports) except -1:
        cdef list ports = hidden([])
        cdef size_t[KIND_COUNT] counts = [0, 0, 0, 0]
        cdef Port port
        cdef int kind
        for item in imports:
            kind = kind_of(field(item, 2))
            port = self.new_port(kind, counts[kind], field(item, 1))
            port.module = field(item, 0)
            counts[kind] += 1
            ports.append(port)
        self.imports = tuple(ports)
        self.imported = (places_among(self.imports, FUNCTION), places_among(self.imports, TABLE),
                         places_among(self.imports, MEMORY), places_among(self.imports, GLOBAL))
        return 0

    cdef int read_exports(self, exports) except -1:
        cdef list ports = hidden([])
        cdef size_t functions = 0
        cdef Port port
        for item in exports:
            port = self.new_port(kind_of(field(item, 1)), field(item, 2), field(item, 0))
            port.place = functions
            functions += port.type.kind == FUNCTION
            ports.append(port)
        self.exports = tuple(ports)
        return 0

    cdef Port new_port(self, int kind, size_t number, str name):
        cdef Port port = Port.__new__(Port)
        cdef tuple types = (self.functions if kind == FUNCTION else self.tables if kind == TABLE
                            else self.memories if kind == MEMORY else self.globals)
        port.name = name
        port.number = number
        port.type = function_item_type(types[number]) if kind == FUNCTION else types[number]
        self.carries_funcrefs = self.carries_funcrefs or port.type.carries(FUNCREF)
        return port

    cdef Signature signature_of(self, const char *id):
        """How to call a funcref of this module's, by its type's identity; None if there is no such type."""
        cdef Signature signature
        for signature in self.signatures:
            if signature.id == id or memcmp(signature.id, id, FUNCTION_ID_SIZE) == 0:
                return signature
        return None

    cdef object index_at(self, address):
        """The index of the function whose code begins there; None if it is not of this module."""
        cdef size_t i
        with cython.critical_section(self):
            if self.indices is None:
                self.indices = {<uintptr_t>self.module.functions[i].code: self.module.functions[i].index
                                for i in range(self.module.function_count)}
            return self.indices.get(address)

    cdef object frame(self, index):
        return Frame(self.known_names().functions.get(index), index)

    cdef object signature_at(self, address, type_):
        """The inspect.Signature of the function whose code begins there."""
        return signature(type_, self.known_names().locals.get(self.index_at(address), {}))

    cdef object known_names(self):
        with cython.critical_section(self):
            if self.names is None:
                self.names = Names(self.sections)
            return self.names


cdef void *entry_of(bytes path) except NULL:
    """The one function of a library. Not by ctypes, whose objects others could find, and call it too."""
    cdef void *entry
    cdef void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL)
    if library == NULL:
        raise OSError((<bytes>dlerror()).decode(errors="replace"))
    entry = dlsym(library, "externref_wasm2c_module")
    if entry == NULL:
        raise AttributeError((<bytes>dlerror()).decode(errors="replace"))
    return entry


cdef int kind_of(type_) except -1:
    cdef int kind
    for kind in range(KIND_COUNT):
        if type(type_) is kinds[kind]:
            return kind
    raise TypeError(f"expected a type of an item, not {type(type_).__name__}")


cdef tuple places_among(tuple ports, int kind):
    """The places of those of the kind."""
    cdef list found = hidden([])
    cdef Py_ssize_t place
    for place in range(len(ports)):
        if (<Port>ports[place]).type.kind == kind:
            found.append(place)
    return tuple(found)


cdef tuple types_of(types):
    cdef list found = hidden([])
    for type_ in types:
        found.append(item_type(type_))
    return tuple(found)


def load(str path not None, binary not None, /):
    """The Code of a library that the compiler made of this Binary.

    Raises OSError if it is no library, or another version's, AttributeError if it is not of our making.
    """
    cdef Code code = <Code>make_secretly(Code, MAKER)
    code.begin(path, binary)
    return code
