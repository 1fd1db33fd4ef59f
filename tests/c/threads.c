/* Four threads clone and drop one reference, of a type that this program makes itself: no
 * Python anywhere. For ThreadSanitizer, which follows the atomics of externref.h: without
 * the release and the acquire, the last drop's reads race with the owners' writes. C99, C++. */
#include "externref.h"

#include <pthread.h>
#include <stdio.h>

#define THREADS 4
#define LOOPS 50000

struct payload {
    size_t written[THREADS]; /* by each thread, without a lock, while it owns a count */
};

/* As the package lays a block out; aligned by its first member. */
static struct {
    struct payload payload;
    VMExternData footer;
} block;

static size_t slow_drops, seen;

/* The last owner: sees what all others did, and may change it. */
static void drop_slow(void *raw)
{
    struct payload *payload = (struct payload *)externref_value(raw);
    slow_drops++;
    for (int i = 0; i < THREADS; i++) {
        seen += payload->written[i];
        payload->written[i] = 0;
    }
}

static void *own(void *written)
{
    size_t *counter = (size_t *)written;
    void *raw = &block.footer;
    for (int i = 0; i < LOOPS; i++) {
        void *copy = externref_clone(raw);
        ++*counter;
        externref_drop(raw); /* the older count: which one goes must not matter */
        raw = copy;
    }
    externref_drop(raw);
    return NULL;
}

int main(void)
{
    static const VMExternVTable vtable = {NULL, sizeof(struct payload), sizeof(size_t), "payload", drop_slow};
    pthread_t threads[THREADS];
    block.footer.ref_count = THREADS;
    block.footer.value_ptr = &block.payload;
    block.footer.vtable = &vtable;
    for (int i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, own, &block.payload.written[i]) != 0) {
            return 2;
        }
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    printf("count %zu, slow drops %zu, writes seen %zu\n", externref_strong_count(&block.footer), slow_drops, seen);
    return 0;
}
