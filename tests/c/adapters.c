/* The adapters of externref_adapters.h at work, without Python: threads call them, and the last
 * drop frees the block there and then, so that AddressSanitizer sees what is touched after it. With
 * -DREAL the structures are those of the projects' own headers. C99 and C++. */
#ifdef REAL
#  include <arrow/c/dlpack_abi.h>
#endif
#include "externref_adapters.h"
#ifdef REAL
#  include <arrow/c/abi.h>
#endif

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* The numbers that are in every library that shares memory: of the structures declared, or of the
 * real ones. */
#define SAME(name, condition) typedef char name[(condition) ? 1 : -1]
#if UINTPTR_MAX == UINT64_MAX
SAME(dl_tensor, sizeof(DLTensor) == 48 && offsetof(DLTensor, ndim) == 16 && offsetof(DLTensor, dtype) == 20);
SAME(dl_tensor_pointers, offsetof(DLTensor, shape) == 24 && offsetof(DLTensor, strides) == 32);
SAME(dl_managed, offsetof(DLManagedTensor, manager_ctx) == 48 && offsetof(DLManagedTensor, deleter) == 56);
SAME(dl_versioned, offsetof(DLManagedTensorVersioned, manager_ctx) == 8);
SAME(dl_versioned_deleter, offsetof(DLManagedTensorVersioned, deleter) == 16);
SAME(dl_versioned_tensor, offsetof(DLManagedTensorVersioned, dl_tensor) == 32);
SAME(arrow_schema, sizeof(struct ArrowSchema) == 72 && offsetof(struct ArrowSchema, private_data) == 64);
SAME(arrow_schema_release, offsetof(struct ArrowSchema, release) == 56);
SAME(arrow_array, sizeof(struct ArrowArray) == 80 && offsetof(struct ArrowArray, private_data) == 72);
SAME(arrow_array_release, offsetof(struct ArrowArray, release) == 64);
#endif
SAME(dl_constants, kDLCPU == 1 && kDLInt == 0 && kDLUInt == 1 && kDLFloat == 2 && kDLComplex == 5 && kDLBool == 6);
SAME(dl_flag, DLPACK_FLAG_BITMASK_READ_ONLY == 1 && DLPACK_MAJOR_VERSION == 1);
SAME(arrow_flags, ARROW_FLAG_DICTIONARY_ORDERED == 1 && ARROW_FLAG_NULLABLE == 2 && ARROW_FLAG_MAP_KEYS_SORTED == 4);

/* As GLib and sqlite write them. */
typedef void (*GDestroyNotify)(void *data);
static const GDestroyNotify notify = externref_drop;
static void (*const xDestroy)(void *) = externref_drop;

#define THREADS 4
#define LOOPS 500
#define TENSORS 2

/* All that is shared is in the payload, as the adapters ask. */
struct payload {
    DLManagedTensor plain[THREADS][TENSORS];
    DLManagedTensorVersioned versioned[THREADS][TENSORS];
    int64_t shape[1];
    const void *buffers[2];
    struct ArrowArray array_children[2], array_dictionary, *array_pointers[2];
    struct ArrowSchema schema_children[2], schema_dictionary, *schema_pointers[2];
};

struct block {
    struct payload payload;
    VMExternData footer;
};

static size_t freed;

static void free_block(void *raw)
{
    __atomic_fetch_add(&freed, 1, __ATOMIC_RELAXED);
    free(externref_value(raw));
}

static const VMExternVTable vtable = {NULL, sizeof(struct payload), sizeof(void *), "payload", free_block};

static struct block *new_block(void)
{
    struct block *block = (struct block *)calloc(1, sizeof *block);
    if (block == NULL) {
        exit(2);
    }
    block->footer.ref_count = 1;
    block->footer.value_ptr = &block->payload;
    block->footer.vtable = &vtable;
    return block;
}

/* What a thread is given: its tensors, and a count of the block for each. */
struct work {
    struct block *block;
    int thread;
};

static void *delete_tensors(void *arg)
{
    struct work *work = (struct work *)arg;
    struct payload *payload = &work->block->payload;
    for (int i = 0; i < TENSORS; i++) {
        DLManagedTensor *plain = &payload->plain[work->thread][i];
        DLManagedTensorVersioned *versioned = &payload->versioned[work->thread][i];
        plain->deleter(plain);
        versioned->deleter(versioned);
    }
    return NULL;
}

