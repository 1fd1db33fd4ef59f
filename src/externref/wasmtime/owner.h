/* owner.h: the thread that uses a store now, in operations one inside another.
 *
 * With a GIL these are plain counting. Without one, `thread` is 0 while nobody uses the store, and who claims it does so
 * by a compare-and-swap; `depth` is the owner's alone to read and change, as is most of what we know of a store. */
#ifndef EXTERNREF_WASMTIME_OWNER_H
#define EXTERNREF_WASMTIME_OWNER_H

#include <Python.h>
#include "_core/locks.h"

typedef struct {
    Py_ssize_t depth;     /* operations in progress */
    unsigned long thread; /* whose they are */
} Owner;

#ifndef Py_GIL_DISABLED

static inline int owner_is(const Owner *owner, unsigned long thread)
{
    return owner->depth != 0 && owner->thread == thread;
}

/* Begins an operation; whether no other thread has one in progress. */
static inline int owner_claim(Owner *owner, unsigned long thread)
{
    if (owner->depth != 0 && owner->thread != thread) {
        return 0;
    }
    owner->thread = thread;
    owner->depth++;
    return 1;
}

static inline void owner_release(Owner *owner)
{
    owner->depth--;
}

/* The same, if there is none in progress, not this thread's either. */
static inline int owner_claim_to_close(Owner *owner)
{
    return owner->depth == 0 && owner_claim(owner, 0);
}

/* Whether a thread has done that: not while it has the GIL. */
static inline int owner_closes(const Owner *owner)
{
    (void)owner;
    return 0;
}

#else /* Py_GIL_DISABLED */

#  define OWNER_CLOSES 1 /* no thread's number */

static inline int owner_is(const Owner *owner, unsigned long thread)
{
    return __atomic_load_n(&owner->thread, __ATOMIC_RELAXED) == thread; /* only it writes its own number there */
}

static inline int owner_claim(Owner *owner, unsigned long thread)
{
    unsigned long nobody = 0;
    if (!owner_is(owner, thread) &&
        !__atomic_compare_exchange_n(&owner->thread, &nobody, thread, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        return 0;
    }
    owner->depth++;
    return 1;
}

static inline int owner_claim_to_close(Owner *owner)
{
    unsigned long nobody = 0;
    if (!__atomic_compare_exchange_n(&owner->thread, &nobody, OWNER_CLOSES, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        return 0;
    }
    owner->depth = 1;
    return 1;
}

static inline int owner_closes(const Owner *owner)
{
    /* Who reads that nobody does any more sees what was done. */
    return __atomic_load_n(&owner->thread, __ATOMIC_ACQUIRE) == OWNER_CLOSES;
}

static inline void owner_release(Owner *owner)
{
    if (--owner->depth == 0) {
        __atomic_store_n(&owner->thread, 0, __ATOMIC_RELEASE);
    }
}

#endif /* Py_GIL_DISABLED */

/* Compiled code comes out, on the thread that went in. That had to claim the store; who went in by a way that we do not
 * see claims it here. */
static inline void owner_come_out(Owner *owner, unsigned long thread)
{
    slot_store(&owner->thread, thread);
    owner->depth++;
}

#endif /* EXTERNREF_WASMTIME_OWNER_H */
