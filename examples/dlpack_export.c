/* An extension module that shares the memory of any Python buffer by DLPack. The tensor and
 * all that it needs is one native payload, owned by the tensor's `manager_ctx`. */
#define PY_SSIZE_T_CLEAN
#include "externref_api.h"
#include "externref_adapters.h"

struct tensor {
    union {
        DLManagedTensor plain;
        DLManagedTensorVersioned versioned; /* of DLPack 1.0: can say that memory is read-only */
    } managed;
    int64_t shape[1], strides[1];
    Py_buffer view; /* owns the Python object */
};

static const VMExternVTable *tensor_type;

/* Makes the payload: takes hold of the object's memory. */
static int init(void *value, void *object)
{
    struct tensor *tensor = (struct tensor *)value;
    return PyObject_GetBuffer((PyObject *)object, &tensor->view, PyBUF_SIMPLE);
}

/* Drops it: with the GIL, whichever thread called the deleter. */
static void drop(void *value)
{
    PyBuffer_Release(&((struct tensor *)value)->view);
}

static const char *name_of(int versioned)
{
    return versioned ? "dltensor_versioned" : "dltensor";
}

/* Of a capsule that nobody consumed: who does renames it, and calls the deleter. */
static void forget(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, name_of(0))) {
        DLManagedTensor *plain = (DLManagedTensor *)PyCapsule_GetPointer(capsule, name_of(0));
        plain->deleter(plain);
    }
    if (PyCapsule_IsValid(capsule, name_of(1))) {
        DLManagedTensorVersioned *versioned = (DLManagedTensorVersioned *)PyCapsule_GetPointer(capsule, name_of(1));
        versioned->deleter(versioned);
    }
}

/* capsule(buffer, versioned): a tensor of the buffer's bytes, as a capsule of the DLPack protocol. */
static PyObject *capsule(PyObject *module, PyObject *args)
{
    PyObject *object, *result;
    struct tensor *tensor;
    DLTensor *fields;
    void *raw;
    int versioned;
    (void)module;
    if (!PyArg_ParseTuple(args, "Op", &object, &versioned)) {
        return NULL;
    }
    raw = externref_new_with(tensor_type, init, object);
    if (raw == NULL) {
        return NULL;
    }
    tensor = (struct tensor *)externref_value(raw);
    if (!versioned && tensor->view.readonly) {
        PyErr_SetString(PyExc_BufferError, "the memory is read-only, which only DLPack 1.0 can say");
        externref_release(raw);
        return NULL;
    }
    if (versioned) {
        DLManagedTensorVersioned *managed = &tensor->managed.versioned;
        managed->version.major = DLPACK_MAJOR_VERSION;
        managed->version.minor = DLPACK_MINOR_VERSION;
        managed->manager_ctx = raw;
        managed->deleter = externref_dlpack_deleter_versioned;
        managed->flags = tensor->view.readonly ? DLPACK_FLAG_BITMASK_READ_ONLY : 0;
        fields = &managed->dl_tensor;
    }
    else {
        tensor->managed.plain.manager_ctx = raw;
        tensor->managed.plain.deleter = externref_dlpack_deleter;
        fields = &tensor->managed.plain.dl_tensor;
    }
    tensor->shape[0] = tensor->view.len;
    tensor->strides[0] = 1;
    fields->data = tensor->view.buf;
    fields->device.device_type = kDLCPU;
    fields->device.device_id = 0;
    fields->ndim = 1;
    fields->dtype.code = kDLUInt;
    fields->dtype.bits = 8;
    fields->dtype.lanes = 1;
    fields->shape = tensor->shape;
    fields->strides = tensor->strides;
    fields->byte_offset = 0;
    result = PyCapsule_New(&tensor->managed, name_of(versioned), forget);
    if (result == NULL) {
        externref_release(raw);
    }
    return result;
}

static PyMethodDef functions[] = {
    {"capsule", capsule, METH_VARARGS, "capsule(buffer, versioned): its bytes as a DLPack capsule"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "dlpack_export", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_dlpack_export(void)
{
    if (externref_import() < 0) {
        return NULL;
    }
    tensor_type = externref_type("tensor", sizeof(struct tensor), sizeof(int64_t), drop);
    return tensor_type != NULL ? PyModule_Create(&definition) : NULL;
}
