# cython: language_level=3, binding=False, auto_pickle=False, autotestdict=False
# cython: embedsignature=True, embedsignature.format=clinic
"""externref.wasmtime's calls: the C API of the library that wasmtime-py has loaded.

Ownership
---------
A raw pointer that goes into `wasmtime_externref_new` is the store's from then on, also
when that fails; its finalizer drops it. Compiled code copies and drops the store's own
references, never our count. What comes out is lent by the root it came through, and
cloned, or its object taken, before the root goes.

Order
-----
Making an externref may collect, and a collection invalidates references that are not
roots. So a call converts in this order, and no Python code runs in the middle part:

    make a root for each argument; roots to raw; call; raw results to roots; roots to objects

Threads and the GIL
-------------------
Everything needs the GIL; a call gives it up on request, a host function takes it. A
store is used by one thread at a time: StoreState refuses the second, and refuses a
finalizer that wasmtime runs in the middle of its own work.
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject
from libc.math cimport isfinite
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy

import ctypes

import wasmtime
from wasmtime import _ffi as ffi
from wasmtime import _func as wasmtime_func_module
from wasmtime._value import _unintern

from externref._core cimport VMExternRef, externref_drop, is_native, object_of, to_raw, wrap_clone

cdef extern from "Python.h":
    Py_ssize_t PyVectorcall_NARGS(size_t) noexcept
    Py_ssize_t PyTuple_GET_SIZE(PyObject *) noexcept
    long long PyLong_AsLongLongAndOverflow(object, int *) except? -1
    unsigned long long PyLong_AsUnsignedLongLong(object) except? 0xffffffffffffffff
    double PyFloat_AsDouble(object) except? -1.0
    object PySeqIter_New(object)
    unsigned long PyThread_get_thread_ident() noexcept
    ctypedef struct PyTupleObject:
        PyObject **ob_item
    unsigned long Py_TPFLAGS_HAVE_VECTORCALL
    ctypedef struct TypeSlots "PyTypeObject":
        unsigned long tp_flags
        Py_ssize_t tp_vectorcall_offset

cdef extern from "wasmtime/abi.h" nogil:
    const uintptr_t DATA_TAG "EXTERNREF_WASMTIME_TAG"

    ctypedef struct wasmtime_context_t:
        pass
    ctypedef struct wasmtime_caller_t:
        pass
    ctypedef struct wasmtime_error_t:
        pass
    ctypedef struct wasm_trap_t:
        pass
    ctypedef struct wasm_functype_t:
        pass
    ctypedef struct wasmtime_func_t:
        uint64_t store_id
    ctypedef struct wasmtime_table_t:
        pass
    ctypedef struct wasmtime_global_t:
        pass
    ctypedef struct wasmtime_externref_t:
        uint64_t store_id
    ctypedef union wasmtime_val_raw_t:
        int32_t i32
        int64_t i64
        float f32
        double f64
        uint32_t externref
        void *funcref
    ctypedef union wasmtime_valunion_t:
        wasmtime_val_raw_t number
        wasmtime_externref_t externref
        wasmtime_func_t funcref
    ctypedef struct wasmtime_val_t:
        uint8_t kind
        wasmtime_valunion_t of
    ctypedef struct wasmtime_functions:
        wasmtime_error_t *(*context_gc)(wasmtime_context_t *) noexcept nogil
        wasmtime_error_t *(*func_call_unchecked)(
            wasmtime_context_t *, const wasmtime_func_t *, wasmtime_val_raw_t *, size_t, wasm_trap_t **) noexcept nogil
        void (*func_new_unchecked)(
            wasmtime_context_t *, const wasm_functype_t *,
            wasm_trap_t *(*)(void *, wasmtime_caller_t *, wasmtime_val_raw_t *, size_t) noexcept nogil,
            void *, void (*)(void *) noexcept nogil, wasmtime_func_t *) noexcept nogil
        void *(*func_to_raw)(wasmtime_context_t *, const wasmtime_func_t *) noexcept nogil
        void (*func_from_raw)(wasmtime_context_t *, void *, wasmtime_func_t *) noexcept nogil
        bint (*externref_new)(
            wasmtime_context_t *, void *, void (*)(void *) noexcept nogil, wasmtime_externref_t *) noexcept nogil
        void *(*externref_data)(wasmtime_context_t *, const wasmtime_externref_t *) noexcept nogil
        uint32_t (*externref_to_raw)(wasmtime_context_t *, const wasmtime_externref_t *) noexcept nogil
        void (*externref_from_raw)(wasmtime_context_t *, uint32_t, wasmtime_externref_t *) noexcept nogil
        void (*externref_unroot)(wasmtime_externref_t *) noexcept nogil
        bint (*table_get)(wasmtime_context_t *, const wasmtime_table_t *, uint64_t, wasmtime_val_t *) noexcept nogil
        wasmtime_error_t *(*table_set)(
            wasmtime_context_t *, const wasmtime_table_t *, uint64_t, const wasmtime_val_t *) noexcept nogil
        uint64_t (*table_size)(wasmtime_context_t *, const wasmtime_table_t *) noexcept nogil
        wasmtime_error_t *(*table_grow)(
            wasmtime_context_t *, const wasmtime_table_t *, uint64_t, const wasmtime_val_t *, uint64_t *) noexcept nogil
        void (*global_get)(wasmtime_context_t *, const wasmtime_global_t *, wasmtime_val_t *) noexcept nogil
        wasmtime_error_t *(*global_set)(
            wasmtime_context_t *, const wasmtime_global_t *, const wasmtime_val_t *) noexcept nogil
        wasm_trap_t *(*trap_new)(const char *, size_t) noexcept nogil

ctypedef object (*vectorcallfunc)(PyObject *, PyObject *const *, size_t, PyObject *)


# --- The library --------------------------------------------------------------------

# A letter for each ctypes declaration: what a parameter or result is to the C compiler.
cdef str letter_of(object declared):
    if declared is None:
        return "v"
    if issubclass(declared, (ctypes._Pointer, ctypes._CFuncPtr, ctypes.c_void_p)):
        return "p"
    if declared is ctypes.c_bool:
        return "b"
    return str(ctypes.sizeof(declared))


cdef int load(void **slot, str name, str signature) except -1:
    """Finds a function of the loaded library, if wasmtime-py declares it as we do."""
    function = getattr(ffi.dll, name, None)
    if function is None:
        raise ImportError(f"the wasmtime library has no {name}")
    declared = "".join(map(letter_of, [function.restype, *(function.argtypes or ())]))
    if declared != signature:
        raise ImportError(f"wasmtime-py declares {name} as {declared!r}, where {signature!r} is known")
    slot[0] = <void *><uintptr_t>ctypes.cast(function, ctypes.c_void_p).value
    return 0


cdef int check_layout(str name, size_t size, dict offsets) except -1:
    """Compares a struct of wasmtime/abi.h with wasmtime-py's ctypes declaration."""
    declared = getattr(ffi, name, ctypes.c_char * 0)
    found = {field: getattr(getattr(declared, field, None), "offset", None) for field in offsets}
    if ctypes.sizeof(declared) != size or found != offsets:
        raise ImportError(f"wasmtime-py declares {name} with {ctypes.sizeof(declared)} bytes and {found}, "
                          f"where {size} bytes and {offsets} are known")
    return 0


