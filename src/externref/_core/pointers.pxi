# ctypes and cffi: the address in a pointer of theirs, and what ctypes passes for a reference.
#
# A part of _core.pyx. Neither is imported here: who has a pointer of theirs has done it. Finalizers may have one at
# the interpreter's end, when the names of modules are gone and none can be imported: close_pending() keeps what they
# need.

cdef object modules = sys.modules
cdef void *libraries_at_exit = NULL     # libraries(), as the package's end found them; for good
cdef void *new_parameter = NULL         # externref.ctypes.new_parameter, once it is needed; for good


cdef void keep(void **slot, object kept) noexcept:
    Py_INCREF(<PyObject *>kept)
    slot_store(slot, <void *>kept)


cdef tuple libraries():
    """ctypes.c_void_p; cffi's type of pointers and its functions. None for what is not imported."""
    ctypes = modules.get("ctypes")
    cffi = modules.get("_cffi_backend")
    cdata = getattr(cffi, "_CDataBase", None)
    return (getattr(ctypes, "c_void_p", None),
            None if cdata is None else (cdata, cffi.typeof, cffi.cast, cffi.new_primitive_type))


cdef object address_in(object pointer):
    """TypeError for what is neither a c_void_p nor a `void *`; 0 if it is NULL."""
    if pointer is None:
        raise TypeError("None is no reference: where it stands for ctypes' null pointer, option_from_raw() takes it")
    cdef void *kept = slot_load(&libraries_at_exit)
    c_void_p, cffi = libraries()
    if kept != NULL:
        c_void_p, cffi = c_void_p or (<tuple>kept)[0], cffi or (<tuple>kept)[1]
    if c_void_p is not None and isinstance(pointer, c_void_p):
        return c_void_p.value.__get__(pointer) or 0     # of ctypes itself: a subclass may have a value of its own
    if cffi is not None:
        cdata, typeof, cast, new_primitive_type = cffi
        if isinstance(pointer, cdata):
            ctype = typeof(pointer)
            if ctype.kind == "pointer" and ctype.item.kind == "void":
                return int(cast(new_primitive_type("uintptr_t"), pointer))
            raise TypeError(f"expected a cffi 'void *', not a {ctype.cname!r}: ffi.cast('void *', pointer)")
    raise TypeError("expected an address as an int, a ctypes.c_void_p or a cffi 'void *', "
                    f"not {type(pointer).__name__}")


cdef object parameter_maker():
    cdef void *maker = slot_load(&new_parameter)
    if maker == NULL:
        from externref.ctypes import new_parameter as imported
        keep(&new_parameter, imported)
        return imported
    return <object>maker


cdef void keep_libraries() noexcept:
    """At the package's end."""
    try:
        keep(&libraries_at_exit, libraries())
        if "ctypes" in modules:
            parameter_maker()
    except Exception:
        pass    # who needs it then is told
