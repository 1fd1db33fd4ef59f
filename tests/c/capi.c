/* An extension, in C99 or C++, with a Python function for each function of externref_api.h.
 * Raw pointers, payload types and addresses are ints. */
#include "externref_api.h"

/* -- Payloads that record their own drop */

static void *drops[64];
static size_t drop_count;

/* A drop_in_place. A thread without the GIL is recorded as NULL. */
static void record_drop(void *value)
{
    if (drop_count < sizeof drops / sizeof drops[0]) {
        drops[drop_count++] = PyGILState_Check() ? value : NULL;
    }
}

/* The addresses dropped since the last call. */
static PyObject *take_drops(PyObject *module, PyObject *unused)
{
    size_t count = drop_count;
    PyObject *list = PyList_New((Py_ssize_t)count);
    (void)module;
    (void)unused;
    drop_count = 0;
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyList_SET_ITEM(list, (Py_ssize_t)i, PyLong_FromVoidPtr(drops[i]));
    }
    return list;
}

/* The drop_in_place of a payload that is a reference. */
static void drop_reference(void *value)
{
    externref_drop(*(void **)value);
}

/* An init: calls the Python function `make` with the payload's address. Fails, without an
 * exception, if that gives a false value. */
static int call_make(void *value, void *make)
{
    PyObject *result = PyObject_CallFunction((PyObject *)make, "N", PyLong_FromVoidPtr(value));
    int made = result != NULL ? PyObject_IsTrue(result) : 0;
    Py_XDECREF(result);
    return made > 0 ? 0 : -1;
}

/* -- The functions */

/* A raw pointer or a type as an int; NULL means failure only if an exception is set. */
static PyObject *from_pointer(const void *pointer)
{
    return pointer == NULL && PyErr_Occurred() ? NULL : PyLong_FromVoidPtr((void *)(uintptr_t)pointer);
}

/* Whether the int was converted; else an exception is set. */
static int to_pointer(PyObject *number, void **pointer)
{
    *pointer = PyLong_AsVoidPtr(number);
    return *pointer != NULL || !PyErr_Occurred();
}

/* Moves an owned raw pointer to Python; it is released if there is no memory for the int. */
static PyObject *give(void *raw)
{
    PyObject *number = from_pointer(raw);
    if (number == NULL) {
        externref_release(raw);
    }
    return number;
}

static PyObject *from_object(PyObject *module, PyObject *object)
{
    (void)module;
    return give(externref_from_object(object));
}

static PyObject *unwrap(PyObject *module, PyObject *ref)
{
    (void)module;
    return from_pointer(externref_unwrap(ref));
}

static PyObject *wrap(PyObject *module, PyObject *number)
{
    void *raw;
    (void)module;
    return to_pointer(number, &raw) ? externref_wrap(raw) : NULL;
}

static PyObject *wrap_clone(PyObject *module, PyObject *number)
{
    void *raw;
    (void)module;
    return to_pointer(number, &raw) ? externref_wrap_clone(raw) : NULL;
}

static PyObject *object(PyObject *module, PyObject *number)
{
    void *raw;
    (void)module;
    return to_pointer(number, &raw) ? externref_object(raw) : NULL;
}

static PyObject *take_object(PyObject *module, PyObject *number)
{
    void *raw;
    (void)module;
    return to_pointer(number, &raw) ? externref_take_object(raw) : NULL;
}

static PyObject *release(PyObject *module, PyObject *number)
{
    void *raw;
    (void)module;
    if (!to_pointer(number, &raw)) {
        return NULL;
    }
    externref_release(raw);
    Py_RETURN_NONE;
}

/* type(name, size, align, drop="record"): drop is "record", "reference" or "nothing". */
static PyObject *type(PyObject *module, PyObject *args)
{
    const char *name, *drop = "record";
    Py_ssize_t size, align;
    (void)module;
    if (!PyArg_ParseTuple(args, "ynn|s", &name, &size, &align, &drop)) {
        return NULL;
    }
    return from_pointer(externref_type(name, (size_t)size, (size_t)align,
                                       strcmp(drop, "record") == 0      ? record_drop
                                       : strcmp(drop, "reference") == 0 ? drop_reference
                                                                        : NULL));
}

/* new_with(type, make): see call_make. */
static PyObject *new_with(PyObject *module, PyObject *args)
{
    PyObject *number, *make;
    void *payload_type;
    (void)module;
    if (!PyArg_ParseTuple(args, "OO", &number, &make) || !to_pointer(number, &payload_type)) {
        return NULL;
    }
    return give(externref_new_with((const VMExternVTable *)payload_type, call_make, make));
}

static PyMethodDef methods[] = {
    {"take_drops", take_drops, METH_NOARGS, NULL},
    {"from_object", from_object, METH_O, NULL},
    {"unwrap", unwrap, METH_O, NULL},
    {"wrap", wrap, METH_O, NULL},
    {"wrap_clone", wrap_clone, METH_O, NULL},
    {"object", object, METH_O, NULL},
    {"take_object", take_object, METH_O, NULL},
    {"release", release, METH_O, NULL},
    {"type", type, METH_VARARGS, NULL},
    {"new_with", new_with, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "capi", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_capi(void)
{
    return externref_import() == 0 ? PyModule_Create(&definition) : NULL;
}
