# Values: from Python into slots, with the store as the references' owner, and from slots to Python.
#
# A part of _runtime.pyx.

# --- Into slots ---------------------------------------------------------------------

cdef int put_funcref(uint64_t *slots, Store store, object value, object place, Py_ssize_t i) except -1:
    cdef Func function
    cdef Wasm2cFuncref ref
    memset(&ref, 0, sizeof(ref))
    if value is not None:
        if not isinstance(value, Func):
            refuse_no_func(value, place, i)
        function = <Func>value
        if function.store is not store:
            refuse_func(place, i)
        store.pin(function.instance)     # compiled code can keep it anywhere
        ref = function.ref
    memcpy(slots, &ref, sizeof(ref))
    return 0


cdef void end_holds(const char *letters, const uint64_t *slots, Py_ssize_t count) noexcept:
    """Ends the holds that the slots of the first `count` values have. Arbitrary code."""
    cdef Py_ssize_t i
    for i in range(count):
        if letters[i] == EXTERNREF:
            end_hold(get_ref(slots), False)
        slots += slots_of(letters[i])


cdef int hold_refs(const char *letters, PyObject *const *values, uint64_t *slots) except -1:
    cdef Py_ssize_t at = 0, i = 0
    while letters[i] != 0:
        if letters[i] == EXTERNREF:
            put_ref(slots + at, hold(<object>values[i], False))
        at += slots_of(letters[i])
        i += 1
    return 0


cdef int (*hold_refs_or_fail)(const char *, PyObject *const *, uint64_t *) noexcept     # as refuse_store_later()
hold_refs_or_fail = <int (*)(const char *, PyObject *const *, uint64_t *) noexcept>hold_refs


cdef int convert_values(Store store, const char *letters, Py_ssize_t refs, PyObject *const *values, uint64_t *slots,
                        object place, bint owned) except -1:
    """Puts Python values in slots. The references are holds, which Store.adopt() moves into the table: in the section,
    and in the same one whoever gets the values has them. letters: of the value types, refs of them externref. place: as
    describe() has it. owned: whether the values outlive what converting one of them runs."""
    cdef Number number
    cdef Py_ssize_t at = 0, i = 0
    while letters[i] != 0:
        if letters[i] == EXTERNREF:
            put_ref(slots + at, NULL)
        elif letters[i] == FUNCREF:
            if not owned and letters[1] != 0:       # a collection, to pin its instance
                return convert_owned(store, letters, refs, values, slots, place)
            put_funcref(slots + at, store, <object>values[i], place, i)
        elif letters[i] == V128:
            put_v128(slots + at, <object>values[i], describe, place, i)
        elif not (owned or type(<object>values[i]) is int or type(<object>values[i]) is float):
            return convert_owned(store, letters, refs, values, slots, place)
        else:
            put_number(&number, letters[i], <object>values[i], describe, place, i)
            memcpy(slots + at, &number, sizeof(number))
        at += slots_of(letters[i])
        i += 1
    if refs == 0:
        return 0
    if hold_refs_or_fail(letters, values, slots) != 0:
        give_up(letters, slots)
    # Afterwards: both run other code, and there are callers that let arguments go in the middle of the call.
    drain_pending()
    if EXTERNREF_FREE_THREADED or not store.has_room(refs):     # with a GIL this is section enough
        collect_for(store, letters, refs, slots)
    return 0


cdef int convert_owned(Store store, const char *letters, Py_ssize_t refs, PyObject *const *values, uint64_t *slots,
                       object place) except -1:
    """convert_values() of what its caller may let go in the middle."""
    cdef Py_ssize_t count = strlen(letters)
    cdef PyObject **ours = own_all(values, count)
    try:
        return convert_values(store, letters, refs, ours, slots, place, True)
    finally:
        let_all_go(ours, count)


cdef int collect_for(Store store, const char *letters, Py_ssize_t refs, const uint64_t *slots) except -1:
    """Collects if it is due before the holds in the slots are moved in. Runs arbitrary code."""
    try:
        store.collect_if_due(refs)
    except BaseException:
        end_holds(letters, slots, strlen(letters))
        raise
    return 0


cdef int give_up(const char *letters, const uint64_t *slots) except -1:
    """Ends the holds of converted values that nobody gets, as an exception is set."""
    end_holds(letters, slots, strlen(letters))
    return reraise()


cdef inline int convert_value(Store store, char letter, object value, uint64_t *slots, object place) except -1:
    """convert_values() of one value."""
    cdef char[2] letters
    cdef PyObject *only = <PyObject *>value
    letters[0], letters[1] = letter, 0
    return convert_values(store, letters, letter == EXTERNREF, &only, slots, place, True)


cdef int write_values(Store store, char letter, const uint64_t *slots, void **base, size_t first,
                      size_t count) except -1:
    """Puts a converted value in `count` places of a table, or the one of a global: of the array at base[0], from
    `first` on. What was there stays with the store until a collection: nothing is dropped here."""
    cdef Section section
    cdef char[2] letters
    cdef size_t size = value_size(letter), i
    cdef int failed
    letters[0], letters[1] = letter, 0
    section_begin(&section, <PyObject *>store.activations)
    failed = store.adopt(slots, letters, letter == EXTERNREF)
    if failed == 0:
        for i in range(first, first + count):
            memcpy(<char *>base[0] + size * i, slots, size)
    section_end(&section)
    if failed != 0:
        give_up(letters, slots)
    return 0


# --- To Python ----------------------------------------------------------------------

cdef object get_funcref(const uint64_t *slots, Store store):
    cdef Wasm2cFuncref ref
    cdef Signature signature
    cdef Instance owner
    memcpy(&ref, slots, sizeof(ref))
    if ref.code == NULL:
        return None
    owner = store.owner_of(ref.instance)
    signature = owner.code.signature_of(ref.type)
    if signature is None:
        raise TypeError("the function is of a type that its module does not have")
    return new_func(store, owner, signature, ref, "funcref")


cdef inline object get_plain(Store store, char letter, const uint64_t *slots):
    """A value that is no externref."""
    cdef Number number
    if letter == FUNCREF:
        return get_funcref(slots, store)
    if letter == V128:
        return (<const char *>slots)[:V128_SIZE]
    memcpy(&number, slots, sizeof(number))
    return get_number(&number, letter)


cdef inline object get_value(Store store, char letter, const uint64_t *slots, bint as_refs):
    """The value in the slots; a reference is the table's. In the section."""
    if letter == EXTERNREF:
        return lend_value(get_ref(slots), as_refs)
    return get_plain(store, letter, slots)


cdef tuple get_values(Store store, const char *letters, uint64_t *slots, bint as_refs):
    """The values in the slots; references are the table's. In the section."""
    cdef Py_ssize_t at = 0, i = 0, held = 0
    cdef list values
    cdef void *raw
    try:
        while letters[held] != 0:       # first of all, so that nothing collects them meanwhile
            if letters[held] == EXTERNREF:
                hold_lent(get_ref(slots + at), False)
            at += slots_of(letters[held])
            held += 1
        values = []     # to make it may collect
        at = 0
        while letters[i] != 0:
            if letters[i] == EXTERNREF:
                raw = get_ref(slots + at)
                put_ref(slots + at, NULL)
                values.append(take_held(raw, as_refs))
            else:
                values.append(get_plain(store, letters[i], slots + at))
            at += slots_of(letters[i])
            i += 1
    except BaseException:
        end_holds(letters, slots, held)
        raise
    return tuple(values)
