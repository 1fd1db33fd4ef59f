/* An extension, in C99 or C++, with a Python function for each function of externref_api.h.
 * Raw pointers, payload types and addresses are ints. */
#include "externref_api.h"

#include <pthread.h>

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

/* Of payloads that count themselves, on any thread. */
static struct {
    Py_ssize_t made, dropped; /* atomic */
} counted;

static int init_count(void *value, void *ctx)
{
    (void)ctx;
    *(char *)value = 1;
    __atomic_fetch_add(&counted.made, 1, __ATOMIC_RELAXED);
    return 0;
}

static void count_drop(void *value)
{
    __atomic_fetch_add(&counted.dropped, *(char *)value, __ATOMIC_RELAXED);
    *(char *)value = 0;
}

/* The drop_in_place of a payload that is a reference. */
static void drop_reference(void *value)
{
    externref_drop(*(void **)value);
}

static void drop_reference_then_record(void *value)
{
    drop_reference(value);
    record_drop(value);
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

/* An init of what drop_reference drops: it owns `raw` from then on. */
static int init_reference(void *value, void *raw)
{
    memcpy(value, &raw, sizeof raw);
    return 0;
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

/* type(name, size, align, drop="record", flags=None): drop is one of those above, or "nothing". */
static PyObject *type(PyObject *module, PyObject *args)
{
    const char *name, *drop = "record";
    Py_ssize_t size, align;
    PyObject *flags = NULL;
    void (*drop_in_place)(void *);
    (void)module;
    if (!PyArg_ParseTuple(args, "ynn|sO", &name, &size, &align, &drop, &flags)) {
        return NULL;
    }
    drop_in_place = strcmp(drop, "record") == 0                   ? record_drop
                    : strcmp(drop, "reference") == 0              ? drop_reference
                    : strcmp(drop, "reference, then record") == 0 ? drop_reference_then_record
                    : strcmp(drop, "count") == 0                  ? count_drop
                                                                  : NULL;
    return from_pointer(flags == NULL ? externref_type(name, (size_t)size, (size_t)align, drop_in_place)
                                      : externref_type_with(name, (size_t)size, (size_t)align, drop_in_place,
                                                            (unsigned)PyLong_AsUnsignedLong(flags)));
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

/* new_chain(type, raw, count): the last of so many payloads, each of which owns the one before, the first of them `raw`. */
static PyObject *new_chain(PyObject *module, PyObject *args)
{
    PyObject *number, *owned;
    Py_ssize_t count;
    void *payload_type, *raw;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOn", &number, &owned, &count) || !to_pointer(number, &payload_type) ||
        !to_pointer(owned, &raw)) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        void *next = externref_new_with((const VMExternVTable *)payload_type, init_reference, raw);
        if (next == NULL) {
            externref_release(raw);
            return NULL;
        }
        raw = next;
    }
    return give(raw);
}

/* new_anywhere(type, make): None if there is no memory or `make` fails, whose exception is no affair of externref's. */
static PyObject *new_anywhere(PyObject *module, PyObject *args)
{
    PyObject *number, *make;
    void *payload_type, *raw;
    (void)module;
    if (!PyArg_ParseTuple(args, "OO", &number, &make) || !to_pointer(number, &payload_type)) {
        return NULL;
    }
    raw = externref_new_anywhere((const VMExternVTable *)payload_type, call_make, make);
    if (raw != NULL) {
        return give(raw);
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *hand_out(PyObject *module, PyObject *number)
{
    void *raw;
    (void)module;
    if (!to_pointer(number, &raw) || externref_hand_out(raw) != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* -- Threads without the GIL, which their caller holds until they end */

#define MAX_THREADS 128

typedef struct {
    const VMExternVTable *payload_type;
    Py_ssize_t times;
    Py_ssize_t failures; /* atomic */
} Work;

static void *make_and_drop(void *shared)
{
    Work *work = (Work *)shared;
    for (Py_ssize_t i = 0; i < work->times; i++) {
        void *raw = externref_new_anywhere(work->payload_type, init_count, NULL);
        if (raw == NULL) {
            __atomic_fetch_add(&work->failures, 1, __ATOMIC_RELAXED);
        }
        externref_drop(externref_clone(raw));
        externref_drop(raw);
    }
    return NULL;
}

static void *drop_it(void *raw)
{
    externref_drop(raw);
    return NULL;
}

/* None, or an OSError. */
static PyObject *run_threads(void *(*function)(void *), void *argument, int count)
{
    pthread_t threads[MAX_THREADS];
    int started = 0, error = 0;
    while (started < count && error == 0) {
        error = pthread_create(&threads[started], NULL, function, argument);
        started += error == 0;
    }
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    if (error != 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

/* churn(type, threads, times): each thread makes and drops so many payloads. How many could not be made. */
static PyObject *churn(PyObject *module, PyObject *args)
{
    PyObject *number, *none;
    void *payload_type;
    int threads;
    Work work = {NULL, 0, 0};
    (void)module;
    if (!PyArg_ParseTuple(args, "Oin", &number, &threads, &work.times) || !to_pointer(number, &payload_type)) {
        return NULL;
    }
    work.payload_type = (const VMExternVTable *)payload_type;
    none = run_threads(make_and_drop, &work, threads < MAX_THREADS ? threads : MAX_THREADS);
    Py_XDECREF(none);
    return none != NULL ? PyLong_FromSsize_t(work.failures) : NULL;
}

static PyObject *drop_on_thread(PyObject *module, PyObject *number)
{
    void *raw;
    (void)module;
    return to_pointer(number, &raw) ? run_threads(drop_it, raw, 1) : NULL;
}

/* How many payloads that "count" were made, and dropped, ever. */
static PyObject *counts(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return Py_BuildValue("nn", __atomic_load_n(&counted.made, __ATOMIC_RELAXED),
                         __atomic_load_n(&counted.dropped, __ATOMIC_RELAXED));
}

static PyMethodDef methods[] = {
    {"new_chain", new_chain, METH_VARARGS, NULL},
    {"new_anywhere", new_anywhere, METH_VARARGS, NULL},
    {"hand_out", hand_out, METH_O, NULL},
    {"churn", churn, METH_VARARGS, NULL},
    {"drop_on_thread", drop_on_thread, METH_O, NULL},
    {"counts", counts, METH_NOARGS, NULL},
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