cdef wasmtime_functions api

# SAFETY: each slot is the field of that name; the letters are its result and parameters.
load(<void **>&api.context_gc, "wasmtime_context_gc", "pp")
load(<void **>&api.func_call_unchecked, "wasmtime_func_call_unchecked", "pppp8p")
load(<void **>&api.func_new_unchecked, "wasmtime_func_new_unchecked", "vpppppp")
load(<void **>&api.func_to_raw, "wasmtime_func_to_raw", "ppp")
load(<void **>&api.func_from_raw, "wasmtime_func_from_raw", "vppp")
load(<void **>&api.externref_new, "wasmtime_externref_new", "bpppp")
load(<void **>&api.externref_data, "wasmtime_externref_data", "ppp")
load(<void **>&api.externref_to_raw, "wasmtime_externref_to_raw", "4pp")
load(<void **>&api.externref_from_raw, "wasmtime_externref_from_raw", "vp4p")
load(<void **>&api.externref_unroot, "wasmtime_externref_unroot", "vp")
load(<void **>&api.table_get, "wasmtime_table_get", "bpp8p")
load(<void **>&api.table_set, "wasmtime_table_set", "ppp8p")
load(<void **>&api.table_size, "wasmtime_table_size", "8pp")
load(<void **>&api.table_grow, "wasmtime_table_grow", "ppp8pp")
load(<void **>&api.global_get, "wasmtime_global_get", "vppp")
load(<void **>&api.global_set, "wasmtime_global_set", "pppp")
load(<void **>&api.trap_new, "wasmtime_trap_new", "pp8")

check_layout("wasmtime_func_t", sizeof(wasmtime_func_t), {"store_id": 0})
check_layout("wasmtime_table_t", sizeof(wasmtime_table_t), {"_anon_1": 0})
check_layout("wasmtime_global_t", sizeof(wasmtime_global_t), {"store_id": 0})
check_layout("wasmtime_externref_t", sizeof(wasmtime_externref_t), {"store_id": 0})
check_layout("wasmtime_val_raw_t", sizeof(wasmtime_val_raw_t), {
    "i32": 0, "i64": 0, "f32": 0, "f64": 0, "externref": 0, "funcref": 0})
check_layout("wasmtime_val_t", sizeof(wasmtime_val_t), {"kind": 0, "of": 8})


# --- Stores -------------------------------------------------------------------------

@cython.final
cdef class StoreState:
    """What we know of a wasmtime.Store. The store holds it, and so does all that is bound."""
    cdef wasmtime_context_t *context    # NULL once the store is closed
    cdef uint64_t store_id              # what its functions, tables and globals carry
    cdef Py_ssize_t depth               # operations in progress, one inside another
    cdef unsigned long thread           # whose they are
    cdef bint locked                    # wasmtime is at work and may run finalizers, no host functions
    cdef object exception               # a host function's, on its way to the call that it ends

    cdef int enter(self) except -1:
        """Begins an operation; every exit must leave(). Nobody can close the store in it."""
        cdef unsigned long thread = PyThread_get_thread_ident()
        if self.context == NULL:
            raise ValueError("already closed")      # as wasmtime-py says it
        if self.depth != 0 and self.thread != thread:
            raise RuntimeError("the store is in use on another thread")
        if self.locked:
            raise RuntimeError("the store cannot be used by a finalizer that it runs itself")
        self.thread = thread
        self.depth += 1
        return 0

    cdef void leave(self) noexcept:
        self.depth -= 1
        if self.depth == 0 and self.exception is not None:
            self.exception = None

    def close(self):
        """Called before the store is deleted: nothing bound reaches it from here on.

        Raises RuntimeError if an operation is in progress, which would go on in freed memory.
        """
        if self.depth != 0:
            raise RuntimeError("the store is in use, it cannot be closed")
        self.context = NULL


# Under this name the store's own dictionary keeps it, and closing looks for it.
STATE_ATTRIBUTE = "_externref_state"


cdef void *address_in(object pointer) except NULL:
    """The address that a ctypes pointer holds."""
    return <void *><uintptr_t>ctypes.cast(pointer, ctypes.c_void_p).value


