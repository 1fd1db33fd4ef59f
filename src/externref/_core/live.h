/* The counts of Stats.
 *
 * What changes without a GIL is in stripes: a counter that all threads change would make two threads slower than one.
 * The first threads have a stripe each, which no locked instruction changes; those that come later share the others.
 * With a GIL one more is its holder's. Sums are exact when no other thread counts. */
#ifndef EXTERNREF_LIVE_H
#define EXTERNREF_LIVE_H

#include <Python.h>
#include "atomics.h"
#include "thread_local.h"

typedef struct {
    size_t made;    /* blocks, ever */
    size_t freed;   /* of them */
    size_t handles; /* of all blocks */
    size_t exposed; /* blocks that are lent */
    char apart[128 - 4 * sizeof(size_t)]; /* no two in a cache line, nor in a pair that is fetched together */
} Live; /* of a stripe: parts of sums, which may be negative, and wrap */

#define LIVE_OWN 64 /* stripes of one thread each */
#define LIVE_SHARED 64
#define LIVE_STRIPES (LIVE_OWN + LIVE_SHARED)

static Live live_stripes[LIVE_STRIPES];
static long live_threads; /* atomic: that ever counted */

/* This thread's. */
static Live *live_stripe(void)
{
    static EXTERNREF_THREAD_LOCAL Live *stripe;
    if (stripe == NULL) {
        unsigned long thread = (unsigned long)atomic_flag_add(&live_threads, 1) - 1;
        stripe = &live_stripes[thread < LIVE_OWN ? thread : LIVE_OWN + thread % LIVE_SHARED];
    }
    return stripe;
}

/* A payload made and dropped anywhere takes 1.3 times as long with two locked instructions here. */
static inline void live_add(size_t offset, size_t n)
{
    Live *stripe = live_stripe();
    size_t *count = (size_t *)((char *)stripe + offset);
    if (stripe < &live_stripes[LIVE_OWN]) {
        atomic_count_store(count, EXTERNREF_ACQUIRE(count) + n);
    }
    else {
        atomic_count_add(count, n);
    }
}

static size_t live_total(size_t offset)
{
    size_t sum = 0;
    for (int i = 0; i < LIVE_STRIPES; i++) {
        sum += EXTERNREF_ACQUIRE((size_t *)((char *)&live_stripes[i] + offset));
    }
    return sum;
}

#define LIVE_ADD_ANYWHERE(field, n) live_add(offsetof(Live, field), (size_t)(n))
#define LIVE_SUM_ANYWHERE(field) live_total(offsetof(Live, field))

static Live live; /* the holder of the GIL's; where there is none it stays nothing */

#ifndef Py_GIL_DISABLED
#  define LIVE_ADD(field, n) ((void)(live.field += (size_t)(n)))
#  define LIVE_SUM(field) (live.field)
#else
#  define LIVE_ADD(field, n) LIVE_ADD_ANYWHERE(field, n)
#  define LIVE_SUM(field) LIVE_SUM_ANYWHERE(field)
#endif

static inline void live_made(void)
{
    LIVE_ADD(made, 1);
}

static inline void live_freed(void)
{
    LIVE_ADD(freed, 1);
}

/* The same of a block that is made, or freed, without the GIL. */
static inline void live_made_anywhere(void)
{
    LIVE_ADD_ANYWHERE(made, 1);
}

static inline void live_freed_anywhere(void)
{
    LIVE_ADD_ANYWHERE(freed, 1);
}

static inline void live_handles_add(Py_ssize_t n)
{
    LIVE_ADD(handles, n);
}

static inline void live_exposed_add(Py_ssize_t n)
{
    LIVE_ADD(exposed, n);
}

static inline Py_ssize_t live_blocks(void)
{
    /* Those that are freed first: of what other threads make and free meanwhile, none is freed and not yet made. */
    size_t freed = live.freed + LIVE_SUM_ANYWHERE(freed);
    return (Py_ssize_t)(live.made + LIVE_SUM_ANYWHERE(made) - freed);
}

static inline Py_ssize_t live_handles(void)
{
    return (Py_ssize_t)LIVE_SUM(handles);
}

static inline Py_ssize_t live_exposed(void)
{
    return (Py_ssize_t)LIVE_SUM(exposed);
}

#endif /* EXTERNREF_LIVE_H */
