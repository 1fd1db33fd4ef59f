/* An extension module that shares the memory of any Python buffer with Arrow, by the Arrow
 * PyCapsule interface. What the array points to is one native payload, owned by its `private_data`. */
#define PY_SSIZE_T_CLEAN
#include <stdlib.h>

#include "externref_api.h"
#include "externref_adapters.h"

struct column {
    const void *buffers[2]; /* which values are valid: all; the values */
    Py_buffer view;         /* owns the Python object */
};

static const VMExternVTable *column_type;

/* Makes the payload: takes hold of the object's memory. */
static int init(void *value, void *object)
{
    struct column *column = (struct column *)value;
    if (PyObject_GetBuffer((PyObject *)object, &column->view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    column->buffers[0] = NULL;
    column->buffers[1] = column->view.buf;
    return 0;
}

/* Drops it: with the GIL, whichever thread called `release`. */
static void drop(void *value)
{
    PyBuffer_Release(&((struct column *)value)->view);
}

/* The structures belong to the capsules. Who imports one moves its content away, so that it
 * counts as released here. */
static void free_array(PyObject *capsule)
{
    struct ArrowArray *array = (struct ArrowArray *)PyCapsule_GetPointer(capsule, "arrow_array");
    if (array->release != NULL) {
        array->release(array);
    }
    free(array);
}

static void free_schema(PyObject *capsule)
{
    struct ArrowSchema *schema = (struct ArrowSchema *)PyCapsule_GetPointer(capsule, "arrow_schema");
    if (schema->release != NULL) {
        schema->release(schema);
    }
    free(schema);
}

/* A capsule that owns the structure; NULL, without one, after an error. */
static PyObject *give_to_capsule(void *structure, const char *name, PyCapsule_Destructor destructor)
{
    PyObject *capsule = structure != NULL ? PyCapsule_New(structure, name, destructor) : PyErr_NoMemory();
    if (capsule == NULL) {
        free(structure);
    }
    return capsule;
}

/* capsules(buffer): (schema, array) of the buffer's bytes as uint8, for __arrow_c_array__. */
static PyObject *capsules(PyObject *module, PyObject *object)
{
    struct ArrowSchema *schema = (struct ArrowSchema *)calloc(1, sizeof *schema);
    struct ArrowArray *array = (struct ArrowArray *)calloc(1, sizeof *array);
    PyObject *schema_capsule = give_to_capsule(schema, "arrow_schema", free_schema);
    PyObject *array_capsule = give_to_capsule(array, "arrow_array", free_array);
    struct column *column;
    void *raw;
    (void)module;
    if (schema_capsule == NULL || array_capsule == NULL ||
        (raw = externref_new_with(column_type, init, object)) == NULL) {
        Py_XDECREF(schema_capsule);
        Py_XDECREF(array_capsule);
        return NULL;
    }
    column = (struct column *)externref_value(raw);
    schema->format = "C"; /* uint8; a constant, so that the schema has nothing to own */
    schema->name = "";
    schema->release = externref_arrow_release_schema;
    array->length = column->view.len;
    array->n_buffers = 2;
    array->buffers = column->buffers;
    array->private_data = raw;
    array->release = externref_arrow_release_array;
    return Py_BuildValue("NN", schema_capsule, array_capsule);
}

static PyMethodDef functions[] = {
    {"capsules", capsules, METH_O, "capsules(buffer): (schema, array), its bytes as an Arrow array"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "arrow_export", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_arrow_export(void)
{
    if (externref_import() < 0) {
        return NULL;
    }
    column_type = externref_type("column", sizeof(struct column), sizeof(void *), drop);
    return column_type != NULL ? PyModule_Create(&definition) : NULL;
}
