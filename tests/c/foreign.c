/* Compiled code as the tests need it: owners of references on threads that Python has
 * never heard of. Includes externref.h alone, as any such code would. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "externref.h"

#define MAX_THREADS 16

struct hammer {
    void *raw;
    size_t loops;
};

static void *drop_thread(void *raw)
{
    externref_drop(raw);
    return NULL;
}

/* Drops `raw` on a new thread and waits for it. 0, or an errno value. */
int drop_on_thread(void *raw)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, drop_thread, raw);
    return error != 0 ? error : pthread_join(thread, NULL);
}

/* Drops `raw` on a thread that is still starting when this returns. */
int drop_detached(void *raw)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, drop_thread, raw);
    return error != 0 ? error : pthread_detach(thread);
}

static void *hammer_thread(void *arg)
{
    const struct hammer *work = (const struct hammer *)arg;
    for (size_t i = 0; i < work->loops; i++) {
        externref_drop(externref_clone(work->raw));
    }
    externref_drop(work->raw);
    return NULL;
}

/* Every thread owns one count of `raw`, clones and drops it `loops` times, then drops its
 * own. The caller has given them `threads` counts; the last drop may be any thread's. */
int hammer(void *raw, int threads, size_t loops)
{
    pthread_t ids[MAX_THREADS];
    struct hammer work;
    int started = 0, error = 0;
    if (threads > MAX_THREADS) {
        return -1;
    }
    work.raw = raw;
    work.loops = loops;
    while (started < threads && error == 0) {
        error = pthread_create(&ids[started], NULL, hammer_thread, &work);
        started += error == 0;
    }
    for (int i = 0; i < started; i++) {
        pthread_join(ids[i], NULL);
    }
    return error;
}

static void *clone_and_drop_all(void *raw)
{
    for (;;) {
        externref_drop(externref_clone(raw));
    }
    return NULL;
}

/* Clones and drops `raw` on a thread that never ends. The thread owns it. */
int hammer_forever(void *raw)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, clone_and_drop_all, raw);
    return error != 0 ? error : pthread_detach(thread);
}

struct batch {
    void **raws;
    size_t count;
};

static void *drop_batch(void *arg)
{
    struct batch *batch = (struct batch *)arg;
    for (size_t i = 0; i < batch->count; i++) {
        externref_drop(batch->raws[i]);
    }
    return NULL;
}

/* Drops `count` references, one after the other, on a thread of its own. */
int drop_all(void **raws, size_t count)
{
    static struct batch batch;
    pthread_t thread;
    int error;
    batch.raws = raws;
    batch.count = count;
    error = pthread_create(&thread, NULL, drop_batch, &batch);
    return error != 0 ? error : pthread_detach(thread);
}

/* A container: a bounded stack that owns what was moved into it. */
static void *kept[1024];
static size_t kept_count;

int keep(void *raw)
{
    if (kept_count == sizeof kept / sizeof kept[0]) {
        return -1;
    }
    kept[kept_count++] = raw;
    return 0;
}

/* Moves the newest out; NULL if there is none. */
void *take(void)
{
    return kept_count > 0 ? kept[--kept_count] : NULL;
}

void *identity(void *raw)
{
    return raw;
}

/* What the header's inline functions see. */
size_t strong_count(const void *raw)
{
    return externref_strong_count(raw);
}

void *payload(const void *raw)
{
    return *(void **)externref_value(raw);
}

/* For externref.Function: every number of words; void, lent and moved results. */
/* clang-format off */
size_t sum0(void) { return 100; }
size_t sum1(size_t a) { return a; }
size_t sum2(size_t a, size_t b) { return a + 2 * b; }
size_t sum3(size_t a, size_t b, size_t c) { return a + 2 * b + 3 * c; }
size_t sum4(size_t a, size_t b, size_t c, size_t d) { return a + 2 * b + 3 * c + 4 * d; }
size_t sum5(size_t a, size_t b, size_t c, size_t d, size_t e) { return a + 2 * b + 3 * c + 4 * d + 5 * e; }
size_t sum6(size_t a, size_t b, size_t c, size_t d, size_t e, size_t f)
{
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f;
}
size_t sum7(size_t a, size_t b, size_t c, size_t d, size_t e, size_t f, size_t g)
{
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g;
}
size_t sum8(size_t a, size_t b, size_t c, size_t d, size_t e, size_t f, size_t g, size_t h)
{
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h;
}
/* clang-format on */

static size_t recorded;

void record(size_t word)
{
    recorded = word;
}

size_t last_recorded(void)
{
    return recorded;
}

/* Drops the first of two moved references and gives back the second. */
void *second(void *first, void *other)
{
    externref_drop(first);
    return other;
}

/* Lends whatever the newest kept reference is. */
void *peek(void)
{
    return kept_count > 0 ? kept[kept_count - 1] : NULL;
}

void *clone_lent(void *raw)
{
    return externref_clone(raw);
}

/* For attacks on what is in flight. */
static void *the_one;

/* Keeps `raw` in place of what was kept, which it drops; lends it. */
void *replace(void *raw)
{
    void *old = the_one;
    the_one = raw;
    externref_drop(old);
    return raw;
}

/* Sleeps without touching Python while it is lent `raw`; how many owners there were in the end. */
size_t hold_for_ms(void *raw, size_t milliseconds)
{
    struct timespec time = {(time_t)(milliseconds / 1000), (long)(milliseconds % 1000) * 1000000};
    nanosleep(&time, NULL);
    return raw != NULL ? externref_strong_count(raw) : 0;
}

static long hammering;

static void *hammer_until_told(void *raw)
{
    while (__atomic_load_n(&hammering, __ATOMIC_ACQUIRE)) {
        externref_drop(externref_clone(raw));
    }
    return NULL;
}

/* Clones and drops `raw`, which it is lent, on a thread, until stop_hammering(). */
static pthread_t hammer_id;

int start_hammering(void *raw)
{
    __atomic_store_n(&hammering, 1, __ATOMIC_RELEASE);
    return pthread_create(&hammer_id, NULL, hammer_until_told, raw);
}

int stop_hammering(void)
{
    __atomic_store_n(&hammering, 0, __ATOMIC_RELEASE);
    return pthread_join(hammer_id, NULL);
}

/* Gives a count of `raw`, which it was lent, and sets an exception: for who holds the GIL. */
void *give_and_raise(void *raw, void *other, size_t word)
{
    void *(*set_memory_error)(void);
    *(void **)&set_memory_error = dlsym(RTLD_DEFAULT, "PyErr_NoMemory");
    (void)other;
    (void)word;
    set_memory_error();
    return externref_clone(raw);
}

static int do_nothing(void *unused)
{
    (void)unused;
    return 0;
}

/* Drops `count` references, with a pause after each, and fills the interpreter's queue of pending calls: how many had
 * a place there. */
int places_left_by_drops(void **raws, size_t count, size_t microseconds)
{
    struct timespec pause = {0, (long)microseconds * 1000};
    int (*add_pending_call)(int (*)(void *), void *);
    int places = 0;
    *(void **)&add_pending_call = dlsym(RTLD_DEFAULT, "Py_AddPendingCall");
    for (size_t i = 0; i < count; i++) {
        externref_drop(raws[i]);
        nanosleep(&pause, NULL);
    }
    while (places < 1000 && add_pending_call(do_nothing, NULL) == 0) {
        places++;
    }
    return places;
}