cdef StoreState state_of(object store):
    """The state of a store, made when it is first seen."""
    cdef StoreState state
    cdef wasmtime_func_t probe
    if not isinstance(store, wasmtime.Store):
        raise TypeError(f"expected a wasmtime.Store, not {type(store).__name__}")
    context = store._context()      # ValueError if closed
    found = store.__dict__.get(STATE_ATTRIBUTE)
    if found is not None:
        return found
    state = StoreState.__new__(StoreState)
    state.context = <wasmtime_context_t *>address_in(context)
    # There is no function that tells a store's id; its items carry it. The type is a new one: once
    # used it belongs to an engine, and aborts in a store of another.
    function_type = wasmtime.FuncType([], [])
    api.func_new_unchecked(
        state.context, <wasm_functype_t *>address_in(function_type.ptr()), no_callback, NULL, NULL, &probe)
    state.store_id = probe.store_id
    store.__dict__[STATE_ATTRIBUTE] = state
    return state


cdef wasm_trap_t *no_callback(
        void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t count) noexcept nogil:
    return NULL


# --- Failures -----------------------------------------------------------------------

# A trap of ours is told from wasmtime-py's "python exception" by its text.
cdef bytes HOST_TRAP = b"Python exception in a host function of externref.wasmtime"


cdef object exception_of(wasmtime_error_t *error, wasm_trap_t *trap):
    """wasmtime-py's exception, which owns the error or trap: a WasmtimeError, ExitTrap or Trap."""
    if error != NULL:
        return wasmtime.WasmtimeError._from_ptr(
            ctypes.cast(<uintptr_t>error, ctypes.POINTER(ffi.wasmtime_error_t)))
    return wasmtime.Trap._from_ptr(ctypes.cast(<uintptr_t>trap, ctypes.POINTER(ffi.wasm_trap_t)))


cdef int raise_failure(StoreState state, wasmtime_error_t *error, wasm_trap_t *trap) except -1:
    """Raises what ended a call: the exception of a host function, ours or wasmtime-py's, as it is."""
    failure = exception_of(error, trap)
    raised = state.exception
    if raised is not None and HOST_TRAP.decode() in str(failure):
        state.exception = None
        if wasmtime_func_module.LAST_EXCEPTION is raised:
            wasmtime_func_module.LAST_EXCEPTION = None
        raise raised
    wasmtime_func_module.maybe_raise_last_exn()
    raise failure


cdef int check(wasmtime_error_t *error) except -1:
    if error != NULL:
        raise exception_of(error, NULL)
    return 0


# --- Types --------------------------------------------------------------------------

# A type, as a byte of a signature.
cdef enum:
    I32 = 1
    I64 = 2
    F32 = 3
    F64 = 4
    EXTERNREF = 5
    FUNCREF = 6

cdef dict type_names = {I32: "i32", I64: "i64", F32: "f32", F64: "f64", EXTERNREF: "externref", FUNCREF: "funcref"}
cdef dict value_types = {code: getattr(wasmtime.ValType, name)() for code, name in type_names.items()}
cdef dict value_kinds = {code: getattr(ffi, f"WASMTIME_{name.upper()}").value for code, name in type_names.items()}


cdef char code_of(object value_type, str place) except 0:
    """The code of a wasmtime.ValType."""
    # Not by wasm_valtype_kind: it aborts the process for types it does not know, and tells
    # (ref extern), which may not be null, from externref as little as (ref $f) from funcref.
    for code, known in value_types.items():
        if ffi.wasmtime_wasm_valtype_equal(value_type.ptr(), known.ptr()):
            return code
    raise TypeError(f"{place} is of a type that is not converted here, only {', '.join(type_names.values())} are; "
                    "use wasmtime's own call")


cdef bytes codes_of(object value_types, str place):
    return bytes([code_of(value_type, f"{place} {number}") for number, value_type in enumerate(value_types, 1)])


cdef struct Plan:
    const char *params      # a code for each
    const char *results
    int param_count
    int result_count
    int slots               # parameters and results share their places


@cython.final
cdef class Signature:
    """How to convert for a function: worked out once, from its type."""
    cdef Plan plan
    cdef bytes params       # what the plan points to
    cdef bytes results

    def __cinit__(self, function_type):
        self.params = codes_of(function_type.params, "parameter")
        self.results = codes_of(function_type.results, "result")
        self.plan.params = self.params
        self.plan.results = self.results
        self.plan.param_count = len(self.params)
        self.plan.result_count = len(self.results)
        self.plan.slots = max(len(self.params), len(self.results))

    def __repr__(self):
        return (f"({', '.join([type_names[code] for code in self.params])}) -> "
                f"({', '.join([type_names[code] for code in self.results])})")


# --- Values -------------------------------------------------------------------------

cdef str describe(str place, int index, char code):
    """'parameter 2 (i32)', or 'value (i32)' for what there is only one of."""
    return f"{place} {index + 1} ({type_names[code]})" if index >= 0 else f"{place} ({type_names[code]})"


cdef object integer_of(object value, str place, int index, char code):
    try:
        return PyNumber_Index(value)
    except TypeError:
        raise TypeError(f"{describe(place, index, code)}: expected an int, not {type(value).__name__}") from None


cdef int refuse_number(object value, str place, int index, char code) except -1:
    raise OverflowError(f"{describe(place, index, code)}: {value} does not fit")


