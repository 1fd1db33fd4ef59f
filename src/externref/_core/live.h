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
    size_t blocks;  /* allocated and not yet freed */
    size_t handles; /* of all of them */
    size_t exposed; /* blocks that are lent */
    char apart[128 - 3 * sizeof(size_t)]; /* no two in a cache line, nor in a pair that is fetched together */
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
static inline void live_add(Live *stripe, size_t offset, size_t n)
{
    size_t *count = (size_t *)((char *)stripe + offset);
    if (stripe < &live_stripes[LIVE_OWN]) {
        atomic_count_store(count, EXTERNREF_ACQUIRE(count) + n);
    }
    else {
        atomic_count_add(count, n);
    }
}

static Py_ssize_t live_total(size_t offset)
{
    size_t sum = 0;
    for (int i = 0; i < LIVE_STRIPES; i++) {
        sum += EXTERNREF_ACQUIRE((size_t *)((char *)&live_stripes[i] + offset));
    }
    return (Py_ssize_t)sum;
}

#ifndef Py_GIL_DISABLED
static Live live;
#  define LIVE_ADD(field, n) ((void)(live.field += (size_t)(n)))
#  define LIVE_SUM(field) ((Py_ssize_t)live.field + live_total(offsetof(Live, field)))
#else
#  define LIVE_ADD(field, n) live_add(live_stripe(), offsetof(Live, field), (size_t)(n))
#  define LIVE_SUM(field) live_total(offsetof(Live, field))
#endif

static inline void live_blocks_add(Py_ssize_t n)
{
    LIVE_ADD(blocks, n);
}

/* Without the GIL; `stripe` is this thread's. */
static inline void live_blocks_add_anywhere(Live *stripe, Py_ssize_t n)
{
    live_add(stripe, offsetof(Live, blocks), (size_t)n);
}

static inline void live_handles_add(Py_ssize_t n)
{
    LIVE_ADD(handles, n);
}

static inline void live_exposed_add(Py_ssize_t n)
{
    LIVE_ADD(exposed, n);
}

/* Of what other threads change while it is added up some may be missing: not below nothing. */
static inline Py_ssize_t live_least(Py_ssize_t sum)
{
    return sum > 0 ? sum : 0;
}

static inline Py_ssize_t live_blocks(void)
{
    return live_least(LIVE_SUM(blocks));
}

static inline Py_ssize_t live_handles(void)
{
    return live_least(LIVE_SUM(handles));
}

static inline Py_ssize_t live_exposed(void)
{
    return live_least(LIVE_SUM(exposed));
}

#endif /* EXTERNREF_LIVE_H */
