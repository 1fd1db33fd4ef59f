# Values: the types that are converted, as the letters of _numbers.pxd, and the conversions, in both
# forms: slots, which a call shares with compiled code, and wasmtime_val_t, for tables and globals.
#
# A part of _calls.pyx.

# --- Types --------------------------------------------------------------------------

cdef tuple LETTERS = (I32, I64, F32, F64, V128, EXTERNREF, NON_NULL, FUNCREF)


cdef object value_type(char letter):
    """wasmtime-py's object for it."""
    if letter == V128:      # it has no name there
        return wasmtime.ValType._from_ptr(ffi.wasmtime_wasm_valtype_v128(), None)
    if letter != NON_NULL:
        return getattr(wasmtime.ValType, name_of_type(letter))()
    # The C API makes none, but tells those that a module has.
    config = wasmtime.Config()
    config.wasm_function_references = True
    module = wasmtime.Module(wasmtime.Engine(config), '(module (import "" "" (global (ref extern))))')
    return module.imports[0].type.content


cdef dict value_kinds = {
    letter: getattr(ffi, f"WASMTIME_{name_of_type(EXTERNREF if letter == NON_NULL else letter).upper()}").value
    for letter in LETTERS}
hidden(value_kinds)

cdef wasm_valtype_t *known_types[128]     # by letter: copies, for wasmtime-py's anybody can close

for known_letter in LETTERS:
    known_type = value_type(known_letter)
    known_types[<int>known_letter] = api.valtype_copy(<wasm_valtype_t *>address_in(known_type.ptr()))
del known_letter, known_type


cdef char letter_of(const wasm_valtype_t *value_type, str place) except 0:
    """The letter of a type, which the caller keeps."""
    # Not by wasm_valtype_kind: it aborts the process for types it does not know, (ref extern) and v128 among them.
    cdef char letter
    for letter in LETTERS:
        if api.valtype_equal(value_type, known_types[<int>letter]):
            return letter
    raise TypeError(f"{place} is of a type that is not converted here, only "
                    f"{', '.join(names_of_types(bytes(LETTERS)))} are; use wasmtime's own call")


cdef bytes letters_of(const wasm_valtype_vec_t *types, str place):
    cdef bytearray letters = bytearray()
    cdef size_t i
    for i in range(types.size):
        letters.append(letter_of(types.data[i], f"{place} {i + 1}"))
    return bytes(letters)


cdef tuple names_of_types(bytes letters):
    cdef list names = []
    for letter in letters:
        names.append(name_of_type(letter))
    return tuple(names)


cdef void new_vector(wasm_valtype_vec_t *out, const char *letters, int count) noexcept:
    """New types, the caller's."""
    cdef int i
    api.valtype_vec_new_uninitialized(out, count)
    for i in range(count):
        out.data[i] = api.valtype_copy(known_types[<int>letters[i]])


cdef struct Plan:
    const char *params      # a letter for each
    const char *results
    int param_count
    int result_count
    int slot_count          # a parameter and a result share a slot


@cython.final
cdef class Signature:
    """How to convert for a function: worked out once, from its type."""
    cdef Plan plan
    cdef bytes params       # what the plan points to
    cdef bytes results
    cdef object type        # our FuncType

    def __cinit__(self, bytes params not None, bytes results not None):
        self.params = params
        self.results = results
        self.type = FuncType(names_of_types(self.params), names_of_types(self.results))
        self.plan.params = self.params
        self.plan.results = self.results
        self.plan.param_count = len(self.params)
        self.plan.result_count = len(self.results)
        self.plan.slot_count = max(len(self.params), len(self.results))

    cdef wasm_functype_t *new_type(self) noexcept:
        """A type that belongs to no engine yet; the caller's, and no Python object's, which somebody could close."""
        cdef wasm_valtype_vec_t params, results
        new_vector(&params, self.plan.params, self.plan.param_count)
        new_vector(&results, self.plan.results, self.plan.result_count)
        return api.functype_new(&params, &results)      # which takes them over


cdef Signature signature_of(const wasm_functype_t *type_):
    """Of a type that the caller keeps. The library is asked for it, not wasmtime-py: what that makes of it, others can
    find and change."""
    return Signature(letters_of(api.functype_params(type_), "parameter"),
                     letters_of(api.functype_results(type_), "result"))


# --- Numbers and vectors ------------------------------------------------------------

# By way of a Number of our own: the compiler may take it that no pointer to one union points to another.

cdef int put_raw_number(wasmtime_val_raw_t *out, char letter, object value, object place, Py_ssize_t index) except -1:
    # Not inline: put_number() is, but only in a single caller.
    cdef Number number
    if letter == V128:
        return put_v128(out, value, describe, place, index)
    put_number(&number, letter, value, describe, place, index)
    out.i64 = number.i64
    return 0


cdef inline object get_raw_number(const wasmtime_val_raw_t *raw, char letter):
    cdef Number number
    if letter == V128:
        return (<const char *>raw.v128)[:V128_SIZE]
    number.i64 = raw.i64
    return get_number(&number, letter)


