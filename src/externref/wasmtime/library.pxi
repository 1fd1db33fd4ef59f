# The C API: its structs and functions, found in the library that wasmtime-py has loaded and compared
# with wasmtime-py's ctypes declarations; and the ways between ctypes and C.
#
# A part of _calls.pyx.

cdef extern from "wasmtime/abi.h" nogil:
    const uintptr_t DATA_TAG "EXTERNREF_WASMTIME_TAG"

    ctypedef bint bool_t "bool"
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
    ctypedef struct wasm_tabletype_t:
        pass
    ctypedef struct wasm_globaltype_t:
        pass
    ctypedef struct wasm_valtype_t:
        pass
    ctypedef struct wasm_valtype_vec_t:
        size_t size
        wasm_valtype_t **data
    ctypedef struct wasmtime_func_t:
        uint64_t store_id
    ctypedef struct wasmtime_item_t:
        uint64_t store_id
    ctypedef struct wasmtime_table_t:
        wasmtime_item_t item
    ctypedef struct wasmtime_memory_t:
        wasmtime_item_t item
    ctypedef struct wasmtime_global_t:
        uint64_t store_id
    ctypedef union wasmtime_extern_union_t:
        wasmtime_memory_t memory
    ctypedef struct wasmtime_extern_t:
        uint8_t kind
        wasmtime_extern_union_t of
    ctypedef struct wasmtime_externref_t:
        uint64_t store_id
    ctypedef union wasmtime_val_raw_t:
        int64_t i64
        uint32_t externref
        void *funcref
        uint8_t[16] v128
    ctypedef union wasmtime_valunion_t:
        wasmtime_val_raw_t number
        wasmtime_externref_t externref
        wasmtime_func_t funcref
    ctypedef struct wasmtime_val_t:
        uint8_t kind
        wasmtime_valunion_t of

