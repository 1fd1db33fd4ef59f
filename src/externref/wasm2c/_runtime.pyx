# cython: language_level=3, binding=False, auto_pickle=False, autotestdict=False
# cython: embedsignature=True, embedsignature.format=clinic
"""Stores, instances and what they export: the running half of externref.wasm2c.

In the C that wasm2c writes, an externref is a raw pointer that is copied without counting. The
store's activations table owns one count for each reference that Python passes in, by an
argument, a result of an imported function, or a write to a table or global; compiled code only
borrows. A collection drops the entries that nothing can reach: its roots are the externref
tables and globals of the live instances, which are known exactly, and while compiled code is
on the stack every word of the stack from where it was entered, and the registers.

Two rules keep a reference from being dropped on its way:
 - in: all arguments are converted, which can run any code, before the first is inserted, and
   from the first insertion until compiled code has them nothing runs;
 - out: each result gets an owner of its own before anything else runs.

Leaving compiled code, by a trap or because an imported function raised, is a longjmp from
C to enter(). It crosses frames of compiled code only: Python's return first.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.float cimport PyFloat_AsDouble
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject, PyTypeObject
from libc.math cimport isinf
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from collections.abc import Mapping

from externref._activations cimport (
    RefSet, VMExternRefActivations, VMExternRefActivationsTable, refset_mark, refset_mark_words)
from externref._core cimport (
    externref_clone, is_native, object_of, release, take_object, to_raw, wrap)
from externref._python cimport reraise
from externref.wasm2c.binary import FuncType, GlobalType, MemoryType, TableType

cdef extern from "Python.h":
    Py_ssize_t PyVectorcall_NARGS(size_t) noexcept
    Py_ssize_t PyTuple_GET_SIZE(PyObject *) noexcept
    unsigned long PyThread_get_thread_ident() noexcept
    ctypedef struct PyTupleObject:
        PyObject **ob_item
    unsigned long Py_TPFLAGS_HAVE_VECTORCALL
    ctypedef struct TypeSlots "PyTypeObject":
        unsigned long tp_flags
        Py_ssize_t tp_vectorcall_offset

cdef extern from "wasm2c/runtime.h":
    const uint32_t WASM2C_GLUE_VERSION
    const int WASM2C_RAISED
    const int WASM2C_NO_MEMORY
    const int FUNCREF_SLOTS
    ctypedef struct Wasm2cFuncref:
        const char *type
        void *code
        void *tail_call
        void *instance
    ctypedef struct Wasm2cTable:
        void *data
        uint32_t max_size
        uint32_t size
    ctypedef struct Wasm2cMemory:
        uint8_t *data
        uint32_t page_size
        uint64_t pages
        uint64_t max_pages
        uint64_t size
        uint8_t is64
    ctypedef struct Wasm2cImport:
        Wasm2cFuncref function
        void *object
    ctypedef struct Wasm2cHost:
        void (*leave)(int) noexcept
        int (*call_host)(void *, uint64_t *) noexcept
        char *stack_limit
    ctypedef void (*Wasm2cCall)(void *, void *, uint64_t *) noexcept
    ctypedef struct Wasm2cFunctionType:
        const char *id
        Wasm2cCall call
        void *host_code
    ctypedef struct Wasm2cModule:
        uint32_t version
        size_t instance_size
        size_t imports_offset
        size_t type_count
        const Wasm2cFunctionType *types
        void **functions
        void *(*item)(void *, size_t) noexcept
        Wasm2cCall instantiate
        void (*release)(void *) noexcept
        uint32_t (*grow_externref_table)(Wasm2cTable *, uint32_t, void *) noexcept
        uint32_t (*grow_funcref_table)(Wasm2cTable *, uint32_t, const Wasm2cFuncref *) noexcept
        uint64_t (*grow_memory)(Wasm2cMemory *, uint64_t) noexcept

cdef extern from "wasm2c/enter.h":
    void *innermost
    Wasm2cHost host
    void leave(int) noexcept
    int enter(Wasm2cCall, void *, void *, uint64_t *, void **) noexcept
    void mark_frames(RefSet *, const void *) noexcept

ctypedef object (*vectorcallfunc)(PyObject *, PyObject *const *, size_t, PyObject *)

GLUE_VERSION = WASM2C_GLUE_VERSION

# wasm_rt_strerror of wasm2c's runtime, by wasm_rt_trap_t.
REASONS = (
    "No error",
    "Out-of-bounds access in linear memory or a table",
    "Integer overflow on divide or truncation",
    "Integer divide by zero",
    "Conversion from NaN to integer",
    "Unreachable instruction executed",
    "Invalid call_indirect or return_call_indirect",
    "Null reference",
    "Uncaught exception",
    "Unaligned atomic memory access",
    "Call stack exhausted",
)


class Trap(Exception):
    """WebAssembly code trapped; the text is the name that wasm2c's runtime has for the reason.

    The instance stays usable, with what the call had changed until then.
    """

    __module__ = "externref.wasm2c"


class LinkError(Exception):
    """An import is missing or is not of the type that the module declares; the text says which."""

    __module__ = "externref.wasm2c"


class Exports(Mapping):
    """What an instance exports, by name: a mapping, and as attributes."""

    __module__ = "externref.wasm2c"
    __slots__ = ("_items",)

    def __init__(self, items):
        self._items = items

    def __getitem__(self, name):
        return self._items[name]

    def __iter__(self):
        return iter(self._items)

    def __len__(self):
        return len(self._items)

    def __getattr__(self, name):
        try:
            return self._items[name]
        except KeyError:
            raise AttributeError(f"the instance exports nothing named {name!r}") from None

    def __dir__(self):
        return [*super().__dir__(), *self._items]

    def __repr__(self):
        return f"<exports {', '.join(map(repr, self._items))}>"


# --- Types and code -----------------------------------------------------------------

# The letters that wasm2c has for value types.
LETTERS = {"i32": "i", "i64": "j", "f32": "f", "f64": "d", "externref": "e", "funcref": "r"}

# How to call a funcref: the Signature of each function type's identity.
cdef dict signatures = {}


@cython.final
cdef class Signature:
    """A function type of a compiled module, and how to call its functions."""
    cdef object type                # FuncType
    cdef bytes param_letters        # a letter for each
    cdef bytes result_letters
    cdef const char *params         # the same for C
    cdef const char *results
    cdef Py_ssize_t param_count
    cdef Py_ssize_t result_count
    cdef Py_ssize_t slots           # how many a call needs
    cdef Py_ssize_t ref_params      # how many are externrefs
    cdef Py_ssize_t ref_results
    cdef Wasm2cCall call
    cdef void *host_code
    cdef const char *id


cdef Py_ssize_t slot_count(bytes letters):
    return len(letters) + (FUNCREF_SLOTS - 1) * letters.count(b"r")


cdef Signature new_signature(object type_, const Wasm2cFunctionType *function_type):
    cdef Signature self = Signature.__new__(Signature)
    self.type = type_
    self.param_letters = "".join([LETTERS[value] for value in type_.params]).encode()
    self.result_letters = "".join([LETTERS[value] for value in type_.results]).encode()
    self.params = self.param_letters
    self.results = self.result_letters
    self.param_count = len(self.param_letters)
    self.result_count = len(self.result_letters)
    self.slots = max(slot_count(self.param_letters), slot_count(self.result_letters))
    self.ref_params = self.param_letters.count(b"e")
    self.ref_results = self.result_letters.count(b"e")
    self.call = function_type.call
    self.host_code = function_type.host_code
    self.id = function_type.id
    return self


@cython.final
cdef class Code:
    """A loaded library: Code(entry, types), the address of externref_wasm2c_module() and the module's
    function types."""
    cdef const Wasm2cModule *module
    cdef list signatures            # by type index; None for one that Python cannot call

    def __cinit__(self, entry, list types not None):
        cdef Signature signature
        cdef size_t i
        # SAFETY: the compiler made the library from our glue.
        self.module = (<const Wasm2cModule *(*)(const Wasm2cHost *) noexcept><uintptr_t>entry)(&host)
        if self.module.version != WASM2C_GLUE_VERSION or self.module.type_count != <size_t>len(types):
            raise OSError("the library was compiled for another version of externref")
        self.signatures = []
        for i in range(self.module.type_count):
            signature = None
            if self.module.types[i].call != NULL:
                signature = new_signature(types[i], &self.module.types[i])
                if signature.id != NULL:
                    signatures.setdefault((<const char *>signature.id)[:32], signature)
            self.signatures.append(signature)


# --- Stores -------------------------------------------------------------------------

# Where an instance keeps references: its own tables and globals, not those it imports.
cdef struct Roots:
    Roots *previous
    Roots *next
    PyObject *instance      # its Instance, borrowed
    char *start             # of its memory
    char *end
    size_t table_count
    Wasm2cTable **tables
    size_t global_count
    void ***globals


cdef int refuse_closed() except -1:
    raise RuntimeError("the store is closed")


cdef int refuse_thread() except -1:
    raise RuntimeError("the store is in use by another thread")


@cython.final
@cython.no_gc_clear     # the activations table clears itself
cdef class Store:
    """Store()\n--\n
    What a group of instances shares: their references are owned and collected together.

    Close it, or use it in a with block; or let it go: objects that only the store
    keeps alive, and that lead back to it, are found by Python's cycle collector.

    One thread at a time: while compiled code of the store is on one thread's stack, every operation
    on another raises RuntimeError.
    """
    cdef readonly VMExternRefActivationsTable activations
    """The table that owns the references passed in, a VMExternRefActivationsTable."""
    cdef Roots roots            # the ring of live instances; this one stands for none
    cdef Py_ssize_t depth       # calls into compiled code that have not returned
    cdef unsigned long thread   # whose they are
    cdef void *stack_base       # the end of the stack they use
    cdef readonly bint closed
    cdef set pinned             # instances that live as long as the store
    cdef object __weakref__

    def __cinit__(self):
        self.activations = VMExternRefActivationsTable()
        self.roots.next = self.roots.previous = &self.roots
        self.pinned = set()

    def gc(self):
        """Drop every reference that compiled code can no longer reach; how many were dropped.

        Right at any moment, also in an imported function: references on the stack are
        kept, and with them, perhaps, some that merely look as if they were there.
        Finalizers run before it returns.
        Raises RuntimeError if the store is closed or in use by another thread, MemoryError.
        """
        self.check()
        return self.collect()

    def close(self):
        """Drop every reference. Every operation on the store and what is in it raises RuntimeError
        from then on; the memory of instances goes with their last Python reference. Nothing
        if it is closed already.

        Raises RuntimeError while compiled code of the store is active.
        """
        if self.closed:
            return
        self.check()
        if self.depth:
            raise RuntimeError("the store is active: it cannot be closed from within a call")
        self.closed = True
        self.pinned = set()
        self.activations.drop_all()

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, *exc_info):
        self.close()

    cdef inline int check(self) except -1:
        """Raises unless this thread may use the store now."""
        if self.closed:
            refuse_closed()
        if self.depth != 0 and self.thread != PyThread_get_thread_ident():
            refuse_thread()
        return 0

    cdef Py_ssize_t collect(self) except -1:
        """gc(), for who has checked. Runs arbitrary code."""
        cdef VMExternRefActivationsTable table = self.activations
        cdef RefSet *entries = &table.over_approximated
        cdef Roots *roots = self.roots.next
        cdef size_t i
        table.flush()
        while roots != &self.roots:
            for i in range(roots.table_count):
                refset_mark_words(entries, roots.tables[i].data,
                                  <void **>roots.tables[i].data + roots.tables[i].size)
            for i in range(roots.global_count):
                refset_mark(entries, <uintptr_t>roots.globals[i][0])
            roots = roots.next
        if self.depth != 0:
            mark_frames(entries, self.stack_base)
        return table.sweep_unmarked()

    cdef int make_room(self, Py_ssize_t count) except -1:
        """Makes the bump chunk have room for `count`, collecting if enough has gathered. May run
        arbitrary code, but none between the room and the return."""
        if self.activations.gathered() + count > self.activations.threshold:
            self.collect()
            self.check()
        return self.activations.make_room(count)

    cdef inline int adopt(self, const uint64_t *slots, const char *letters, Py_ssize_t count) except -1:
        """Moves the `count` references in the slots into the table. May run arbitrary code before
        the first is moved; on failure none was."""
        cdef VMExternRefActivations *alloc = &self.activations.alloc
        self.check()
        if alloc.end - alloc.next < count:
            self.make_room(count)
        while letters[0] != 0:
            if letters[0] == c'e' and slots[0] != 0:
                alloc.next[0] = <void *>slots[0]
                alloc.next += 1
            slots += FUNCREF_SLOTS if letters[0] == c'r' else 1
            letters += 1
        return 0

    cdef int run(self, Wasm2cCall call, void *code, void *instance, uint64_t *slots) except -1:
        """Runs compiled code. The caller has checked, and nothing ran since it inserted the arguments."""
        cdef int reason
        if self.depth == 0:
            self.thread = PyThread_get_thread_ident()
            self.stack_base = NULL
        self.depth += 1
        reason = enter(call, code, instance, slots, &self.stack_base)
        self.depth -= 1
        if reason != 0:
            raise_reason(reason)
        return 0

    cdef inline int settle(self) except -1:
        """At the end of a call: collects if it was the outermost and the chunk is full."""
        cdef VMExternRefActivationsTable table = self.activations
        if self.depth == 0 and table.alloc.next == table.alloc.end and table.gathered() >= table.threshold:
            self.collect()
        return 0

    cdef object owner_of(self, void *address):
        """The Instance whose memory this is in."""
        cdef Roots *roots = self.roots.next
        while roots != &self.roots:
            if roots.start <= <char *>address < roots.end:
                return <object>roots.instance
            roots = roots.next
        raise RuntimeError("this funcref's instance is not of the store")


cdef int raise_reason(int reason) except -1:
    if reason == WASM2C_RAISED:
        reraise()
    if reason == WASM2C_NO_MEMORY:
        raise MemoryError("no memory for a WebAssembly table or memory")
    raise Trap(REASONS[reason])


# --- Values -------------------------------------------------------------------------

cdef str describe(object place, Py_ssize_t i):
    """What value i is for, in an error. place: the function that it is passed to or comes from, or
    the words themselves."""
    if isinstance(place, Func):
        return f"{(<Func>place).name}() argument {i + 1}"
    if isinstance(place, HostFunction):
        return f"{(<HostFunction>place).name}() result {i + 1}"
    return place


cdef int refuse_value(object place, Py_ssize_t i, object value, str expected) except -1:
    raise TypeError(f"{describe(place, i)}: expected {expected}, not {type(value).__name__}")


cdef int refuse_range(object place, Py_ssize_t i, object value, str type_) except -1:
    raise OverflowError(f"{describe(place, i)}: {value!r} does not fit in {type_}")


cdef int put_number(uint64_t *slot, unsigned char letter, object value, object place, Py_ssize_t i) except -1:
    """Puts a number in a slot. Can run arbitrary code."""
    cdef double number = 0
    cdef float single
    if letter == c'i' or letter == c'j':
        try:
            value = PyNumber_Index(value)
        except TypeError:
            refuse_value(place, i, value, "an int")
        if letter == c'i':
            if not -0x80000000 <= value <= 0xFFFFFFFF:
                refuse_range(place, i, value, "i32")
            slot[0] = <uint32_t>(value & 0xFFFFFFFF)
        else:
            if not -0x8000000000000000 <= value <= 0xFFFFFFFFFFFFFFFF:
                refuse_range(place, i, value, "i64")
            slot[0] = <uint64_t>(value & 0xFFFFFFFFFFFFFFFF)
        return 0
    try:
        number = PyFloat_AsDouble(value)
    except TypeError:
        refuse_value(place, i, value, "a number")
    if letter == c'f':
        single = <float>number
        if isinf(single) and not isinf(number):
            refuse_range(place, i, value, "f32")
        slot[0] = 0
        memcpy(slot, &single, sizeof(single))
    else:
        memcpy(slot, &number, sizeof(number))
    return 0


cdef int put_funcref(uint64_t *slot, Store store, object value, object place, Py_ssize_t i) except -1:
    cdef Func function
    cdef Wasm2cFuncref ref
    memset(&ref, 0, sizeof(ref))
    if value is not None:
        if not isinstance(value, Func):
            refuse_value(place, i, value, "a Func or None")
        function = <Func>value
        if function.store is not store:
            raise ValueError(f"{describe(place, i)}: the Func is of another store")
        store.pinned.add(function.instance)     # compiled code can keep it anywhere
        ref = function.ref
    memcpy(slot, &ref, sizeof(ref))
    return 0


cdef object get_funcref(const uint64_t *slot, Store store):
    cdef Wasm2cFuncref ref
    cdef Signature signature
    memcpy(&ref, slot, sizeof(ref))
    if ref.code == NULL:
        return None
    signature = signatures.get(ref.type[:32])
    if signature is None:
        raise TypeError("the function has a parameter or result of type v128")
    return new_func(store, store.owner_of(ref.instance), signature, ref, "funcref")


cdef object get_number(const uint64_t *slot, unsigned char letter):
    cdef float single
    cdef double number
    if letter == c'i':
        return <int32_t>slot[0]
    if letter == c'j':
        return <int64_t>slot[0]
    if letter == c'f':
        memcpy(&single, slot, sizeof(single))
        return single
    memcpy(&number, slot, sizeof(number))
    return number


cdef inline object take_ref(void *raw, bint as_ref):
    """The object or VMExternRef of a count that is ours."""
    try:
        return wrap(raw) if as_ref or (raw != NULL and is_native(raw)) else take_object(raw)
    except:
        release(raw)
        raise


cdef inline object borrowed_ref(void *raw, bint as_ref):
    """The object or VMExternRef of an entry of the table."""
    if not as_ref and (raw == NULL or not is_native(raw)):
        return object_of(raw)
    # A count first: making a wrapper can run code that collects the entry.
    return take_ref(externref_clone(raw), True)


cdef int put_values(Store store, const char *letters, Py_ssize_t refs, PyObject *const *values, uint64_t *slots,
                    object place) except -1:
    """Puts Python values in slots and has the table own the references. letters: of the value types, refs of
    them externref."""
    cdef Py_ssize_t at = 0, i = 0
    while letters[i] != 0:
        if letters[i] == c'e':
            slots[at] = 0
        elif letters[i] == c'r':
            put_funcref(slots + at, store, <object>values[i], place, i)
        else:
            put_number(slots + at, letters[i], <object>values[i], place, i)
        at += FUNCREF_SLOTS if letters[i] == c'r' else 1
        i += 1
    if refs == 0:
        return store.check()
    if put_refs_or_fail(store, letters, refs, values, slots) != 0:
        release_refs(letters, slots)
        reraise()
    return 0


cdef void release_refs(const char *letters, const uint64_t *slots) noexcept:
    """Gives up the counts that the slots of externrefs have."""
    while letters[0] != 0:
        if letters[0] == c'e':
            release(<void *>slots[0])
        slots += FUNCREF_SLOTS if letters[0] == c'r' else 1
        letters += 1


cdef int put_refs(Store store, const char *letters, Py_ssize_t refs, PyObject *const *values,
                  uint64_t *slots) except -1:
    cdef Py_ssize_t at = 0, i = 0
    while letters[i] != 0:
        if letters[i] == c'e':
            slots[at] = <uint64_t><uintptr_t>to_raw(<object>values[i])
        at += FUNCREF_SLOTS if letters[i] == c'r' else 1
        i += 1
    return store.adopt(slots, letters, refs)

# Called so, an error is a return value, -1, with the exception set. A try statement would
# save and restore the exception state at every call.
ctypedef int (*plain_put_refs)(Store, const char *, Py_ssize_t, PyObject *const *, uint64_t *) noexcept
cdef plain_put_refs put_refs_or_fail = <plain_put_refs>put_refs


cdef tuple get_values(Store store, const char *letters, uint64_t *slots, bint as_refs):
    """The Python values in the slots."""
    cdef Py_ssize_t at = 0, i = 0
    cdef list values = []
    cdef void *raw
    while letters[i] != 0:      # first of all, so that nothing collects them meanwhile
        if letters[i] == c'e':
            externref_clone(<void *>slots[at])
        at += FUNCREF_SLOTS if letters[i] == c'r' else 1
        i += 1
    at = i = 0
    try:
        while letters[i] != 0:
            if letters[i] == c'e':
                raw = <void *>slots[at]
                slots[at] = 0
                values.append(take_ref(raw, as_refs))
            elif letters[i] == c'r':
                values.append(get_funcref(slots + at, store))
            else:
                values.append(get_number(slots + at, letters[i]))
            at += FUNCREF_SLOTS if letters[i] == c'r' else 1
            i += 1
    except:
        release_refs(letters, slots)
        raise
    return tuple(values)


# Who has it may make a Func, Table, Global or Memory: one made from Python would have nothing behind it.
cdef object TOKEN = object()


cdef int check_token(tuple token, str name) except -1:
    if token != (TOKEN,):
        raise TypeError(f"a {name} comes from an instance's exports")
    return 0


# --- Functions ----------------------------------------------------------------------

@cython.final
@cython.no_gc_clear     # so that no method meets a half-cleared object; the dict of exports breaks cycles
cdef class Func:
    """A WebAssembly function: call it with Python values.

    An i32 or i64 takes an int, signed or unsigned, and gives a signed one; f32 and f64 take and
    give floats; an externref any object, which comes back as itself, or a VMExternRef, which is
    passed as itself, or None, which is null; a funcref a Func or None. No result is None,
    several are a tuple.

    A call raises TypeError for a wrong number of arguments, or one of the wrong type,
    OverflowError for one out of range, both naming it; ValueError for a Func of another store;
    MovedError for a spent VMExternRef; Trap; what an imported function raised, as it is;
    RuntimeError if the store is closed or in use by another thread; MemoryError.
    The GIL is held throughout.
    """
    cdef vectorcallfunc vectorcall      # CPython finds it by tp_vectorcall_offset
    cdef Signature signature
    cdef Store store
    cdef readonly Instance instance
    """The Instance it runs in, which it keeps alive."""
    cdef Wasm2cFuncref ref
    cdef readonly str name
    """The name it is exported under; "funcref" if it came as a value."""

    def __cinit__(self, *token):
        check_token(token, "Func")

    @property
    def type(self):
        """Its FuncType: params and results, tuples of names of value types."""
        return self.signature.type

    def __call__(self, *args):
        return self.invoke((<PyTupleObject *>args).ob_item, len(args), False)

    def refs(self, *args):
        """As a call, but resulting externrefs come back as VMExternRef, None for null."""
        return self.invoke((<PyTupleObject *>args).ob_item, len(args), True)

    def __repr__(self):
        return f"<externref.wasm2c.Func {self.name!r} {self.signature.type}>"

    cdef object invoke(self, PyObject *const *args, Py_ssize_t nargs, bint as_refs):
        cdef uint64_t few[16]
        cdef uint64_t *slots = few
        if self.signature.slots <= 16:
            return self.invoke_with(few, args, nargs, as_refs)
        slots = <uint64_t *>malloc(self.signature.slots * sizeof(uint64_t))
        if slots == NULL:
            raise MemoryError("no memory for the arguments")
        try:
            return self.invoke_with(slots, args, nargs, as_refs)
        finally:
            free(slots)

    cdef object invoke_with(self, uint64_t *slots, PyObject *const *args, Py_ssize_t nargs, bint as_refs):
        cdef Store store = self.store
        cdef Signature signature = self.signature
        cdef object result
        if nargs != signature.param_count:
            raise TypeError(f"{self.name}() takes {signature.param_count} arguments, not {nargs}: {signature.type}")
        put_values(store, signature.params, signature.ref_params, args, slots, self)
        store.run(signature.call, self.ref.code, self.ref.instance, slots)
        result = get_results(store, signature, slots, as_refs)
        store.settle()
        return result


cdef inline object get_results(Store store, Signature signature, uint64_t *slots, bint as_refs):
    cdef unsigned char letter
    if signature.result_count == 0:
        return None
    if signature.result_count > 1:
        return get_values(store, signature.results, slots, as_refs)
    letter = signature.results[0]
    if letter == c'e':
        return borrowed_ref(<void *>slots[0], as_refs)
    if letter == c'r':
        return get_funcref(slots, store)
    return get_number(slots, letter)


cdef object func_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *names):
    if names != NULL and PyTuple_GET_SIZE(names) != 0:
        raise TypeError("a Func takes no keyword arguments")
    return (<Func>self).invoke(args, PyVectorcall_NARGS(nargsf), False)


cdef Func new_func(Store store, Instance instance, Signature signature, Wasm2cFuncref ref, str name):
    cdef Func self = Func.__new__(Func, TOKEN)
    self.vectorcall = func_vectorcall
    self.signature = signature
    self.store = store
    self.instance = instance
    self.ref = ref
    self.name = name
    return self


@cython.final
cdef class HostFunction:
    """A Python callable that an instance imports; compiled code has its address."""
    cdef object function        # the collector may clear it
    cdef Signature signature
    cdef PyObject *store        # borrowed: the importing Instance keeps it
    cdef str name


cdef int call_host_function(PyObject *address, uint64_t *slots) except -1:
    # SAFETY: the instance that runs owns the HostFunction and the store.
    global innermost
    cdef HostFunction self = <HostFunction>address
    cdef Store store = <Store>self.store
    cdef Signature signature = self.signature
    cdef void *here = innermost
    cdef char *limit = host.stack_limit
    cdef tuple args
    cdef object result
    cdef PyObject *one
    try:
        args = get_values(store, signature.params, slots, False)
        result = self.function(*args)
        args = None
        if signature.result_count == 1:
            one = <PyObject *>result
            put_values(store, signature.results, signature.ref_results, &one, slots, self)
        elif signature.result_count > 1:
            args = tuple(result)
            if len(args) != signature.result_count:
                raise TypeError(f"{self.name}() must return {signature.result_count} values, not {len(args)}")
            put_values(store, signature.results, signature.ref_results, (<PyTupleObject *><PyObject *>args).ob_item,
                       slots, self)
    finally:
        innermost = here
        host.stack_limit = limit
    return 0


host.leave = leave
host.call_host = <int (*)(void *, uint64_t *) noexcept>call_host_function


cdef void prepare_type() noexcept:
    # Cython knows no vectorcall for instances.
    cdef TypeSlots *cls = <TypeSlots *>Func
    cls.tp_vectorcall_offset = <Py_ssize_t>&(<Func>NULL).vectorcall
    cls.tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL


prepare_type()


# --- Tables, globals, memories ------------------------------------------------------

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
    cdef unsigned char letter   # of the elements

    def __cinit__(self, *token):
        check_token(token, "Table")

    @property
    def type(self):
        """Its TableType: the elements' type, the size now, the maximum or None."""
        return TableType("externref" if self.letter == c'e' else "funcref", self.table.size,
                         None if self.table.max_size == 0xFFFFFFFF else self.table.max_size)

    def __len__(self):
        self.store.check()
        return self.table.size

    def __getitem__(self, index):
        return self.get(index, False)

    def ref(self, index, /):
        """The element as a VMExternRef, None for null. IndexError; TypeError for a funcref table."""
        if self.letter != c'e':
            raise TypeError("the table's elements are funcref")
        return self.get(index, True)

    def __setitem__(self, index, value):
        cdef uint64_t slots[4]
        cdef size_t i = self.place(index)
        self.put(value, slots)
        self.store_at(i, 1, slots)      # a table never shrinks

    def fill(self, start, value, count, /):
        """Set `count` elements from `start` on to the value. IndexError if they are not all there;
        nothing is set then."""
        cdef uint64_t slots[4]
        first, number = PyNumber_Index(start), PyNumber_Index(count)
        self.store.check()
        if first < 0 or number < 0 or first + number > self.table.size:
            raise IndexError(f"elements {first} to {first + number} of a table of {self.table.size}")
        self.put(value, slots)
        self.store_at(first, number, slots)

    def grow(self, count, value=None, /):
        """Add `count` elements that hold the value; the size before. ValueError if the table
        cannot have so many."""
        cdef uint64_t slots[4]
        cdef uint32_t before
        cdef const Wasm2cModule *module = self.instance.code.module
        number = PyNumber_Index(count)
        if not 0 <= number <= 0xFFFFFFFF:
            raise ValueError(f"a table cannot grow by {number}")
        self.put(value, slots)
        if self.letter == c'e':
            before = module.grow_externref_table(self.table, number, <void *>slots[0])
        else:
            before = module.grow_funcref_table(self.table, number, <Wasm2cFuncref *>slots)
        if before == 0xFFFFFFFF:
            raise ValueError(f"a table of {self.table.size} elements cannot grow by {number}")
        return before

    def __repr__(self):
        return f"<externref.wasm2c.Table: {self.type}>"

    cdef object get(self, index, bint as_ref):
        cdef size_t i = self.place(index)
        if self.letter == c'e':
            return borrowed_ref((<void **>self.table.data)[i], as_ref)
        return get_funcref(<uint64_t *>self.table.data + FUNCREF_SLOTS * i, self.store)

    cdef Py_ssize_t place(self, index) except -1:
        i = PyNumber_Index(index)
        self.store.check()
        if not 0 <= i < self.table.size:
            raise IndexError(f"index {i} of a table of {self.table.size}")
        return i

    cdef int put(self, value, uint64_t *slots) except -1:
        """The value in the slots, owned by the store; after it nothing has run."""
        cdef PyObject *one = <PyObject *>value
        return put_values(self.store, b"e" if self.letter == c'e' else b"r", self.letter == c'e', &one, slots,
                          "the element")

    cdef void store_at(self, size_t first, size_t count, const uint64_t *slots) noexcept:
        # What was there stays with the store until a collection: nothing is dropped here.
        cdef size_t i
        cdef size_t size = 1 if self.letter == c'e' else FUNCREF_SLOTS
        for i in range(first, first + count):
            memcpy(<uint64_t *>self.table.data + size * i, slots, size * sizeof(uint64_t))