# --- Externrefs ---------------------------------------------------------------------

TAG = DATA_TAG      # in the data of our externrefs


cdef inline bint is_ours(const void *data) noexcept nogil:
    return (<uintptr_t>data & DATA_TAG) != 0


cdef inline void *untagged(const void *data) noexcept nogil:
    # SAFETY: only for data with the tag, which is the record of the hold that the externref has.
    return <void *>(<uintptr_t>data & ~DATA_TAG)


cdef void finalize(void *data) noexcept nogil:
    """wasmtime calls it once for each externref, on any thread, inside its collector."""
    end_record(untagged(data))


cdef bint try_put_externref(StoreState state, object value, wasmtime_externref_t *out) except -1:
    """Whether there was room. What `value` was boxed in is the store's either way."""
    cdef void *record = new_record(value, False)
    cdef bint made
    if record == NULL:
        out.store_id = 0
        return True
    state.locked = True
    # SAFETY: the store takes over the hold, and gives it back to finalize.
    made = api.externref_new(state.context, <void *>(<uintptr_t>record | DATA_TAG), finalize, out)
    state.locked = False
    if not made:
        out.store_id = 0
    return made


cdef int put_externref(StoreState state, object value, wasmtime_externref_t *out) except -1:
    """A root for the value, the caller's to unroot; null for None. There is none if this raises."""
    cdef wasmtime_error_t *error
    if try_put_externref(state, value, out):
        return 0
    state.locked = True
    error = api.context_gc(state.context)
    state.locked = False
    check(error)
    if not try_put_externref(state, value, out):
        raise wasmtime.WasmtimeError("failed to create an externref value: the store's heap for references is full, "
                                     "or its engine has none")
    return 0


cdef inline bint is_externref(char letter) noexcept nogil:
    return letter == EXTERNREF or letter == NON_NULL


cdef int refuse_null(const wasmtime_externref_t *root, object place, Py_ssize_t index) except -1:
    """Refuses what would be null where it must not be: compiled code does not look again."""
    if root.store_id == 0:
        return refuse_kind("an object", None, describe, place, index, NON_NULL)
    return 0


cdef object get_externref(StoreState state, const wasmtime_externref_t *root, bint as_refs):
    """The object of a reference, or a VMExternRef; the root stays the caller's."""
    cdef void *data
    if root.store_id == 0:
        return None
    data = api.externref_data(state.context, root)
    if is_ours(data):
        return lend_value(raw_of_record(untagged(data)), as_refs)
    if data == NULL:
        return None     # as wasmtime-py: a reference that no host made, such as an i31
    try:
        value = _unintern(<uintptr_t>data)
    except LookupError:
        raise TypeError("the externref is neither of externref's nor of wasmtime-py's making") from None
    return VMExternRef(value) if as_refs and not isinstance(value, VMExternRef) else value


def intern(value):
    """For wasmtime-py: the data of an externref that it is about to make for the value, an int; the externref's
    finalizer is finalizer_address. A VMExternRef is a value as any other: wasmtime-py gives back what it got."""
    cdef void *record = new_record(VMExternRef(value), False)
    cdef object data
    try:
        data = <uintptr_t>record | DATA_TAG
    except MemoryError:     # for the int
        end_record(record)
        raise
    return data


finalizer_address = <uintptr_t>&finalize


def object_at(data):
    """For wasmtime-py: the object of an externref of ours that is a root now, by its data, an int."""
    # SAFETY: wasmtime-py read the data, which has the tag, from the root.
    return lend_value(raw_of_record(untagged(<void *><uintptr_t>data)), False)


# --- Functions ----------------------------------------------------------------------

cdef int put_func(StoreState state, object value, wasmtime_func_t *out, object place, Py_ssize_t index) except -1:
    """A wasmtime.Func, or what bind() made of one, as the C API has it; null for None."""
    if value is None:
        out.store_id = 0
        return 0
    if isinstance(value, Func):
        out[0] = (<Func>value).item
    elif isinstance(value, wasmtime.Func):
        copy_item(value._func, ffi.wasmtime_func_t, out, sizeof(wasmtime_func_t))
    else:
        refuse_no_func(value, place, index)
    if out.store_id != state.store_id:
        refuse_func(place, index)
    return 0


cdef object get_func(StoreState state, const wasmtime_func_t *func):
    """A Func; None for null."""
    if func.store_id == 0:
        return None
    return new_func(state.living_store(), state, func, None, False, "funcref")


# --- Slots --------------------------------------------------------------------------

# A slot of a call has two halves: `raw` as compiled code sees it and, for an externref, `root`,
# which keeps the referent while there is no raw half.

cdef enum:
    INLINE_SLOTS = 8    # calls with no more values than these need no memory but the stack


cdef struct Slots:
    int count
    wasmtime_val_raw_t *raws
    wasmtime_externref_t *roots
    void *memory                # NULL if they are the arrays below
    wasmtime_val_raw_t inline_raws[INLINE_SLOTS]
    wasmtime_externref_t inline_roots[INLINE_SLOTS]