# The functions, by their names without `wasmtime_`.
cdef struct Functions:
    wasmtime_error_t *(*context_gc)(wasmtime_context_t *) noexcept nogil
    wasmtime_error_t *(*func_call_unchecked)(
        wasmtime_context_t *, const wasmtime_func_t *, wasmtime_val_raw_t *, size_t, wasm_trap_t **) noexcept nogil
    void (*func_new_unchecked)(
        wasmtime_context_t *, const wasm_functype_t *,
        wasm_trap_t *(*)(void *, wasmtime_caller_t *, wasmtime_val_raw_t *, size_t) noexcept nogil,
        void *, void (*)(void *) noexcept nogil, wasmtime_func_t *) noexcept nogil
    void *(*func_to_raw)(wasmtime_context_t *, const wasmtime_func_t *) noexcept nogil
    void (*func_from_raw)(wasmtime_context_t *, void *, wasmtime_func_t *) noexcept nogil
    bool_t (*externref_new)(
        wasmtime_context_t *, void *, void (*)(void *) noexcept nogil, wasmtime_externref_t *) noexcept nogil
    void *(*externref_data)(wasmtime_context_t *, const wasmtime_externref_t *) noexcept nogil
    uint32_t (*externref_to_raw)(wasmtime_context_t *, const wasmtime_externref_t *) noexcept nogil
    void (*externref_from_raw)(wasmtime_context_t *, uint32_t, wasmtime_externref_t *) noexcept nogil
    void (*externref_unroot)(wasmtime_externref_t *) noexcept nogil
    bool_t (*table_get)(wasmtime_context_t *, const wasmtime_table_t *, uint64_t, wasmtime_val_t *) noexcept nogil
    wasmtime_error_t *(*table_set)(
        wasmtime_context_t *, const wasmtime_table_t *, uint64_t, const wasmtime_val_t *) noexcept nogil
    uint64_t (*table_size)(wasmtime_context_t *, const wasmtime_table_t *) noexcept nogil
    wasmtime_error_t *(*table_grow)(
        wasmtime_context_t *, const wasmtime_table_t *, uint64_t, const wasmtime_val_t *, uint64_t *) noexcept nogil
    void (*global_get)(wasmtime_context_t *, const wasmtime_global_t *, wasmtime_val_t *) noexcept nogil
    wasmtime_error_t *(*global_set)(
        wasmtime_context_t *, const wasmtime_global_t *, const wasmtime_val_t *) noexcept nogil
    wasmtime_error_t *(*memory_grow)(
        wasmtime_context_t *, const wasmtime_memory_t *, uint64_t, uint64_t *) noexcept nogil
    uint8_t *(*memory_data)(const wasmtime_context_t *, const wasmtime_memory_t *) noexcept nogil
    size_t (*memory_data_size)(const wasmtime_context_t *, const wasmtime_memory_t *) noexcept nogil
    uint64_t (*memory_size)(const wasmtime_context_t *, const wasmtime_memory_t *) noexcept nogil
    bool_t (*caller_export_get)(wasmtime_caller_t *, const char *, size_t, wasmtime_extern_t *) noexcept nogil
    wasm_trap_t *(*trap_new)(const char *, size_t) noexcept nogil
    wasm_trap_t *(*trap_new_code)(uint8_t) noexcept nogil
    wasmtime_error_t *(*error_new)(const char *) noexcept nogil
    wasm_functype_t *(*func_type)(const wasmtime_context_t *, const wasmtime_func_t *) noexcept nogil
    const wasm_valtype_vec_t *(*functype_params)(const wasm_functype_t *) noexcept nogil
    const wasm_valtype_vec_t *(*functype_results)(const wasm_functype_t *) noexcept nogil
    void (*functype_delete)(wasm_functype_t *) noexcept nogil
    wasm_functype_t *(*functype_copy)(const wasm_functype_t *) noexcept nogil
    wasm_tabletype_t *(*table_type)(const wasmtime_context_t *, const wasmtime_table_t *) noexcept nogil
    const wasm_valtype_t *(*tabletype_element)(const wasm_tabletype_t *) noexcept nogil
    void (*tabletype_delete)(wasm_tabletype_t *) noexcept nogil
    wasm_globaltype_t *(*global_type)(const wasmtime_context_t *, const wasmtime_global_t *) noexcept nogil
    const wasm_valtype_t *(*globaltype_content)(const wasm_globaltype_t *) noexcept nogil
    uint8_t (*globaltype_mutability)(const wasm_globaltype_t *) noexcept nogil
    void (*globaltype_delete)(wasm_globaltype_t *) noexcept nogil
    wasm_functype_t *(*functype_new)(wasm_valtype_vec_t *, wasm_valtype_vec_t *) noexcept nogil
    void (*valtype_vec_new_uninitialized)(wasm_valtype_vec_t *, size_t) noexcept nogil
    wasm_valtype_t *(*valtype_copy)(const wasm_valtype_t *) noexcept nogil
    bool_t (*valtype_equal)(const wasm_valtype_t *, const wasm_valtype_t *) noexcept nogil
    void (*store_delete)(void *) noexcept nogil
    void (*store_epoch_deadline_callback)(
        void *, wasmtime_error_t *(*)(wasmtime_context_t *, void *, uint64_t *, uint8_t *) noexcept nogil,
        void *, void (*)(void *) noexcept nogil) noexcept nogil
    void (*context_set_epoch_deadline)(wasmtime_context_t *, uint64_t) noexcept nogil
    void *(*engine_clone)(void *) noexcept nogil
    void (*engine_delete)(void *) noexcept nogil
    void (*engine_increment_epoch)(void *) noexcept nogil

cdef Functions api


cdef str declared_as(object declared):
    """A mark for a ctypes declaration, as C has it: v void, p a pointer, b bool, a digit the bytes of a number."""
    if declared is None:
        return "v"
    if issubclass(declared, (ctypes._Pointer, ctypes._CFuncPtr, ctypes.c_void_p)):
        return "p"
    if declared is ctypes.c_bool:
        return "b"
    return str(ctypes.sizeof(declared))


