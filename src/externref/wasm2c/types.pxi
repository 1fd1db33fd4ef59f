# Types: how the values of a module's function types lie in slots, and the library that was loaded.
#
# A part of _runtime.pyx.

# The letter of each value type that can be carried.
cdef dict LETTERS = {name_of_type(letter): letter for letter in (I32, I64, F32, F64, V128, EXTERNREF, FUNCREF)}


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


cdef Py_ssize_t count_slots(bytes letters):
    cdef char letter
    cdef Py_ssize_t count = 0
    for letter in letters:
        count += slots_of(letter)
    return count


cdef bytes letters_of(object names):
    cdef bytearray letters = bytearray()
    for name in names:
        letters.append(LETTERS[name])
    return bytes(letters)


cdef Signature new_signature(object type_, const Wasm2cFunctionType *function_type):
    cdef Signature self = Signature.__new__(Signature)
    self.type = type_
    self.param_letters = letters_of(type_.params)
    self.result_letters = letters_of(type_.results)
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
cdef class Code:
    """A loaded library, which is never unloaded: Code(path, interface), made of a Binary with this interface.

    Raises OSError if it is no library, or another version's, AttributeError if it is not of our making.
    """
    cdef const Wasm2cModule *module
    cdef object interface
    cdef object library             # a ctypes.CDLL
    cdef tuple signatures           # by type index
    cdef dict indices               # of functions by address, and Names, once they were asked for
    cdef object names

    def __cinit__(self, str path not None, interface not None):
        cdef size_t i
        cdef tuple types = interface.types
        cdef list found = []
        self.interface = interface
        self.library = ctypes.CDLL(path)
        entry = ctypes.cast(self.library.externref_wasm2c_module, ctypes.c_void_p).value
        # SAFETY: the compiler made the library from our glue.
        self.module = (<const Wasm2cModule *(*)(const Wasm2cHost *) noexcept><uintptr_t>entry)(&host)
        if self.module.version != WASM2C_GLUE_VERSION or self.module.type_count != <size_t>len(types):
            raise OSError("the library was compiled for another version of externref")
        for i in range(self.module.type_count):
            found.append(new_signature(types[i], &self.module.types[i]))
        self.signatures = tuple(found)

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
        if self.names is None:
            self.names = Names(self.interface.sections)
        return self.names
