/* What compiled code does to a reference, in loops for bench_native.py. native.rs has the
 * same functions. The loops hold the GIL (ctypes.PyDLL). */
#include "externref_api.h"

/* Hides a variable from the optimizer as std::hint::black_box does: through memory. */
#define BLACK_BOX(variable) __asm__ volatile("" : : "r"(&(variable)) : "memory")

struct payload {
    size_t values[2];
};

static const VMExternVTable *payload_type, *anywhere_type;
static size_t dropped;

static void drop_payload(void *value)
{
    dropped += ((const struct payload *)value)->values[0];
}

static int init_payload(void *value, void *ctx)
{
    struct payload *payload = (struct payload *)value;
    payload->values[0] = 1;
    payload->values[1] = (size_t)(uintptr_t)ctx;
    return 0;
}

/* None, or an exception. Once, before all else. */
PyObject *prepare(void)
{
    if (externref_import() != 0) {
        return NULL;
    }
    payload_type = externref_type("payload", sizeof(struct payload), sizeof(size_t), drop_payload);
    anywhere_type =
        externref_type_with("payload", sizeof(struct payload), sizeof(size_t), drop_payload, EXTERNREF_DROP_ANYWHERE);
    return payload_type != NULL && anywhere_type != NULL ? Py_NewRef(Py_None) : NULL;
}

/* How many payloads were dropped, ever. */
size_t drops(void)
{
    return dropped;
}

void clone_drop(size_t times)
{
    void *raw = externref_new_with(payload_type, init_payload, NULL);
    for (size_t i = 0; i < times; i++) {
        void *copy = externref_clone(raw);
        BLACK_BOX(copy);
        externref_drop(copy);
    }
    externref_release(raw);
}

/* A new payload, dropped by who holds the GIL. */
void new_release(size_t times)
{
    for (size_t i = 0; i < times; i++) {
        void *raw = externref_new_with(payload_type, init_payload, NULL);
        BLACK_BOX(raw);
        externref_release(raw);
    }
}

/* A new payload, dropped as compiled code does: the next one's making frees it. */
void new_drop(size_t times)
{
    for (size_t i = 0; i < times; i++) {
        void *raw = externref_new_with(payload_type, init_payload, NULL);
        BLACK_BOX(raw);
        externref_drop(raw);
    }
}

/* The same of a payload whose drop needs no GIL: made and dropped as on any thread. */
void new_drop_anywhere(size_t times)
{
    for (size_t i = 0; i < times; i++) {
        void *raw = externref_new_anywhere(anywhere_type, init_payload, NULL);
        BLACK_BOX(raw);
        externref_drop(raw);
    }
}