cdef int load(void *out, str name, str marks) except -1:
    """Finds a function of the loaded library, if wasmtime-py declares it as we do.

    out: where its address goes.
    marks: what declared_as() says of its result and of each parameter.
    """
    cdef void *address
    function = getattr(ffi.dll, name, None)
    if function is None:
        raise ImportError(f"the wasmtime library has no {name}")
    declared = declared_as(function.restype)
    for ctype in function.argtypes or ():
        declared += declared_as(ctype)
    if declared != marks:
        raise ImportError(f"wasmtime-py declares {name} as {declared!r}, where {marks!r} is known")
    address = address_in(function)
    memcpy(out, &address, sizeof(address))
    return 0


cdef int check_layout(str name, size_t size, dict offsets) except -1:
    """Compares a struct of wasmtime/abi.h with wasmtime-py's ctypes declaration."""
    declared = getattr(ffi, name, ctypes.c_char * 0)
    found = {field: getattr(getattr(declared, field, None), "offset", None) for field in offsets}
    if ctypes.sizeof(declared) != size or found != offsets:
        raise ImportError(f"wasmtime-py declares {name} with {ctypes.sizeof(declared)} bytes and {found}, "
                          f"where {size} bytes and {offsets} are known")
    return 0


cdef object addressof = _ctypes.addressof       # in C: it runs no other code, and is there at exit, too

# Another, as a test puts there, would tell addresses of nothing.
if type(addressof) is not type(len) or (addressof.__module__, addressof.__name__) != ("_ctypes", "addressof"):
    raise ImportError(f"externref.wasmtime cannot be imported while something else is in the place of "
                      f"_ctypes.addressof: {addressof!r}")


cdef inline void **slot_of(object pointer) except NULL:
    """Where a ctypes pointer has the address that it holds."""
    # SAFETY: it points to one, or a function, and so is as large as an address.
    return <void **><uintptr_t>addressof(pointer)


cdef void *address_in(object pointer) except NULL:
    """The address that a ctypes pointer holds."""
    cdef void *address = slot_of(pointer)[0]
    if address == NULL:
        raise ValueError("a null pointer of wasmtime-py's")
    return address


cdef extern from "Python.h":
    object PyObject_GenericGetDict(object, void *)


cdef void *open_address(object kind, object thing) except NULL:
    """The address of one of wasmtime-py's objects; ValueError if it is closed. No other code runs after it is known."""
    cdef dict attributes = PyObject_GenericGetDict(thing, NULL)     # its own, whatever its class says; no subclass
    pointer = kind.ptr(thing)
    cdef void **slot = slot_of(pointer)     # has audit hooks run
    if get_from(attributes, POINTER_ATTRIBUTE) is not pointer or slot[0] == NULL:
        raise ValueError("already closed")
    return slot[0]


cdef int copy_item(object item, object declared, void *out, size_t size) except -1:
    """Copies a ctypes struct of wasmtime-py's: nobody can change the copy."""
    if not isinstance(item, declared):
        raise TypeError(f"expected a {declared.__name__}, not {type(item).__name__}")
    # SAFETY: check_layout() has compared the sizes.
    memcpy(out, <void *><uintptr_t>addressof(item), size)
    return 0


cdef object copied_out(object declared, const void *item, size_t size):
    """The other way: a new ctypes struct, to be wasmtime-py's."""
    out = declared()
    # SAFETY: as above.
    memcpy(<void *><uintptr_t>addressof(out), item, size)
    return out


