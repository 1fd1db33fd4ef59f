/* The counts of Stats.
 *
 * Without a GIL they are in stripes, each thread's its own while there are no more threads than stripes: a counter
 * that all threads change would make two threads slower than one. Their sums are exact when no other thread counts. */
#ifndef EXTERNREF_LIVE_H
#define EXTERNREF_LIVE_H

#include <Python.h>
#include "atomics.h"

typedef struct {
    Py_ssize_t blocks;  /* allocated and not yet freed */
    Py_ssize_t handles; /* of all of them */
    Py_ssize_t exposed; /* blocks that are lent */
#ifdef Py_GIL_DISABLED
    char apart[128 - 3 * sizeof(Py_ssize_t)]; /* no two in a cache line, nor in a pair that is fetched together */
#endif
} Live;

#ifndef Py_GIL_DISABLED

static Live live;

#  define LIVE_ADD(field, n) ((void)(live.field += (n)))
#  define LIVE_SUM(field) (live.field)

#else

#  define LIVE_STRIPES 64

static Live live_stripes[LIVE_STRIPES];
static long live_threads; /* atomic: that ever counted */

static Live *live_stripe(void)
{
#  if defined(_MSC_VER)
    static __declspec(thread) Live *stripe;
#  else
    static __thread Live *stripe;
#  endif
    if (stripe == NULL) {
        stripe = &live_stripes[(unsigned long)atomic_flag_add(&live_threads, 1) % LIVE_STRIPES];
    }
    return stripe;
}

static Py_ssize_t live_total(size_t offset)
{
    Py_ssize_t sum = 0;
    for (int i = 0; i < LIVE_STRIPES; i++) {
        sum += __atomic_load_n((Py_ssize_t *)((char *)&live_stripes[i] + offset), __ATOMIC_RELAXED);
    }
    return sum;
}

#  define LIVE_ADD(field, n) ((void)__atomic_fetch_add(&live_stripe()->field, (n), __ATOMIC_RELAXED))
#  define LIVE_SUM(field) live_total(offsetof(Live, field))

#endif

static inline void live_blocks_add(Py_ssize_t n)
{
    LIVE_ADD(blocks, n);
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
    return LIVE_SUM(blocks);
}

static inline Py_ssize_t live_handles(void)
{
    return LIVE_SUM(handles);
}

static inline Py_ssize_t live_exposed(void)
{
    return LIVE_SUM(exposed);
}

#endif /* EXTERNREF_LIVE_H */
