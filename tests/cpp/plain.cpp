/* An extension over Python's C API with a function for each member of externref_python.hpp. A Ref is an int
 * between the calls, as of into_raw(). Its other file is plain_more.cpp. */
#include "plain.hpp"

using externref::Ref;

Ref kept;

Ref from_number(PyObject *number)
{
    void *raw = PyLong_AsVoidPtr(number);
    if (raw == nullptr && PyErr_Occurred()) {
        throw externref::PythonError();
    }
    return Ref::from_raw(raw);
}

/* Moves out to Python; released if there is no memory for the int. */
static PyObject *give(Ref ref)
{
    PyObject *number = PyLong_FromVoidPtr(ref.as_raw());
    if (number == nullptr) {
        ref.drop_now();
        throw externref::PythonError();
    }
    (void)ref.into_raw();
    return number;
}

static PyObject *from_object(PyObject *object)
{
    return give(Ref::from_object(object));
}

static PyObject *from_python(PyObject *value)
{
    return give(Ref::from_python(value));
}

static PyObject *unwrap(PyObject *ref)
{
    return give(Ref::unwrap(ref));
}

/* object(number): the Ref stays the caller's. */
static PyObject *object(PyObject *number)
{
    Ref ref = from_number(number);
    try {
        PyObject *result = ref.object();
        (void)ref.into_raw();
        return result;
    } catch (const externref::PythonError &) {
        (void)ref.into_raw();
        throw;
    }
}

/* Gives whether the last owner's object was released, and not left to be drained. */
static PyObject *drop_now(PyObject *number)
{
    Ref ref = from_number(number);
    ref.drop_now();
    return PyBool_FromLong(!ref);
}

static PyObject *keep(PyObject *value)
{
    kept = Ref::from_python(value);
    Py_RETURN_NONE;
}

static PyObject *import_api(PyObject *)
{
    externref::import_api();
    Py_RETURN_NONE;
}

static int nothing_to_make(void *, void *)
{
    return 0;
}

/* A reference with a native payload. */
static PyObject *native(PyObject *)
{
    static const VMExternVTable *type = nullptr;
    if (type == nullptr) {
        if (externref_import() != 0) { /* what the functions of the C header need, in the file that calls them */
            throw externref::PythonError();
        }
        type = externref_type("Blob", 8, 8, nullptr);
    }
    void *raw = type != nullptr ? externref_new_with(type, nothing_to_make, nullptr) : nullptr;
    if (raw == nullptr) {
        throw externref::PythonError();
    }
    return give(Ref::from_raw(raw));
}

static PyMethodDef methods[] = {
    {"from_object", guarded<from_object>, METH_O, nullptr},
    {"from_python", guarded<from_python>, METH_O, nullptr},
    {"unwrap", guarded<unwrap>, METH_O, nullptr},
    {"object", guarded<object>, METH_O, nullptr},
    {"wrap", guarded<wrap>, METH_O, nullptr},
    {"to_python", guarded<to_python>, METH_O, nullptr},
    {"moved_to_python", guarded<moved_to_python>, METH_O, nullptr},
    {"drop_now", guarded<drop_now>, METH_O, nullptr},
    {"keep", guarded<keep>, METH_O, nullptr},
    {"import_api", guarded<import_api>, METH_NOARGS, nullptr},
    {"native", guarded<native>, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "plain", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

PyMODINIT_FUNC PyInit_plain()
{
    return PyModule_Create(&definition);
}