cdef int to_number(char code, object value, wasmtime_val_raw_t *out, str place, int index) except -1:
    cdef long long integer
    cdef double real = 0
    cdef int overflow = 0
    out.i64 = 0
    if code == I32 or code == I64:
        if type(value) is not int:
            value = integer_of(value, place, index, code)
        integer = PyLong_AsLongLongAndOverflow(value, &overflow)
        if code == I32:
            # Signed, or the same bits unsigned.
            if overflow or integer < -0x80000000 or integer > 0xffffffff:
                refuse_number(value, place, index, code)
            out.i32 = <int32_t>integer
        else:
            if overflow < 0 or overflow > 0 and value > 0xffffffffffffffff:
                refuse_number(value, place, index, code)
            out.i64 = <int64_t>PyLong_AsUnsignedLongLong(value) if overflow else integer
        return 0
    try:
        real = PyFloat_AsDouble(value)
    except TypeError:
        raise TypeError(f"{describe(place, index, code)}: expected a float, not {type(value).__name__}") from None
    except OverflowError:
        refuse_number(value, place, index, code)
    if code == F64:
        out.f64 = real
        return 0
    out.f32 = <float>real
    if isfinite(real) and not isfinite(out.f32):
        refuse_number(value, place, index, code)
    return 0


cdef object number_of(char code, const wasmtime_val_raw_t *value):
    if code == I32:
        return value.i32
    if code == I64:
        return value.i64
    return value.f32 if code == F32 else value.f64


TAG = DATA_TAG      # in the data of our externrefs


cdef inline bint is_ours(const void *data) noexcept nogil:
    return (<uintptr_t>data & DATA_TAG) != 0


cdef inline void *untagged(const void *data) noexcept nogil:
    # SAFETY: only for data with the tag, which is a raw pointer that the externref owns.
    return <void *>(<uintptr_t>data & ~DATA_TAG)


cdef void finalize(void *data) noexcept nogil:
    """wasmtime calls it once for each externref, on any thread, inside its collector."""
    externref_drop(untagged(data))


cdef bint make_externref(StoreState state, object value, wasmtime_externref_t *out) except -1:
    """Whether there was room. What `value` was boxed in is the store's either way."""
    cdef void *raw = to_raw(value)
    cdef bint made
    if raw == NULL:
        out.store_id = 0
        return True
    state.locked = True
    # SAFETY: the store takes over the count of raw, and gives it back to finalize.
    made = api.externref_new(state.context, <void *>(<uintptr_t>raw | DATA_TAG), finalize, out)
    state.locked = False
    if not made:
        out.store_id = 0
    return made


cdef int new_externref(StoreState state, object value, wasmtime_externref_t *out) except -1:
    """A root for the value, ours to unroot; null for None."""
    cdef wasmtime_error_t *error
    if make_externref(state, value, out):
        return 0
    state.locked = True
    error = api.context_gc(state.context)
    state.locked = False
    check(error)
    if not make_externref(state, value, out):
        raise wasmtime.WasmtimeError("failed to create an externref value: the store's heap for references is full, "
                                     "or its engine has none")
    return 0


cdef object externref_value(StoreState state, const wasmtime_externref_t *root, bint as_refs):
    """The object of a reference, or a VMExternRef; the root stays the caller's."""
    cdef void *data
    cdef void *raw
    if root.store_id == 0:
        return None
    data = api.externref_data(state.context, root)
    if is_ours(data):
        raw = untagged(data)
        return wrap_clone(raw) if as_refs or is_native(raw) else object_of(raw)
    if data == NULL:
        return None     # as wasmtime-py: a reference that no host made, such as an i31
    try:
        value = _unintern(<uintptr_t>data)
    except LookupError:
        raise TypeError("the externref is neither of externref's nor of wasmtime-py's making") from None
    return VMExternRef(value) if as_refs and not isinstance(value, VMExternRef) else value


def object_at(data):
    """For wasmtime-py: the object of an externref of ours that is a root now, by its data, an int."""
    # SAFETY: wasmtime-py read the data, which has the tag, from the root.
    cdef void *raw = untagged(<void *><uintptr_t>data)
    return wrap_clone(raw) if is_native(raw) else object_of(raw)


cdef int func_of(StoreState state, object value, wasmtime_func_t *out, str place, int index) except -1:
    """A wasmtime.Func, or what bind() made of one, as the C API has it."""
    if value is None:
        out.store_id = 0
        return 0
    if isinstance(value, Func):
        out[0] = (<Func>value).func
    elif isinstance(value, wasmtime.Func):
        copy_item(value._func, ffi.wasmtime_func_t, out, sizeof(wasmtime_func_t))
    else:
        raise TypeError(f"{describe(place, index, FUNCREF)}: expected a wasmtime.Func or None, "
                        f"not {type(value).__name__}")
    if out.store_id != state.store_id:
        raise ValueError(f"{describe(place, index, FUNCREF)}: the function belongs to another store")
    return 0


cdef object func_object(const wasmtime_func_t *func):
    """A wasmtime.Func, as wasmtime-py gives them; None for null."""
    if func.store_id == 0:
        return None
    item = ffi.wasmtime_func_t()
    # SAFETY: the sizes are equal, check_layout() has seen to it.
    memcpy(<void *><uintptr_t>ctypes.addressof(item), func, sizeof(wasmtime_func_t))
    return wasmtime.Func._from_raw(item)


cdef int copy_item(object item, object declared, void *out, size_t size) except -1:
    """Copies a ctypes struct of wasmtime-py's: nobody can change the copy."""
    if not isinstance(item, declared):
        raise TypeError(f"expected a {declared.__name__}, not {type(item).__name__}")
    # SAFETY: check_layout() has compared the sizes.
    memcpy(out, <void *><uintptr_t>ctypes.addressof(item), size)
    return 0


# Values in the places of a call or of a host function: `value` as compiled code has it, and
# `root` for an externref, as long as it has no place there.