cdef inline int open_slots(Slots *slots, int count) except -1:
    """Slots without roots; to be closed, also if this raises."""
    slots.count = 0
    slots.memory = NULL
    slots.raws = slots.inline_raws
    slots.roots = slots.inline_roots
    if count > INLINE_SLOTS:
        allocate_slots(slots, count)
    slots.count = count
    clear_roots(slots.roots, count)
    return 0


cdef int allocate_slots(Slots *slots, int count) except -1:
    """More slots than fit on the stack."""
    cdef size_t raws_size = count * sizeof(wasmtime_val_raw_t)
    slots.memory = PyMem_Malloc(raws_size + count * sizeof(wasmtime_externref_t))
    if slots.memory == NULL:
        raise MemoryError(f"no memory for {count} values")
    slots.raws = <wasmtime_val_raw_t *>slots.memory
    slots.roots = <wasmtime_externref_t *>(<char *>slots.memory + raws_size)
    return 0


cdef inline void close_slots(Slots *slots) noexcept:
    unroot(slots.roots, slots.count)
    PyMem_Free(slots.memory)


cdef int put_slot(StoreState state, char letter, object value, wasmtime_val_raw_t *raw, wasmtime_externref_t *root,
                  object place, Py_ssize_t index) except -1:
    """Converts all but an externref, which gets its root only."""
    cdef wasmtime_func_t func
    if letter == EXTERNREF:
        put_externref(state, value, root)
    elif letter == FUNCREF:
        put_func(state, value, &func, place, index)
        # SAFETY: what it gives lives as long as the store, and does not move.
        raw.funcref = api.func_to_raw(state.context, &func) if func.store_id != 0 else NULL
    elif letter == NON_NULL:
        put_externref(state, value, root)
        refuse_null(root, place, index)
    else:
        put_raw_number(raw, letter, value, place, index)
    return 0


cdef object get_slot(StoreState state, char letter, const wasmtime_val_raw_t *raw, const wasmtime_externref_t *root,
                     bint as_refs):
    cdef wasmtime_func_t func
    if is_externref(letter):
        return get_externref(state, root, as_refs)
    if letter == FUNCREF:
        func.store_id = 0
        if raw.funcref != NULL:
            # SAFETY: compiled code gave it as a funcref of this store.
            api.func_from_raw(state.context, raw.funcref, &func)
        return get_func(state, &func)
    return get_raw_number(raw, letter)


cdef tuple get_slots(StoreState state, const char *letters, int count, const wasmtime_val_raw_t *raws,
                     const wasmtime_externref_t *roots, bint as_refs, object first):
    """The Python values, after `first` if that is not None."""
    cdef list values = [] if first is None else [first]
    cdef int i
    for i in range(count):
        values.append(get_slot(state, letters[i], &raws[i], &roots[i], as_refs))
    return tuple(values)


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


cdef void roots_to_raws(wasmtime_context_t *context, const char *letters, int count, wasmtime_val_raw_t *raws,
                        const wasmtime_externref_t *roots) noexcept nogil:
    """Gives compiled code its references: nothing may collect before it has them."""
    cdef int i
    for i in range(count):
        if is_externref(letters[i]):
            raws[i].i64 = 0
            if roots[i].store_id != 0:
                raws[i].externref = api.externref_to_raw(context, &roots[i])


cdef void raws_to_roots(wasmtime_context_t *context, const char *letters, int count, const wasmtime_val_raw_t *raws,
                        wasmtime_externref_t *roots) noexcept nogil:
    """Roots what compiled code gave: nothing may have collected since."""
    cdef int i
    for i in range(count):
        if is_externref(letters[i]) and raws[i].externref != 0:
            api.externref_from_raw(context, raws[i].externref, &roots[i])


# --- wasmtime_val_t -----------------------------------------------------------------

cdef int put_val(StoreState state, char letter, object value, wasmtime_val_t *out, str place) except -1:
    """Converts; the caller gives up what is in it by drop_val(), unless this raises."""
    out.kind = value_kinds[letter]
    if letter == EXTERNREF:
        put_externref(state, value, &out.of.externref)
    elif letter == FUNCREF:
        put_func(state, value, &out.of.funcref, place, 0)
    elif letter == NON_NULL:
        put_externref(state, value, &out.of.externref)
        refuse_null(&out.of.externref, place, 0)
    else:
        put_raw_number(&out.of.number, letter, value, place, 0)
    return 0


cdef object take_val(StoreState state, char letter, wasmtime_val_t *val, bint as_refs):
    """The Python value, and gives up what is in `val`."""
    try:
        if is_externref(letter):
            return get_externref(state, &val.of.externref, as_refs)
        if letter == FUNCREF:
            return get_func(state, &val.of.funcref)
        return get_raw_number(&val.of.number, letter)
    finally:
        drop_val(letter, val)


cdef void drop_val(char letter, wasmtime_val_t *val) noexcept:
    if is_externref(letter):
        unroot(&val.of.externref, 1)