@cython.final
@cython.no_gc_clear
cdef class Global:
    """A WebAssembly global: its `value`, as a Func's results and parameters have it."""
    cdef Store store
    cdef Instance instance      # keeps the global alive
    cdef void *address
    cdef bytes letters          # one
    cdef readonly object type
    """Its GlobalType: the value's type, and whether it is mutable."""

    def __cinit__(self, *token):
        check_token(token, "Global")

    @property
    def value(self):
        self.store.check()
        if self.letters == b"e":
            return borrowed_ref((<void **>self.address)[0], False)
        if self.letters == b"r":
            return get_funcref(<uint64_t *>self.address, self.store)
        return self.number()

    @value.setter
    def value(self, value):
        cdef uint64_t slots[4]
        cdef PyObject *one = <PyObject *>value
        if not self.type.mutable:
            raise TypeError("the global is immutable")
        put_values(self.store, self.letters, self.letters == b"e", &one, slots, "the global's value")
        memcpy(self.address, slots, value_size(self.letters))

    @property
    def ref(self):
        """The value of an externref global as a VMExternRef, None for null. TypeError for another."""
        if self.letters != b"e":
            raise TypeError(f"the global's value is {self.type.value}")
        self.store.check()
        return borrowed_ref((<void **>self.address)[0], True)

    def __repr__(self):
        return f"<externref.wasm2c.Global: {self.type}>"

    cdef object number(self):
        cdef uint64_t slot = 0
        memcpy(&slot, self.address, value_size(self.letters))
        return get_number(&slot, self.letters[0])


