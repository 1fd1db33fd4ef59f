"""CPython as every module of the package sees it: objects without counting, type slots, vectorcall.

Declarations and inline functions only, no state. What one module alone needs of CPython is declared there.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject, PyTypeObject

cdef extern from "Python.h":
    # Cython's own declarations take objects, and count them.
    ctypedef void (*destructor)(PyObject *) noexcept
    ctypedef int (*visitproc)(PyObject *, void *) noexcept
    ctypedef int (*traverseproc)(PyObject *, visitproc, void *) noexcept
    ctypedef int (*inquiry)(PyObject *) noexcept
    ctypedef PyObject *(*richcmpfunc)(PyObject *, PyObject *, int) except NULL
    ctypedef PyObject *(*descrgetfunc)(PyObject *, PyObject *, PyObject *) except NULL

    ctypedef struct PyBufferProcs
    # Cython's PyTypeObject has only some of the slots.
    ctypedef struct TypeSlots "PyTypeObject":
        const char *tp_name
        unsigned long tp_flags
        PyBufferProcs *tp_as_buffer
        Py_ssize_t tp_vectorcall_offset
        PyObject *(*tp_new)(PyTypeObject *, PyObject *, PyObject *) except NULL
        PyObject *(*tp_vectorcall)(PyObject *, PyObject *const *, size_t, PyObject *) except NULL
        destructor tp_dealloc
        richcmpfunc tp_richcompare
        traverseproc tp_traverse
        inquiry tp_clear
        void (*tp_free)(void *) noexcept
        descrgetfunc tp_descr_get
        PyObject *tp_dict
    const unsigned long Py_TPFLAGS_HAVE_GC
    const unsigned long Py_TPFLAGS_HAVE_VECTORCALL
    void PyType_Modified(PyTypeObject *) noexcept
    int PyDict_DelItemString(PyObject *, const char *) noexcept
    void PyErr_Clear() noexcept

    void Py_INCREF(PyObject *) noexcept
    void Py_DECREF(PyObject *) noexcept
    void Py_XDECREF(PyObject *) noexcept
    void PyObject_GC_Track(PyObject *) noexcept
    void PyObject_GC_UnTrack(PyObject *) noexcept
    void PyObject_GC_Del(void *) noexcept
    PyObject *PyErr_Occurred() noexcept
    unsigned long PyThread_get_thread_ident() noexcept

    ctypedef struct PyThreadState:
        pass
    PyThreadState *PyEval_SaveThread() noexcept
    void PyEval_RestoreThread(PyThreadState *) noexcept

    ctypedef struct PyTupleObject:
        PyObject **ob_item
    Py_ssize_t PyTuple_GET_SIZE(PyObject *) noexcept
    Py_ssize_t PyVectorcall_NARGS(size_t) noexcept

cdef extern from *:
    """
    /* The reference itself becomes Cython's to count. */
    #define own_reference(op) (op)

    /* Whether the body of this module ran before. */
    CYTHON_UNUSED static int is_second_run(void)
    {
        static int runs;
        return runs++ != 0;
    }

    /* For `except -1` functions that only pass on the exception that C code set. */
    CYTHON_UNUSED static CYTHON_INLINE int reraise(void)
    {
        return -1;
    }

    /* Runs `body(op)` as CPython's containers do: nested deeper than a bound, `op` is put
     * aside and comes back through `dealloc` once the stack has unwound. */
    CYTHON_UNUSED static CYTHON_INLINE void call_in_trashcan(PyObject *op, destructor dealloc, destructor body)
    {
        Py_TRASHCAN_BEGIN(op, dealloc)
        body(op);
        Py_TRASHCAN_END
    }
    """
    object own_reference(PyObject *)
    bint is_second_run() noexcept
    int reraise() except -1
    void call_in_trashcan(PyObject *, destructor, destructor) noexcept

# `self = self`: Cython borrows a function's arguments, but for those that the function assigns to. There are callers
# that let what they call, and what they pass, go in the middle of the call: iter(table.fill, None) when it ends, a
# partial() of it, and 3.11 a weak reference that it gives to the callback. So begins a method that may run other code
# and uses its object afterwards, and owns it.

cdef inline PyObject **own_all(PyObject *const *lent, Py_ssize_t count) except NULL:
    """References to arguments that the caller may let go, in an array that let_all_go() frees. Runs no other code."""
    cdef PyObject **owned = <PyObject **>PyMem_Malloc(count * sizeof(PyObject *))
    cdef Py_ssize_t i
    if owned == NULL:
        raise MemoryError("no memory for the arguments")
    for i in range(count):
        owned[i] = lent[i]
        Py_INCREF(owned[i])
    return owned


cdef inline void let_all_go(PyObject **owned, Py_ssize_t count) noexcept:
    cdef Py_ssize_t i
    for i in range(count):
        Py_DECREF(owned[i])
    PyMem_Free(owned)


# What an instance's vectorcall slot holds.
ctypedef object (*vectorcallfunc)(PyObject *, PyObject *const *, size_t, PyObject *)


cdef inline int require_first_run() except -1:
    """Called first by a module that changes slots of its types: after an import that failed they are changed already,
    and what is the module's own would be taken for Cython's."""
    if is_second_run():
        raise ImportError("the first import of externref in this process failed, and it cannot be imported again: "
                          "start another process")


cdef inline PyObject *const *items_of(tuple args) noexcept:
    """The items of a tuple, borrowed."""
    return (<PyTupleObject *>args).ob_item


cdef inline void let_others_run() noexcept:
    """Gives the GIL up for a moment, to who waits for it. Arbitrary code."""
    PyEval_RestoreThread(PyEval_SaveThread())


cdef inline bint has_keywords(PyObject *names) noexcept:
    """Whether a vectorcall came with keyword arguments."""
    return names != NULL and PyTuple_GET_SIZE(names) != 0


cdef inline void call_by_vectorcall(type cls, Py_ssize_t offset) noexcept:
    """Has calls of the class's instances go to the vectorcallfunc at this offset in them.

    Cython knows no vectorcall for instances. By way of an argument tuple, a trip of an object
    through an identity Function takes 0.46 of cffi's time in place of 0.29.
    """
    cdef TypeSlots *slots = <TypeSlots *>cls
    slots.tp_vectorcall_offset = offset
    slots.tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL


cdef inline void name_publicly(type cls, const char *name) noexcept:
    """Calls a class as users find it, not by the module that it is compiled in, and takes out of help() what Cython has
    there for modules that cimport the class: none does."""
    (<TypeSlots *>cls).tp_name = name
    if PyDict_DelItemString((<TypeSlots *>cls).tp_dict, "__pyx_vtable__") != 0:
        PyErr_Clear()
    PyType_Modified(<PyTypeObject *>cls)


cdef inline void make_collected(type cls, traverseproc traverse, inquiry clear) noexcept:
    """Makes a class in which Cython sees no object one of the cycle collector's, before it has instances.

    Its deallocation begins with PyObject_GC_UnTrack.
    """
    cdef TypeSlots *slots = <TypeSlots *>cls
    slots.tp_flags |= Py_TPFLAGS_HAVE_GC
    slots.tp_traverse = traverse
    slots.tp_clear = clear
    slots.tp_free = PyObject_GC_Del
    PyType_Modified(<PyTypeObject *>cls)


cdef inline object get_from(object attributes, object key):
    """attributes.get(key). Of what it knows to be a dict, Cython borrows the value, which another thread may let go."""
    return attributes.get(key)


cdef inline object hidden(object thing):
    """The object, which is new, out of the collector's sight until PyObject_GC_Track(), and so of gc.get_objects() and
    gc.get_referrers(): what a collection runs, or other code meanwhile, cannot find it, nor change it."""
    PyObject_GC_UnTrack(<PyObject *>thing)
    return thing


cdef inline tuple secret_maker():
    """A tuple for the arguments of __new__ that nobody else can have."""
    return hidden((object(),))


cdef inline object make_secretly(type cls, tuple maker):
    """cls.__new__(cls, *maker), with that very tuple: Cython would make another."""
    return own_reference((<TypeSlots *>cls).tp_new(<PyTypeObject *>cls, <PyObject *>maker, NULL))


cdef inline int require_maker(tuple given, tuple maker, str refusal) except -1:
    """For the __cinit__ of what only the package makes: `maker`, a secret_maker() of the module's own, must have
    been given. TypeError with the refusal."""
    # By identity: an argument's == may say anything.
    if len(given) != 1 or given[0] is not maker[0]:
        raise TypeError(refusal)
    return 0