cdef int to_wasm(StoreState state, char code, object value, wasmtime_val_raw_t *out, wasmtime_externref_t *root,
                 str place, int index) except -1:
    """Converts all but an externref, which gets its root only."""
    cdef wasmtime_func_t func
    if code == EXTERNREF:
        new_externref(state, value, root)
    elif code == FUNCREF:
        func_of(state, value, &func, place, index)
        # SAFETY: what it gives lives as long as the store, and does not move.
        out.funcref = api.func_to_raw(state.context, &func) if func.store_id != 0 else NULL
    else:
        to_number(code, value, out, place, index)
    return 0


cdef object from_wasm(StoreState state, char code, const wasmtime_val_raw_t *value, const wasmtime_externref_t *root,
                      bint as_refs):
    cdef wasmtime_func_t func
    if code == EXTERNREF:
        return externref_value(state, root, as_refs)
    if code == FUNCREF:
        func.store_id = 0
        if value.funcref != NULL:
            # SAFETY: compiled code gave it as a funcref of this store.
            api.func_from_raw(state.context, value.funcref, &func)
        return func_object(&func)
    return number_of(code, value)


cdef tuple all_from_wasm(StoreState state, const char *codes, int count, const wasmtime_val_raw_t *values,
                         const wasmtime_externref_t *roots, bint as_refs):
    cdef int i
    return tuple([from_wasm(state, codes[i], &values[i], &roots[i], as_refs) for i in range(count)])


cdef void clear_roots(wasmtime_externref_t *roots, int count) noexcept nogil:
    cdef int i
    for i in range(count):
        roots[i].store_id = 0


cdef void unroot(wasmtime_externref_t *roots, int count) noexcept nogil:
    cdef int i
    for i in range(count):
        if roots[i].store_id != 0:
            api.externref_unroot(&roots[i])
            roots[i].store_id = 0


cdef void roots_to_raw(wasmtime_context_t *context, const char *codes, int count, wasmtime_val_raw_t *values,
                       const wasmtime_externref_t *roots) noexcept nogil:
    """Gives compiled code its references: nothing may collect before it has them."""
    cdef int i
    for i in range(count):
        if codes[i] == EXTERNREF:
            values[i].i64 = 0
            if roots[i].store_id != 0:
                values[i].externref = api.externref_to_raw(context, &roots[i])


cdef void raw_to_roots(wasmtime_context_t *context, const char *codes, int count, const wasmtime_val_raw_t *values,
                       wasmtime_externref_t *roots) noexcept nogil:
    """Roots what compiled code gave: nothing may have collected since."""
    cdef int i
    for i in range(count):
        if codes[i] == EXTERNREF and values[i].externref != 0:
            api.externref_from_raw(context, values[i].externref, &roots[i])


# Values of tables and globals.

cdef int to_value(StoreState state, char code, object value, wasmtime_val_t *out) except -1:
    """Converts; the caller frees it with drop_value(), also if this raises."""
    out.kind = value_kinds[code]
    out.of.externref.store_id = 0
    if code == EXTERNREF:
        new_externref(state, value, &out.of.externref)
    elif code == FUNCREF:
        func_of(state, value, &out.of.funcref, "value", -1)
    else:
        to_number(code, value, &out.of.number, "value", -1)
    return 0


cdef object from_value(StoreState state, char code, const wasmtime_val_t *value, bint as_refs):
    if code == EXTERNREF:
        return externref_value(state, &value.of.externref, as_refs)
    if code == FUNCREF:
        return func_object(&value.of.funcref)
    return number_of(code, &value.of.number)


cdef void drop_value(char code, wasmtime_val_t *value) noexcept:
    if code == EXTERNREF:
        unroot(&value.of.externref, 1)


# --- Calls --------------------------------------------------------------------------

# Only bind() has it: an object made otherwise would be bound to nothing.
cdef object maker = object()


cdef int require_maker(object made_by) except -1:
    if made_by is not maker:
        raise TypeError("externref.wasmtime.bind() makes these")
    return 0


cdef enum:
    INLINE_SLOTS = 8    # calls with no more values than these need no memory but the stack


cdef struct Slots:
    wasmtime_val_raw_t *values
    wasmtime_externref_t *roots
    void *memory                # NULL if they are on the stack


cdef int allocate_slots(Slots *slots, int count) except -1:
    """More slots than fit on the stack."""
    cdef size_t values_size = count * sizeof(wasmtime_val_raw_t)
    slots.memory = PyMem_Malloc(values_size + count * sizeof(wasmtime_externref_t))
    if slots.memory == NULL:
        raise MemoryError(f"no memory for {count} values")
    slots.values = <wasmtime_val_raw_t *>slots.memory
    slots.roots = <wasmtime_externref_t *>(<char *>slots.memory + values_size)
    return 0


cdef wasmtime_error_t *call(wasmtime_context_t *context, const wasmtime_func_t *func, const Plan *plan,
                            wasmtime_val_raw_t *values, wasmtime_externref_t *roots,
                            wasm_trap_t **trap) noexcept nogil:
    """The part of a call in which no Python code of ours runs and nothing is allocated."""
    cdef wasmtime_error_t *error
    roots_to_raw(context, plan.params, plan.param_count, values, roots)
    # SAFETY: to_wasm() gave the values the types of the parameters, and there are as many places
    # as the function has parameters or results.
    error = api.func_call_unchecked(context, func, values, plan.slots, trap)
    unroot(roots, plan.param_count)
    if error == NULL and trap[0] == NULL:
        raw_to_roots(context, plan.results, plan.result_count, values, roots)
    return error