static void share_tensors(void)
{
    struct block *block = new_block();
    struct work work[THREADS];
    pthread_t threads[THREADS];
    for (int thread = 0; thread < THREADS; thread++) {
        for (int i = 0; i < TENSORS; i++) {
            DLManagedTensor *plain = &block->payload.plain[thread][i];
            DLManagedTensorVersioned *versioned = &block->payload.versioned[thread][i];
            plain->manager_ctx = externref_clone(&block->footer);
            plain->deleter = externref_dlpack_deleter;
            versioned->manager_ctx = externref_clone(&block->footer);
            versioned->deleter = externref_dlpack_deleter_versioned;
        }
        work[thread].block = block;
        work[thread].thread = thread;
    }
    notify(externref_clone(&block->footer));
    xDestroy(&block->footer); /* the first count: the tensors own the block now */
    for (int thread = 0; thread < THREADS; thread++) {
        if (pthread_create(&threads[thread], NULL, delete_tensors, &work[thread]) != 0) {
            exit(2);
        }
    }
    for (int thread = 0; thread < THREADS; thread++) {
        pthread_join(threads[thread], NULL);
    }
}

static void own_array(struct ArrowArray *array, struct block *block)
{
    array->n_buffers = 2;
    array->buffers = block->payload.buffers;
    array->private_data = externref_clone(&block->footer);
    array->release = externref_arrow_release_array;
}

static void own_schema(struct ArrowSchema *schema, struct block *block)
{
    schema->format = schema->name = "";
    schema->private_data = externref_clone(&block->footer);
    schema->release = externref_arrow_release_schema;
}

/* An array with two children and a dictionary, each of which owns a count. The second child is
 * moved away, to `moved`, as a consumer may do. */
static void make_array(struct ArrowArray *array, struct ArrowArray *moved, struct block *block)
{
    struct payload *payload = &block->payload;
    own_array(array, block);
    array->n_children = 2;
    array->children = payload->array_pointers;
    for (int i = 0; i < 2; i++) {
        payload->array_pointers[i] = &payload->array_children[i];
        own_array(&payload->array_children[i], block);
    }
    array->dictionary = &payload->array_dictionary;
    own_array(array->dictionary, block);
    *moved = payload->array_children[1];
    payload->array_children[1].release = NULL;
}

static void make_schema(struct ArrowSchema *schema, struct ArrowSchema *moved, struct block *block)
{
    struct payload *payload = &block->payload;
    own_schema(schema, block);
    schema->n_children = 2;
    schema->children = payload->schema_pointers;
    for (int i = 0; i < 2; i++) {
        payload->schema_pointers[i] = &payload->schema_children[i];
        own_schema(&payload->schema_children[i], block);
    }
    schema->dictionary = &payload->schema_dictionary;
    own_schema(schema->dictionary, block);
    *moved = payload->schema_children[1];
    payload->schema_children[1].release = NULL;
}

static void *release_array(void *arg)
{
    struct ArrowArray *array = (struct ArrowArray *)arg;
    array->release(array);
    return NULL;
}

static void *release_schema(void *arg)
{
    struct ArrowSchema *schema = (struct ArrowSchema *)arg;
    schema->release(schema);
    return NULL;
}

/* Each structure is released on a thread of its own. Gives how many of them are marked as released. */
static int share_arrow(void)
{
    struct block *block = new_block();
    struct ArrowArray array = {0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL}, moved_array;
    struct ArrowSchema schema = {NULL, NULL, NULL, 0, 0, NULL, NULL, NULL, NULL}, moved_schema;
    pthread_t threads[4];
    make_array(&array, &moved_array, block);
    make_schema(&schema, &moved_schema, block);
    externref_drop(&block->footer); /* the structures own the block now */
    if (pthread_create(&threads[0], NULL, release_array, &array) != 0 ||
        pthread_create(&threads[1], NULL, release_array, &moved_array) != 0 ||
        pthread_create(&threads[2], NULL, release_schema, &schema) != 0 ||
        pthread_create(&threads[3], NULL, release_schema, &moved_schema) != 0) {
        exit(2);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    return (array.release == NULL) + (moved_array.release == NULL) + (schema.release == NULL) +
           (moved_schema.release == NULL);
}

int main(void)
{
    struct ArrowSchema constant = {"C", "", NULL, 0, 0, NULL, NULL, externref_arrow_release_schema, NULL};
    size_t by_tensors;
    int released = 0;
    for (int i = 0; i < LOOPS; i++) {
        share_tensors();
    }
    by_tensors = freed;
    for (int i = 0; i < LOOPS; i++) {
        released += share_arrow();
    }
    constant.release(&constant); /* owns nothing */
    printf("freed by tensors %zu, by arrays %zu; released %d\n", by_tensors, freed - by_tensors,
           released + (constant.release == NULL));
    return 0;
}