cdef size_t value_size(bytes letters):
    """Bytes of a value as C has it."""
    return {b"i": 4, b"f": 4, b"r": sizeof(Wasm2cFuncref)}.get(letters, 8)


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

    def __cinit__(self, *token):
        check_token(token, "Memory")

    @property
    def type(self):
        """Its MemoryType: pages of 64 KiB now, and at most."""
        return MemoryType(self.memory.pages, self.memory.max_pages)

    def __len__(self):
        self.store.check()
        return self.memory.size

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        self.store.check()
        if self.memory.is64 or self.memory.page_size != 65536:
            # wasm2c's runtime reserves address space for the usual memories only.
            raise BufferError("a 64-bit memory can move when it grows: it has no buffer")
        PyBuffer_FillInfo(buffer, self, self.memory.data, self.memory.size, 0, flags)

    def grow(self, pages, /):
        """Add pages of 64 KiB; how many there were. ValueError if there cannot be so many."""
        cdef uint64_t before
        number = PyNumber_Index(pages)
        self.store.check()
        if not 0 <= number <= 0xFFFFFFFF:
            raise ValueError(f"a memory cannot grow by {number} pages")
        before = self.instance.code.module.grow_memory(self.memory, number)
        if before == <uint64_t>-1:
            raise ValueError(f"a memory of {self.memory.pages} pages cannot grow by {number}")
        return before

    def __repr__(self):
        return f"<externref.wasm2c.Memory: {self.type}>"