@cython.final
cdef class Func:
    """A function of a wasmtime.Store, bound by bind(): call it with Python objects.

    f(*args) returns None, the result, or a tuple of several results. f.refs(*args) is the same
    with externref results as VMExternRef.

    Raises TypeError for a wrong number of arguments or one of a wrong type, OverflowError
    for a number that does not fit: each names the parameter. ValueError for a closed store or
    a function of another one; RuntimeError if another thread is using the store;
    MovedError for a spent VMExternRef; wasmtime's Trap, WasmtimeError or ExitTrap as the
    function ends; the exception of a host function, unchanged.

    Needs the GIL, and keeps it unless it was bound with release_gil=True.

    Source: wasmtime_func_call_unchecked.
    """
    cdef vectorcallfunc vectorcall      # CPython finds it by tp_vectorcall_offset
    cdef StoreState state
    cdef wasmtime_func_t func
    cdef Signature signature
    cdef readonly bint release_gil
    cdef readonly object store

    def __cinit__(self, made_by=None):
        require_maker(made_by)

    def __call__(self, *args):
        return self.invoke((<PyTupleObject *>args).ob_item, len(args), False)

    def refs(self, *args):
        """As a call, but externref results come back as VMExternRef, None for null."""
        return self.invoke((<PyTupleObject *>args).ob_item, len(args), True)

    def __repr__(self):
        return f"<externref.wasmtime.Func {self.signature!r}>"

    cdef object invoke(self, PyObject *const *args, Py_ssize_t nargs, bint as_refs):
        cdef wasmtime_val_raw_t values[INLINE_SLOTS]
        cdef wasmtime_externref_t roots[INLINE_SLOTS]
        cdef Slots slots
        cdef Plan *plan = &self.signature.plan
        if nargs != plan.param_count:
            raise TypeError(f"{self!r} takes {plan.param_count} arguments, not {nargs}")
        slots.values = values
        slots.roots = roots
        slots.memory = NULL
        if plan.slots > INLINE_SLOTS:
            allocate_slots(&slots, plan.slots)
        try:
            self.state.enter()
            clear_roots(slots.roots, plan.slots)
            try:
                return self.convert_and_call(plan, args, slots.values, slots.roots, as_refs)
            finally:
                unroot(slots.roots, plan.slots)
                self.state.leave()
        finally:
            PyMem_Free(slots.memory)

    cdef object convert_and_call(self, const Plan *plan, PyObject *const *args, wasmtime_val_raw_t *values,
                                 wasmtime_externref_t *roots, bint as_refs):
        cdef wasmtime_context_t *context = self.state.context
        cdef wasmtime_error_t *error
        cdef wasm_trap_t *trap = NULL
        cdef int i
        for i in range(plan.param_count):
            to_wasm(self.state, plan.params[i], <object>args[i], &values[i], &roots[i], "parameter", i)
        # SAFETY: enter() found the store open, and nobody can close it before leave().
        if self.release_gil:
            with nogil:
                error = call(context, &self.func, plan, values, roots, &trap)
        else:
            error = call(context, &self.func, plan, values, roots, &trap)
        if error != NULL or trap != NULL:
            raise_failure(self.state, error, trap)
        if plan.result_count == 0:
            return None
        if plan.result_count == 1:
            return from_wasm(self.state, plan.results[0], values, roots, as_refs)
        return all_from_wasm(self.state, plan.results, plan.result_count, values, roots, as_refs)


cdef object func_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *names):
    if names != NULL and PyTuple_GET_SIZE(names) != 0:
        raise TypeError("a Wasm function takes no keyword arguments")
    return (<Func>self).invoke(args, PyVectorcall_NARGS(nargsf), False)


cdef void prepare_type() noexcept:
    # Cython knows no vectorcall for instances.
    cdef TypeSlots *cls = <TypeSlots *>Func
    cls.tp_vectorcall_offset = <Py_ssize_t>&(<Func>NULL).vectorcall
    cls.tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL


prepare_type()


# --- Host functions -----------------------------------------------------------------

@cython.final
cdef class HostFunc:
    """A Python callable that compiled code calls; the wasmtime store owns it, boxed."""
    cdef StoreState state
    cdef Signature signature
    cdef object callable

    cdef int run(self, wasmtime_val_raw_t *values) except -1:
        """Converts the parameters, calls, and puts the results in their place."""
        cdef wasmtime_externref_t roots[INLINE_SLOTS]
        cdef Slots slots
        cdef Plan *plan = &self.signature.plan
        slots.roots = roots
        slots.memory = NULL
        if plan.slots > INLINE_SLOTS:
            allocate_slots(&slots, plan.slots)
        clear_roots(slots.roots, plan.slots)
        try:
            raw_to_roots(self.state.context, plan.params, plan.param_count, values, slots.roots)
            args = all_from_wasm(self.state, plan.params, plan.param_count, values, slots.roots, False)
            unroot(slots.roots, plan.param_count)
            self.convert_results(plan, self.callable(*args), values, slots.roots)
            roots_to_raw(self.state.context, plan.results, plan.result_count, values, slots.roots)
        finally:
            unroot(slots.roots, plan.slots)
            PyMem_Free(slots.memory)
        return 0

    cdef int convert_results(self, const Plan *plan, object returned, wasmtime_val_raw_t *values,
                             wasmtime_externref_t *roots) except -1:
        cdef int i
        if plan.result_count == 0:
            if returned is not None:
                raise TypeError(f"the host function has no results, but returned {type(returned).__name__}")
            return 0
        if plan.result_count == 1:
            to_wasm(self.state, plan.results[0], returned, values, roots, "result", 0)
            return 0
        returned = tuple(returned)
        if len(returned) != plan.result_count:
            raise TypeError(f"the host function has {plan.result_count} results, but returned {len(returned)}")
        for i in range(plan.result_count):
            to_wasm(self.state, plan.results[i], returned[i], &values[i], &roots[i], "result", i)
        return 0


