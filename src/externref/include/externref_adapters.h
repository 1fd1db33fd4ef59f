/* externref_adapters.h: destroy callbacks of well-known C interfaces, for user data that is
 * a reference.
 *
 * Most interfaces ask for a `void (*)(void *)`, and externref_drop is one:
 *
 *   GLib     GDestroyNotify  g_idle_add_full(priority, f, externref_clone(raw), externref_drop)
 *   sqlite3  xDestroy        sqlite3_create_function_v2(db, "f", 1, flags, externref_clone(raw), f,
 *                                                       NULL, NULL, externref_drop)
 *
 * This file has those of another shape: DLPack's `deleter`, and `release` of Arrow's C data
 * interface. Like externref_drop, they may be called on any thread, with or without the GIL,
 * and after the interpreter has gone: they run no Python code and take no lock that Python code
 * holds. The payload is released soon after, under the GIL.
 *
 * One rule holds for both: the reference owns everything. What the structure points to, the
 * shape of a tensor, the buffers of an array, is the payload's or outlives it: nothing is freed
 * here. A native payload (externref_new_with in externref_api.h) can hold it all in one
 * allocation: see examples/dlpack_export.c and examples/arrow_export.c.
 *
 * C99 and C++; needs no Python.h, nor the headers of these projects: it declares their
 * structures unless they are declared already. Include dlpack.h, if you do, before this file; Arrow's
 * in any order. */
#ifndef EXTERNREF_ADAPTERS_H
#define EXTERNREF_ADAPTERS_H

#include "externref.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -- DLPack: https://dmlc.github.io/dlpack/latest/c_api.html, version 1 */

#ifndef DLPACK_DLPACK_H_

#  define DLPACK_MAJOR_VERSION 1
#  define DLPACK_MINOR_VERSION 0
#  define DLPACK_FLAG_BITMASK_READ_ONLY (1UL << 0UL)

/* Of the many, those that a tensor in ordinary memory needs. */
enum { kDLCPU = 1 };
enum { kDLInt = 0, kDLUInt = 1, kDLFloat = 2, kDLComplex = 5, kDLBool = 6 };

typedef struct {
    uint32_t major, minor;
} DLPackVersion;

typedef struct {
    int32_t device_type, device_id;
} DLDevice;

typedef struct {
    uint8_t code, bits;
    uint16_t lanes;
} DLDataType;

typedef struct {
    void *data;
    DLDevice device;
    int32_t ndim;
    DLDataType dtype;
    int64_t *shape;
    int64_t *strides; /* in elements */
    uint64_t byte_offset;
} DLTensor;

typedef struct DLManagedTensor {
    DLTensor dl_tensor;
    void *manager_ctx;
    void (*deleter)(struct DLManagedTensor *self);
} DLManagedTensor;

typedef struct DLManagedTensorVersioned {
    DLPackVersion version;
    void *manager_ctx;
    void (*deleter)(struct DLManagedTensorVersioned *self);
    uint64_t flags;
    DLTensor dl_tensor;
} DLManagedTensorVersioned;

#endif /* DLPACK_DLPACK_H_ */

/* The `deleter` of a tensor whose `manager_ctx` owns a reference, which owns the tensor itself,
 * its shape and strides, and the data. */
static inline void externref_dlpack_deleter(DLManagedTensor *self)
{
    externref_drop(self->manager_ctx);
}

#ifdef DLPACK_MAJOR_VERSION /* a dlpack.h of before 1.0 knows no versions */
static inline void externref_dlpack_deleter_versioned(DLManagedTensorVersioned *self)
{
    externref_drop(self->manager_ctx);
}
#endif

/* -- Arrow: https://arrow.apache.org/docs/format/CDataInterface.html, which asks for these
 * declarations and their guard to be copied */

#ifndef ARROW_C_DATA_INTERFACE
#  define ARROW_C_DATA_INTERFACE

#  define ARROW_FLAG_DICTIONARY_ORDERED 1
#  define ARROW_FLAG_NULLABLE 2
#  define ARROW_FLAG_MAP_KEYS_SORTED 4

struct ArrowSchema {
    const char *format;
    const char *name;
    const char *metadata;
    int64_t flags;
    int64_t n_children;
    struct ArrowSchema **children;
    struct ArrowSchema *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};

struct ArrowArray {
    int64_t length;
    int64_t null_count;
    int64_t offset;
    int64_t n_buffers;
    int64_t n_children;
    const void **buffers;
    struct ArrowArray **children;
    struct ArrowArray *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};

#endif /* ARROW_C_DATA_INTERFACE */

/* The `release` of an array or a schema whose `private_data` owns a reference, or is NULL. The
 * reference owns what the structure points to: buffers, names, the structures of children and
 * dictionary. A child may own a clone of it. As the interface demands, children and dictionary that nobody
 * moved away are released first, each by a `release` of its own, and the structure is marked as released. */
static inline void externref_arrow_release_array(struct ArrowArray *array)
{
    for (int64_t i = 0; i < array->n_children; i++) {
        if (array->children[i]->release != NULL) {
            array->children[i]->release(array->children[i]);
        }
    }
    if (array->dictionary != NULL && array->dictionary->release != NULL) {
        array->dictionary->release(array->dictionary);
    }
    array->release = NULL;
    externref_drop(array->private_data);
}

static inline void externref_arrow_release_schema(struct ArrowSchema *schema)
{
    for (int64_t i = 0; i < schema->n_children; i++) {
        if (schema->children[i]->release != NULL) {
            schema->children[i]->release(schema->children[i]);
        }
    }
    if (schema->dictionary != NULL && schema->dictionary->release != NULL) {
        schema->dictionary->release(schema->dictionary);
    }
    schema->release = NULL;
    externref_drop(schema->private_data);
}

#ifdef __cplusplus
}
#endif

#endif /* EXTERNREF_ADAPTERS_H */
