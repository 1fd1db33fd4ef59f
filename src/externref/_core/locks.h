/* What guards the package's own data: the GIL, or in builds without one (Py_GIL_DISABLED) locks and atomics.
 *
 * Each operation here is nothing, or a plain one, where there is a GIL; what uses them is written once. Who
 * guards what, and in which order locks are taken, is in docs/architecture.md.
 *
 *   Section    a critical section of one or two objects, CPython's: around each use of a wrapper's _data
 *   Lock       a global list's or table's: for a few instructions, never over what runs Python code
 *   block_*    the lock of a block, a bit of its host word: round each change of `handles` and `state`
 *
 * Lock and block_lock spin, and are not PyMutex, which detaches the thread that waits: the critical sections that
 * it is in would end meanwhile, and with them what keeps the block. Nobody detaches, or waits for a section, that has
 * one of them: so whoever waits, waits for a thread that runs, also while CPython stops the world. */
#ifndef EXTERNREF_LOCKS_H
#define EXTERNREF_LOCKS_H

#include <Python.h>
#include "externref.h"
#include "atomics.h"

#ifndef Py_GIL_DISABLED

#  define EXTERNREF_FREE_THREADED 0

typedef char Section;
typedef char Section2;
typedef char Lock;

#  define section_begin(section, op) ((void)(section))
#  define section_end(section) ((void)(section))
#  define section2_begin(section, left, right) ((void)(section))
#  define section2_end(section) ((void)(section))
#  define lock_take(lock) ((void)(lock))
#  define lock_release(lock) ((void)(lock))
#  define block_lock(data) ((void)(data))
#  define block_unlock(data) ((void)(data))
#  define block_settle(data) ((void)(data))
#  define state_add(data, n) ((void)((data)->state += (uint32_t)(n)))
#  define state_set(data, bits) ((void)((data)->state |= (bits)))
#  define state_load(data) ((data)->state)
#  define is_shared(op) (Py_REFCNT(op) > 1)
#  define slot_load(slot) (*(slot))
#  define slot_store(slot, value) ((void)(*(slot) = (value)))

/* Takes the only count there is from a block, which is to be freed then; whether it was the only one. */
static inline int take_only_count(VMExternData *data)
{
    return EXTERNREF_ACQUIRE(&data->ref_count) == 1; /* nobody looks at it before the free */
}

#else /* Py_GIL_DISABLED */

#  if !defined(_WIN32)
#    include <sched.h>
#  endif

#  define EXTERNREF_FREE_THREADED 1

typedef PyCriticalSection Section;
typedef PyCriticalSection2 Section2;
typedef uint32_t Lock;

#  define section_begin(section, op) PyCriticalSection_Begin(section, op)
#  define section_end(section) PyCriticalSection_End(section)
#  define section2_begin(section, left, right) PyCriticalSection2_Begin(section, left, right)
#  define section2_end(section) PyCriticalSection2_End(section)

#  define LOCK_SPINS 64

static inline void lock_pause(int *spins)
{
    if (++*spins >= LOCK_SPINS) { /* its owner does not run, perhaps */
#  if defined(_WIN32)
        SwitchToThread();
#  else
        sched_yield();
#  endif
    }
}

/* One bit of a word is the lock; the other bits change by atomic operations alone, so that none is lost. */
static inline void lock_bit(uint32_t *word, uint32_t bit)
{
    int spins = 0;
    while (__atomic_fetch_or(word, bit, __ATOMIC_ACQUIRE) & bit) {
        while (__atomic_load_n(word, __ATOMIC_RELAXED) & bit) {
            lock_pause(&spins);
        }
    }
}

static inline void unlock_bit(uint32_t *word, uint32_t bit)
{
    __atomic_fetch_and(word, ~bit, __ATOMIC_RELEASE);
}

#  define lock_take(lock) lock_bit(lock, 1)
#  define lock_release(lock) unlock_bit(lock, 1)

/* The lowest of the bits of `state` that externref.h leaves to a lock. */
#  define STATE_LOCKED 0x01000000u

static inline void block_lock(VMExternData *data)
{
    lock_bit(&data->state, STATE_LOCKED);
}

static inline void block_unlock(VMExternData *data)
{
    unlock_bit(&data->state, STATE_LOCKED);
}

/* Before a free. The count is zero, so nobody else will take the lock; but who had it when the count came down, and
 * gave up one that was not the last, may still be about to unlock. */
static inline void block_settle(VMExternData *data)
{
    int spins = 0;
    while (__atomic_load_n(&data->state, __ATOMIC_ACQUIRE) & STATE_LOCKED) {
        lock_pause(&spins);
    }
}

#  define state_add(data, n) ((void)__atomic_fetch_add(&(data)->state, (uint32_t)(n), __ATOMIC_RELAXED))
#  define state_set(data, bits) ((void)__atomic_fetch_or(&(data)->state, (bits), __ATOMIC_RELAXED))
#  define state_load(data) __atomic_load_n(&(data)->state, __ATOMIC_RELAXED)

/* Whether there are surely other references. Others come and go on other threads: nobody can tell. */
#  define is_shared(op) ((void)(op), 0)

/* What changes in an object's section, for who reads it outside. */
#  define slot_load(slot) __atomic_load_n(slot, __ATOMIC_RELAXED)
#  define slot_store(slot, value) __atomic_store_n(slot, value, __ATOMIC_RELAXED)

/* As above; but others may look at it until it is freed. */
static inline int take_only_count(VMExternData *data)
{
    size_t one = 1;
    return EXTERNREF_ACQUIRE(&data->ref_count) == 1 &&
           __atomic_compare_exchange_n(&data->ref_count, &one, 0, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

#endif /* Py_GIL_DISABLED */

#endif /* EXTERNREF_LOCKS_H */