cdef wasm_trap_t *host_callback(
        void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t count) noexcept with gil:
    """What compiled code calls: the trampoline of every host function."""
    # SAFETY: env is the box that func() gave to the store, which is alive: it is calling.
    cdef HostFunc host = <HostFunc>object_of(env)
    cdef StoreState state = host.state
    cdef bint called_by_us = state.depth != 0
    # Also when wasmtime-py made the call: meanwhile other threads must not use the store.
    state.thread = PyThread_get_thread_ident()
    state.depth += 1
    try:
        host.run(values)
        return NULL
    except BaseException as exception:
        # The calls that this may end: the innermost is ours, or wasmtime-py's.
        if called_by_us:
            state.exception = exception
        wasmtime_func_module.LAST_EXCEPTION = exception
        return api.trap_new(HOST_TRAP, len(HOST_TRAP))
    finally:
        state.depth -= 1


def func(store, functype, callable, /):
    """A host function in the store: a wasmtime.Func to link, whose calls cost little.

    store: a wasmtime.Store.
    functype: a wasmtime.FuncType of i32, i64, f32, f64, externref and funcref.
    callable: called with one argument for each parameter, by the thread that runs the
        Wasm code, with the GIL. Returns None, the result, or a sequence of several results.

    The store owns the callable until it is closed; a callable that refers to the store keeps it
    alive until then. What the callable raises ends the Wasm code and comes out of the call into
    it, bound or wasmtime-py's own, as it is; so does the TypeError, OverflowError or
    ValueError of a result that does not fit.

    Raises TypeError for other arguments and types, ValueError for a closed store,
    RuntimeError if another thread is using it.

    Source: wasmtime_func_new_unchecked.
    """
    cdef HostFunc host
    cdef StoreState state = state_of(store)
    cdef wasmtime_func_t made
    if not isinstance(functype, wasmtime.FuncType):
        raise TypeError(f"expected a wasmtime.FuncType, not {type(functype).__name__}")
    if not hasattr(callable, "__call__"):
        raise TypeError(f"expected a callable, not {type(callable).__name__}")
    host = HostFunc.__new__(HostFunc)
    host.state = state
    host.signature = Signature(functype)
    host.callable = callable
    # A type that comes from a module belongs to its engine, and aborts in a store of another.
    own_type = wasmtime.FuncType(functype.params, functype.results)
    state.enter()
    try:
        # SAFETY: the store takes over the box's count and drops it when it is deleted.
        api.func_new_unchecked(state.context, <wasm_functype_t *>address_in(own_type.ptr()), host_callback,
                               to_raw(host), externref_drop, &made)
    finally:
        state.leave()
    return func_object(&made)


# --- Tables and globals -------------------------------------------------------------

cdef int require_externref(char code, str place) except -1:
    if code != EXTERNREF:
        raise TypeError(f"{place}: {type_names[code]}, no externref")
    return 0


@cython.final
cdef class Table:
    """A table of a wasmtime.Store, bound by bind(): a sequence of objects or functions.

    len(t), t[i], t[i] = value, iteration, grow, fill; ref(i) for an externref as a VMExternRef.
    An index is an int from 0 to len(t) - 1.

    Raises IndexError for an index out of bounds, and otherwise what a Func raises. Needs the GIL.

    Source: wasmtime_table_get, wasmtime_table_set, wasmtime_table_size, wasmtime_table_grow.
    """
    cdef StoreState state
    cdef wasmtime_table_t table
    cdef char code
    cdef readonly object store

    def __cinit__(self, made_by=None):
        require_maker(made_by)

    def __len__(self):
        self.state.enter()
        try:
            return api.table_size(self.state.context, &self.table)
        finally:
            self.state.leave()

    def __iter__(self):
        return PySeqIter_New(self)      # t[0], t[1]... until IndexError

    def __getitem__(self, index):
        return self.get(index, False)

    def ref(self, index, /):
        """t[index] as a VMExternRef, None for null; TypeError for a table of functions."""
        require_externref(self.code, "the elements")
        return self.get(index, True)

    def __setitem__(self, index, value):
        self.state.enter()
        try:
            self.store_range(self.checked(index), 1, value)
        finally:
            self.state.leave()

    def __delitem__(self, index):
        raise TypeError("an element of a table cannot be deleted; assign None")

    def fill(self, start, value, count, /):
        """Stores the value in `count` elements from `start` on: the same reference in all.

        Raises IndexError, and stores nothing, if they are not all within bounds.
        """
        cdef uint64_t first = PyNumber_Index(start)
        cdef uint64_t length = PyNumber_Index(count)
        cdef uint64_t size
        self.state.enter()
        try:
            size = api.table_size(self.state.context, &self.table)
            if first > size or length > size - first:
                raise IndexError(f"elements {first} to {first + length} of a table of {size}")
            self.store_range(first, length, value)
        finally:
            self.state.leave()

    def grow(self, delta, init=None, /):
        """Adds `delta` elements, each the value `init`; the size before.

        Raises WasmtimeError if the table cannot grow so far.
        """
        cdef uint64_t added = PyNumber_Index(delta)
        cdef uint64_t before = 0
        cdef wasmtime_val_t value
        cdef wasmtime_error_t *error
        self.state.enter()
        try:
            value.of.externref.store_id = 0
            to_value(self.state, self.code, init, &value)
            self.state.locked = True
            error = api.table_grow(self.state.context, &self.table, added, &value, &before)
            self.state.locked = False
            check(error)
            return before
        finally:
            drop_value(self.code, &value)
            self.state.leave()

    def __repr__(self):
        return f"<externref.wasmtime.Table of {type_names[self.code]}>"

    cdef uint64_t checked(self, object index) except? 0:
        """An index within bounds."""
        cdef uint64_t size = api.table_size(self.state.context, &self.table)
        number = PyNumber_Index(index)
        if not 0 <= number < size:
            raise IndexError(f"index {number} of a table of {size}")
        return number

    cdef object get(self, object index, bint as_refs):
        cdef wasmtime_val_t value
        self.state.enter()
        try:
            value.of.externref.store_id = 0
            if not api.table_get(self.state.context, &self.table, self.checked(index), &value):
                raise IndexError(index)
            return from_value(self.state, self.code, &value, as_refs)
        finally:
            drop_value(self.code, &value)
            self.state.leave()

    cdef int store_range(self, uint64_t first, uint64_t count, object item) except -1:
        cdef wasmtime_val_t value
        cdef wasmtime_error_t *error = NULL
        cdef uint64_t i
        value.of.externref.store_id = 0
        try:
            to_value(self.state, self.code, item, &value)
            # wasmtime drops the old elements: that may run finalizers of wasmtime-py's.
            self.state.locked = True
            for i in range(first, first + count):
                error = api.table_set(self.state.context, &self.table, i, &value)
                if error != NULL:
                    break
            self.state.locked = False
            check(error)
        finally:
            drop_value(self.code, &value)
        return 0


