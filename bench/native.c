/* What compiled code does to a reference, in loops for bench_native.py. native.rs has the
 * same functions. The loops hold the GIL (ctypes.PyDLL). */
#include "externref_api.h"
#include <pthread.h>

/* Hides a variable from the optimizer as std::hint::black_box does: through memory. */
#define BLACK_BOX(variable) __asm__ volatile("" : : "r"(&(variable)) : "memory")

struct payload {
    size_t values[2];
};

static const VMExternVTable *payload_type, *anywhere_type, *quiet_type;
static PyObject *drain;
static size_t dropped;

static void drop_payload(void *value)
{
    dropped += ((const struct payload *)value)->values[0];
}

/* For threads, who would wait for each other to count. */
static void drop_quietly(void *value)
{
    BLACK_BOX(value);
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
    quiet_type =
        externref_type_with("payload", sizeof(struct payload), sizeof(size_t), drop_quietly, EXTERNREF_DROP_ANYWHERE);
    if (payload_type == NULL || anywhere_type == NULL || quiet_type == NULL) {
        return NULL;
    }
    PyObject *module = PyImport_ImportModule("externref");
    drain = module != NULL ? PyObject_GetAttrString(module, "drain") : NULL;
    Py_XDECREF(module);
    return drain != NULL ? Py_NewRef(Py_None) : NULL;
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

/* --- Native threads, without the GIL */

struct share {
    void **words;
    size_t count;
    int (*work)(void *);
    pthread_t thread;
};

static void *work_on_share(void *arg)
{
    const struct share *share = (const struct share *)arg;
    for (size_t i = 0; i < share->count; i++) {
        share->work(share->words[i]);
    }
    return NULL;
}

/* Does the work on `count` words, which are as many shares as there are threads. The caller's GIL is given up meanwhile. */
static void share_out(void **words, size_t count, size_t threads, int (*work)(void *))
{
    struct share shares[8];
    PyThreadState *state = PyEval_SaveThread();
    for (size_t i = 0; i < threads; i++) {
        size_t first = count * i / threads;
        shares[i] = (struct share){words + first, count * (i + 1) / threads - first, work, 0};
        if (pthread_create(&shares[i].thread, NULL, work_on_share, &shares[i]) != 0) {
            abort();
        }
    }
    for (size_t i = 0; i < threads; i++) {
        pthread_join(shares[i].thread, NULL);
    }
    PyEval_RestoreThread(state);
}

static int make_and_drop(void *unused)
{
    void *raw = externref_new_anywhere(quiet_type, init_payload, unused);
    BLACK_BOX(raw);
    externref_drop(raw);
    return 0;
}

static int drop(void *raw)
{
    externref_drop(raw);
    return 0;
}

/* new_drop_anywhere, on threads. */
void new_drop_on_threads(size_t times, size_t threads)
{
    void **words = (void **)calloc(times, sizeof(void *));
    share_out(words, times, threads, make_and_drop);
    free(words);
}

/* References to an object, made here, dropped by threads, and drained here. */
void object_drop_on_threads(size_t times, size_t threads, PyObject *object)
{
    void **words = (void **)calloc(times, sizeof(void *));
    for (size_t i = 0; i < times; i++) {
        words[i] = externref_from_object(object);
    }
    share_out(words, times, threads, drop);
    Py_XDECREF(PyObject_CallNoArgs(drain));
    free(words);
}

/* The same of apache-tvm-ffi's opaque objects, by its own functions. The last count's drop takes the GIL. */
void tvm_drop_on_threads(size_t times, size_t threads, PyObject *object,
                         int (*create)(void *, int32_t, void (*)(void *), void **), int (*release)(void *),
                         void (*drop_object)(void *))
{
    enum { OPAQUE_PY_OBJECT = 74 };
    void **words = (void **)calloc(times, sizeof(void *));
    for (size_t i = 0; i < times; i++) {
        if (create(Py_NewRef(object), OPAQUE_PY_OBJECT, drop_object, &words[i]) != 0) {
            abort();
        }
    }
    share_out(words, times, threads, release);
    free(words);
}
