# ctypes and cffi: the address in a pointer of theirs, and what ctypes passes for a reference.
#
# A part of _core.pyx. Neither is imported for an address: who has a pointer of theirs has done it. Finalizers may come
# here at the interpreter's end, when the names of modules are gone and nothing can be imported. So the package's end
# keeps what there is by then; it imports nothing, since another thread may be at it and never go on.

cdef object sys_module = sys
cdef tuple OF_CFFI = ("_CDataBase", "typeof", "cast", "new_primitive_type")
cdef void *kept_at_exit = NULL      # a dict of these, owned for good
# A module's, without asking it; None if the collector has cleared the module.
cdef object names_of = type(sys).__dict__["__dict__"].__get__
cdef type member_descriptor = type(type(sys).__dict__["__dict__"])
# By ctypes' c_void_p, of which a process may have two, and for the last by None. gc.get_objects() has it: what is found
# in it is looked at.
cdef dict parameter_classes = {}


cdef extern from "Python.h":
    const unsigned long Py_TPFLAGS_IMMUTABLETYPE
    bint PyModule_Check(object) noexcept


cdef object of_module(str module, str name):
    """None if the module is not imported. Has no module run code, as one does that is lazy."""
    found = (getattr(sys_module, "modules", None) or {}).get(module)
    if found is None or not PyModule_Check(found):
        return None
    names = names_of(found)
    return None if names is None else get_from(names, name)


cdef object of_cffi(str name):
    cdef void *kept
    found = of_module("_cffi_backend", name)
    if found is None:
        kept = atomic_pointer_load(&kept_at_exit)
        if kept != NULL:
            found = get_from(<object>kept, name)
    return found


cdef bint is_class_of_c(object cls, const char *name) noexcept:
    """Whether it is a C module's class of that name, the module's included: Python makes none that is immutable."""
    return (isinstance(cls, type) and ((<TypeSlots *>cls).tp_flags & Py_TPFLAGS_IMMUTABLETYPE) != 0
            and strcmp((<TypeSlots *>cls).tp_name, name) == 0)


cdef object simple_data(object cls):
    """ctypes' base of the classes of C's simple values, if the class is one of `void *`, or else None."""
    for base in cls.__mro__:
        if is_class_of_c(base, "_ctypes._SimpleCData"):
            kind = getattr(cls, "_type_", None)
            return base if type(kind) is str and kind == "P" else None
    return None


cdef bint may_be_c_void_p(object cls) noexcept:
    return is_class_of_c(type(cls), "_ctypes.PyCSimpleType")


cdef object address_in(object pointer):
    """TypeError for what is neither a c_void_p nor a `void *`; 0 if it is NULL."""
    if pointer is None:
        raise TypeError("None is no reference: where it stands for ctypes' null pointer, option_from_raw() takes it")
    simple = simple_data(type(pointer))
    if simple is not None:
        return simple.value.__get__(pointer) or 0       # of ctypes itself: a subclass may have a value of its own
    cdata = of_cffi("_CDataBase")
    if cdata is not None and isinstance(pointer, cdata):
        ctype = of_cffi("typeof")(pointer)
        if ctype.kind == "pointer" and ctype.item.kind == "void":
            return int(of_cffi("cast")(of_cffi("new_primitive_type")("uintptr_t"), pointer))
        raise TypeError(f"expected a cffi 'void *', not a {ctype.cname!r}: ffi.cast('void *', pointer)")
    raise TypeError("expected an address as an int, a ctypes.c_void_p or a cffi 'void *', "
                    f"not {type(pointer).__name__}")


# --- Arguments of ctypes' functions

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *) noexcept


@cython.final
@cython.internal
cdef class ParameterOwner:
    """A hold that lends, as an object: no method of it ends it early."""
    cdef void *held

    def __dealloc__(self):
        cdef void *held = self.held
        self.held = NULL
        end_hold(held, True)


@cython.final
@cython.internal
@cython.no_gc
cdef class ParameterClass:
    """What ctypes is passed instances of."""
    cdef object c_void_p        # its base
    cdef object cls
    cdef object give_owner      # setters
    cdef object give_value


cdef int refuse_c_void_p() except -1:
    raise TypeError("ctypes.c_void_p is not ctypes' own class, as whose instance a reference is passed")


cdef ParameterClass make_parameter_class(object c_void_p):
    """A c_void_p that owns a count: ctypes keeps it until the call is over. TypeError if that is not ctypes' own."""
    # What Python code has put in its place, be it for a test, may not be passed, and would be for good.
    simple = simple_data(c_void_p) if may_be_c_void_p(c_void_p) else None
    if simple is None:
        refuse_c_void_p()
    names = {"__slots__": ("owner",), "_type_": "P", "__module__": "externref.ctypes"}
    cls = type(c_void_p)("Parameter", (c_void_p,), names)
    owner = cls.__dict__.get("owner")
    if type(owner) is not member_descriptor or owner.__objclass__ is not cls:   # by an __init_subclass__
        refuse_c_void_p()
    give_owner = owner.__set__
    del cls.owner       # what ctypes alone has, nobody finds; but who has one knows how to spoil it
    cdef ParameterClass made = ParameterClass.__new__(ParameterClass)
    made.c_void_p, made.cls, made.give_owner, made.give_value = c_void_p, cls, give_owner, simple.value.__set__
    return made


cdef object empty_parameter(ParameterClass made):
    """One of the class that nobody else has; TypeError if Python code is in between."""
    parameter = made.cls()
    if type(parameter) is not made.cls or Py_REFCNT(<PyObject *>parameter) != 1:
        refuse_c_void_p()
    return hidden(parameter)        # from gc.get_objects()


cdef ParameterClass keep_parameter_class(object c_void_p):
    """For all arguments that follow."""
    cdef ParameterClass made = make_parameter_class(c_void_p)
    empty_parameter(made)       # TypeError: nothing is kept
    parameter_classes[c_void_p] = parameter_classes[None] = made
    return made


cdef ParameterClass parameter_class():
    """For the ctypes that is there now; if none is, for the last that was. TypeError."""
    c_void_p = of_module("ctypes", "c_void_p")
    is_one = may_be_c_void_p(c_void_p)
    made = get_from(parameter_classes, c_void_p if is_one else None)
    if type(made) is ParameterClass and (not is_one or (<ParameterClass>made).c_void_p is c_void_p):
        return made
    if c_void_p is None:
        from ctypes import c_void_p     # not for a call, or imported lazily
    return keep_parameter_class(c_void_p)


cdef object new_parameter(VMExternRef ref):
    cdef ParameterOwner owner = ParameterOwner.__new__(ParameterOwner)
    owner.held = hold_registered(ref, True)     # first: what follows runs other code, and the caller may let `ref` go
    cdef ParameterClass made = parameter_class()
    parameter = empty_parameter(made)
    made.give_owner(parameter, owner)
    made.give_value(parameter, <uintptr_t>owner.held)
    return parameter


# --- The package's end

cdef int keep_libraries() except -1:
    cdef dict kept = {}
    for name in OF_CFFI:
        kept[name] = of_module("_cffi_backend", name)
    Py_INCREF(<PyObject *>kept)
    atomic_pointer_swap(&kept_at_exit, <void *>kept)
    c_void_p = of_module("ctypes", "c_void_p")
    if c_void_p is not None and not parameter_classes:
        keep_parameter_class(c_void_p)      # while ctypes is whole
    return 0