@cython.final
cdef class Global:
    """A global of a wasmtime.Store, bound by bind(): read and assign its value.

    Raises WasmtimeError when an immutable one is assigned, and otherwise what a Func raises.
    Needs the GIL.

    Source: wasmtime_global_get, wasmtime_global_set.
    """
    cdef StoreState state
    cdef wasmtime_global_t item
    cdef char code
    cdef readonly object store

    def __cinit__(self, made_by=None):
        require_maker(made_by)

    @property
    def value(self):
        """The value, converted as a result is."""
        return self.get(False)

    @value.setter
    def value(self, value):
        cdef wasmtime_val_t converted
        cdef wasmtime_error_t *error
        self.state.enter()
        try:
            converted.of.externref.store_id = 0
            to_value(self.state, self.code, value, &converted)
            self.state.locked = True
            error = api.global_set(self.state.context, &self.item, &converted)
            self.state.locked = False
            check(error)
        finally:
            drop_value(self.code, &converted)
            self.state.leave()

    @property
    def ref(self):
        """The value as a VMExternRef, None for null; TypeError for other types."""
        require_externref(self.code, "the value")
        return self.get(True)

    def __repr__(self):
        return f"<externref.wasmtime.Global of {type_names[self.code]}>"

    cdef object get(self, bint as_refs):
        cdef wasmtime_val_t value
        self.state.enter()
        try:
            value.of.externref.store_id = 0
            api.global_get(self.state.context, &self.item, &value)
            return from_value(self.state, self.code, &value, as_refs)
        finally:
            drop_value(self.code, &value)
            self.state.leave()


# --- bind ---------------------------------------------------------------------------

cdef int require_own(StoreState state, uint64_t store_id) except -1:
    # wasmtime aborts the process when it is given what belongs to another store.
    if store_id != state.store_id:
        raise ValueError("it belongs to another store")
    return 0


def bind(store, item, /, *, release_gil=False):
    """A Func, Table or Global for an item of wasmtime-py's, with its conversions worked out.

    store: the wasmtime.Store that the item belongs to; it lives as long as what is returned.
    item: a wasmtime.Func, Table or Global.
    release_gil: for a Func, let other threads run Python during its calls, as wasmtime-py
        always does; worth it for code that runs long, waits, or is to be interrupted by
        another thread (an epoch's). A call that keeps the GIL is cheaper, and cannot
        be held up by threads that compute.

    Raises TypeError for anything else and for types other than i32, i64, f32, f64, externref and
    funcref; ValueError for an item of another store, or a closed one; RuntimeError if
    another thread is using the store. Needs the GIL.
    """
    cdef StoreState state = state_of(store)
    state.enter()
    try:
        if isinstance(item, wasmtime.Func):
            return bind_func(store, state, item, release_gil)
        if release_gil:
            raise TypeError("release_gil is for functions")
        if isinstance(item, wasmtime.Table):
            return bind_table(store, state, item)
        if isinstance(item, wasmtime.Global):
            return bind_global(store, state, item)
        raise TypeError(f"expected a wasmtime.Func, Table or Global, not {type(item).__name__}")
    finally:
        state.leave()


cdef Func bind_func(object store, StoreState state, object item, bint release_gil):
    cdef Func self = Func.__new__(Func, maker)
    copy_item(item._func, ffi.wasmtime_func_t, &self.func, sizeof(wasmtime_func_t))
    require_own(state, self.func.store_id)
    self.signature = Signature(item.type(store))
    self.state = state
    self.store = store
    self.release_gil = release_gil
    self.vectorcall = func_vectorcall
    return self


cdef Table bind_table(object store, StoreState state, object item):
    cdef Table self = Table.__new__(Table, maker)
    copy_item(item._table, ffi.wasmtime_table_t, &self.table, sizeof(wasmtime_table_t))
    require_own(state, item._table._anon_1.store_id)
    self.code = code_of(item.type(store).element, "the element")
    self.state = state
    self.store = store
    return self


cdef Global bind_global(object store, StoreState state, object item):
    cdef Global self = Global.__new__(Global, maker)
    copy_item(item._global, ffi.wasmtime_global_t, &self.item, sizeof(wasmtime_global_t))
    require_own(state, item._global.store_id)
    self.code = code_of(item.type(store).content, "the content")
    self.state = state
    self.store = store
    return self