# --- Instances ----------------------------------------------------------------------

@cython.final
@cython.no_gc_clear
cdef class Instance:
    """An instance of a compiled module; Module.instantiate() makes it.

    It lives as long as something in Python leads to it: itself, an export, an instance that
    imports from it. What only its tables and globals held is dropped with it. One whose imports
    or exports can carry a funcref lives as long as its store, since any table may hold its
    functions.
    """
    cdef Store store
    cdef Code code
    cdef void *memory           # of the C instance, and the list of its imports
    cdef uint64_t *values       # four slots for each import: of globals given as plain values
    cdef Roots roots
    cdef tuple imports          # what was imported, which compiled code has the addresses of
    cdef readonly object exports
    """What it exports by name: an Exports."""
    cdef object __weakref__

    def __cinit__(self, Store store not None, Code code not None, binary, imports):
        cdef list found
        cdef uint64_t unused = 0
        self.store = store
        self.code = code
        store.check()
        found = [find_import(imports, item) for item in binary.imports]
        self.memory = calloc(1, code.module.instance_size)
        self.values = <uint64_t *>calloc(len(found) + 1, FUNCREF_SLOTS * sizeof(uint64_t))
        if self.memory == NULL or self.values == NULL:
            raise MemoryError("no memory for the instance")
        self.enter_roots(binary)
        self.imports = tuple([
            self.link(k, binary.imports[k], found[k], binary) for k in range(len(found))])
        self.exports = Exports({})
        if carries_funcrefs(binary):
            store.pinned.add(self)
            for thing in self.imports:
                if isinstance(thing, Table):
                    store.pinned.add((<Table>thing).instance)
        store.check()
        store.run(code.module.instantiate, NULL, self.memory, &unused)
        self.fill_exports(binary)
        store.settle()

    def __dealloc__(self):
        cdef Store store = self.store
        if self.roots.next != NULL:
            self.roots.next.previous = self.roots.previous
            self.roots.previous.next = self.roots.next
        if self.memory != NULL:
            self.code.module.release(self.memory)
        free(self.memory)
        free(self.values)
        free(self.roots.tables)
        free(self.roots.globals)
        # Its references have lost their roots. If another thread runs the store's code, it collects later.
        if (self.roots.next != NULL and not store.closed and len(store.activations)
                and (store.depth == 0 or store.thread == PyThread_get_thread_ident())):
            try:
                store.collect()
            except MemoryError:
                pass    # the next collection does it

    def __repr__(self):
        return f"<externref.wasm2c.Instance {self.exports!r}>"

    cdef Wasm2cImport *import_at(self, size_t k) noexcept:
        return <Wasm2cImport *>(<char *>self.memory + self.code.module.imports_offset) + k

    cdef int enter_roots(self, binary) except -1:
        """Joins the store's ring of live instances, before anything can be in the tables."""
        cdef Roots *roots = &self.roots
        cdef Roots *ring = &self.store.roots
        cdef Py_ssize_t memories = len(binary.memories)
        cdef Py_ssize_t count = len(binary.tables)
        cdef Py_ssize_t i
        roots.tables = <Wasm2cTable **>calloc(count + 1, sizeof(void *))
        # Globals given as plain values are the instance's own: one for each import, at most.
        roots.globals = <void ***>calloc(len(binary.globals) + 1, sizeof(void *))
        if roots.tables == NULL or roots.globals == NULL:
            raise MemoryError("no memory for the instance")
        for i in range(<Py_ssize_t>binary.imported[TableType], count):
            if binary.tables[i].element == "externref":
                roots.tables[roots.table_count] = <Wasm2cTable *>self.code.module.item(self.memory, i)
                roots.table_count += 1
        for i in range(<Py_ssize_t>binary.imported[GlobalType], <Py_ssize_t>len(binary.globals)):
            if binary.globals[i].value == "externref":
                roots.globals[roots.global_count] = <void **>self.code.module.item(self.memory, count + memories + i)
                roots.global_count += 1
        roots.instance = <PyObject *>self
        roots.start = <char *>self.memory
        roots.end = roots.start + self.code.module.instance_size
        roots.next = ring.next
        roots.previous = ring
        ring.next.previous = roots
        ring.next = roots
        return 0

    cdef object link(self, size_t k, item, thing, binary):
        """Fills in import k; what must be kept alive for it. LinkError if it is not of the type."""
        cdef Wasm2cImport *slot = self.import_at(k)
        cdef uint64_t *value = self.values + FUNCREF_SLOTS * k
        cdef PyObject *one = <PyObject *>thing
        cdef bytes letters
        cdef HostFunction function
        type_ = item.type
        if isinstance(thing, (Func, Table, Global, Memory)) and store_of(thing) is not self.store:
            refuse_import(item, "it is of another store")
        if isinstance(type_, FuncType):
            if isinstance(thing, Func):
                if (<Func>thing).signature.type != type_:
                    refuse_import(item, f"it is {(<Func>thing).signature.type}")
                slot.function = (<Func>thing).ref
                return thing
            if not callable(thing):
                refuse_import(item, f"{type(thing).__name__} is not callable")
            function = HostFunction.__new__(HostFunction)
            function.function = thing
            function.signature = self.code.signatures[binary.function_types[
                sum(isinstance(other.type, FuncType) for other in binary.imports[:k])]]
            function.store = <PyObject *>self.store
            function.name = f"{item.module}.{item.name}"
            slot.function.type = function.signature.id
            slot.function.code = function.signature.host_code
            slot.function.instance = <void *>function
            return function
        if isinstance(type_, GlobalType):
            if isinstance(thing, Global):
                if (<Global>thing).type != type_:
                    refuse_import(item, f"it is {(<Global>thing).type}")
                slot.object = (<Global>thing).address
                return thing
            if type_.mutable:
                refuse_import(item, f"it is no Global but {type(thing).__name__}")
            letters = LETTERS[type_.value].encode()
            try:
                put_values(self.store, letters, letters == b"e", &one, value, "the value")
            except (TypeError, OverflowError, ValueError) as error:
                raise LinkError(f"import {item.module}.{item.name} ({type_}): {error}") from error
            if letters == b"e":
                self.roots.globals[self.roots.global_count] = <void **>value
                self.roots.global_count += 1
            slot.object = value
            return None
        if isinstance(type_, TableType):
            if not isinstance(thing, Table):
                refuse_import(item, f"it is no Table but {type(thing).__name__}")
            if thing.type.element != type_.element or not fits(thing.type, type_):
                refuse_import(item, f"it is a {thing.type}")
            slot.object = (<Table>thing).table
            return thing
        if not isinstance(thing, Memory):
            refuse_import(item, f"it is no Memory but {type(thing).__name__}")
        if not fits(thing.type, type_):
            refuse_import(item, f"it is a {thing.type}")
        slot.object = (<Memory>thing).memory
        return thing

    cdef int fill_exports(self, binary) except -1:
        cdef const Wasm2cModule *module = self.code.module
        cdef dict made = {}     # one object for an item, under however many names
        cdef list functions = binary.exported_functions()
        cdef Wasm2cFuncref ref
        cdef Table table
        cdef Memory memory
        cdef Global global_
        cdef Signature signature
        for item in binary.exports:
            key = type(item.type), item.number
            if key not in made:
                if isinstance(item.type, FuncType):
                    signature = self.code.signatures[binary.function_types[item.number]]
                    ref.type = signature.id
                    ref.code = module.functions[<size_t>functions.index(item.number)]
                    ref.tail_call = NULL
                    ref.instance = self.memory
                    made[key] = new_func(self.store, self, signature, ref, item.name)
                elif isinstance(item.type, TableType):
                    table = Table.__new__(Table, TOKEN)
                    table.store, table.instance = self.store, self
                    table.table = <Wasm2cTable *>module.item(self.memory, item.number)
                    table.letter = ord(LETTERS[item.type.element])
                    made[key] = table
                elif isinstance(item.type, MemoryType):
                    memory = Memory.__new__(Memory, TOKEN)
                    memory.store, memory.instance = self.store, self
                    memory.memory = <Wasm2cMemory *>module.item(self.memory, <size_t>(len(binary.tables) + item.number))
                    made[key] = memory
                else:
                    global_ = Global.__new__(Global, TOKEN)
                    global_.store, global_.instance = self.store, self
                    global_.type = item.type
                    global_.letters = LETTERS[item.type.value].encode()
                    global_.address = module.item(
                        self.memory, <size_t>(len(binary.tables) + len(binary.memories) + item.number))
                    made[key] = global_
            self.exports._items[item.name] = made[key]
        return 0