# SAFETY: each goes to the field of its name, which has the type that the marks tell.
load(&api.context_gc, "wasmtime_context_gc", "pp")
load(&api.func_call_unchecked, "wasmtime_func_call_unchecked", "pppp8p")
load(&api.func_new_unchecked, "wasmtime_func_new_unchecked", "vpppppp")
load(&api.func_to_raw, "wasmtime_func_to_raw", "ppp")
load(&api.func_from_raw, "wasmtime_func_from_raw", "vppp")
load(&api.externref_new, "wasmtime_externref_new", "bpppp")
load(&api.externref_data, "wasmtime_externref_data", "ppp")
load(&api.externref_to_raw, "wasmtime_externref_to_raw", "4pp")
load(&api.externref_from_raw, "wasmtime_externref_from_raw", "vp4p")
load(&api.externref_unroot, "wasmtime_externref_unroot", "vp")
load(&api.table_get, "wasmtime_table_get", "bpp8p")
load(&api.table_set, "wasmtime_table_set", "ppp8p")
load(&api.table_size, "wasmtime_table_size", "8pp")
load(&api.table_grow, "wasmtime_table_grow", "ppp8pp")
load(&api.global_get, "wasmtime_global_get", "vppp")
load(&api.global_set, "wasmtime_global_set", "pppp")
load(&api.memory_grow, "wasmtime_memory_grow", "ppp8p")
load(&api.memory_data, "wasmtime_memory_data", "ppp")
load(&api.memory_data_size, "wasmtime_memory_data_size", "8pp")
load(&api.memory_size, "wasmtime_memory_size", "8pp")
load(&api.caller_export_get, "wasmtime_caller_export_get", "bpp8p")
load(&api.trap_new, "wasmtime_trap_new", "pp8")
load(&api.trap_new_code, "wasmtime_trap_new_code", "p1")
load(&api.error_new, "wasmtime_error_new", "pp")
load(&api.func_type, "wasmtime_func_type", "ppp")
load(&api.functype_params, "wasm_functype_params", "pp")
load(&api.functype_results, "wasm_functype_results", "pp")
load(&api.functype_delete, "wasm_functype_delete", "vp")
load(&api.functype_copy, "wasm_functype_copy", "pp")
load(&api.table_type, "wasmtime_table_type", "ppp")
load(&api.tabletype_element, "wasm_tabletype_element", "pp")
load(&api.tabletype_delete, "wasm_tabletype_delete", "vp")
load(&api.global_type, "wasmtime_global_type", "ppp")
load(&api.globaltype_content, "wasm_globaltype_content", "pp")
load(&api.globaltype_mutability, "wasm_globaltype_mutability", "1p")
load(&api.globaltype_delete, "wasm_globaltype_delete", "vp")
load(&api.functype_new, "wasm_functype_new", "ppp")
load(&api.valtype_vec_new_uninitialized, "wasm_valtype_vec_new_uninitialized", "vp8")
load(&api.valtype_copy, "wasm_valtype_copy", "pp")
load(&api.valtype_equal, "wasmtime_wasm_valtype_equal", "bpp")
load(&api.store_delete, "wasmtime_store_delete", "vp")
load(&api.store_epoch_deadline_callback, "wasmtime_store_epoch_deadline_callback", "vpppp")
load(&api.context_set_epoch_deadline, "wasmtime_context_set_epoch_deadline", "vp8")
load(&api.engine_clone, "wasmtime_engine_clone", "pp")
load(&api.engine_delete, "wasm_engine_delete", "vp")
load(&api.engine_increment_epoch, "wasmtime_engine_increment_epoch", "vp")

check_layout("wasm_valtype_vec_t", sizeof(wasm_valtype_vec_t), {"size": 0, "data": sizeof(size_t)})
check_layout("wasmtime_func_t", sizeof(wasmtime_func_t), {"store_id": 0})
check_layout("wasmtime_table_t", sizeof(wasmtime_table_t), {"_anon_1": 0})
check_layout("wasmtime_memory_t", sizeof(wasmtime_memory_t), {"_anon_1": 0})
check_layout("wasmtime_global_t", sizeof(wasmtime_global_t), {"store_id": 0})
check_layout("wasmtime_extern_t", sizeof(wasmtime_extern_t), {"kind": 0, "of": 8})
check_layout("wasmtime_externref_t", sizeof(wasmtime_externref_t), {"store_id": 0})
check_layout("wasmtime_val_raw_t", sizeof(wasmtime_val_raw_t), {
    "i32": 0, "i64": 0, "f32": 0, "f64": 0, "externref": 0, "funcref": 0, "v128": 0})
check_layout("wasmtime_valunion_t", sizeof(wasmtime_valunion_t), {
    "i32": 0, "i64": 0, "f32": 0, "f64": 0, "externref": 0, "funcref": 0, "v128": 0})
check_layout("wasmtime_val_t", sizeof(wasmtime_val_t), {"kind": 0, "of": 8})