cdef object find_import(imports, item):
    """What is given for the import. LinkError if nothing is."""
    try:
        group = imports[item.module]
        if isinstance(group, Instance):
            group = (<Instance>group).exports
        return group[item.name]
    except KeyError:
        raise LinkError(f"import {item.module}.{item.name} ({item.type}) is missing") from None


cdef int refuse_import(item, str reason) except -1:
    raise LinkError(f"import {item.module}.{item.name} ({item.type}): {reason}")


cdef Store store_of(object thing):
    if isinstance(thing, Func):
        return (<Func>thing).store
    if isinstance(thing, Table):
        return (<Table>thing).store
    if isinstance(thing, Global):
        return (<Global>thing).store
    return (<Memory>thing).store


cdef bint fits(given, declared) except -1:
    """Whether the size and maximum are within those that the importing module declares."""
    return given.minimum >= declared.minimum and (
        declared.maximum is None or given.maximum is not None and given.maximum <= declared.maximum)


cdef bint carries_funcrefs(binary) except -1:
    """Whether a funcref can come in or go out through the module's imports and exports."""
    for item in [*binary.imports, *binary.exports]:
        if isinstance(item.type, FuncType):
            if "funcref" in item.type.params + item.type.results:
                return True
        elif "funcref" in (getattr(item.type, "element", None), getattr(item.type, "value", None)):
            return True
    return False
