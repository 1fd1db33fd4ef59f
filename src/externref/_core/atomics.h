/* The atomics the host needs beside those of externref.h, for GCC, Clang and MSVC. */
#ifndef EXTERNREF_ATOMICS_H
#define EXTERNREF_ATOMICS_H

#include <stddef.h>

#if defined(_MSC_VER)
#  include <intrin.h>
#endif

/* sequentially consistent */
static inline void *atomic_pointer_load(void **target)
{
#if defined(_MSC_VER)
    return _InterlockedCompareExchangePointer((void *volatile *)target, NULL, NULL);
#else
    return __atomic_load_n(target, __ATOMIC_SEQ_CST);
#endif
}

/* acquire and release; gives the value before */
static inline void *atomic_pointer_swap(void **target, void *value)
{
#if defined(_MSC_VER)
    return _InterlockedExchangePointer((void *volatile *)target, value);
#else
    return __atomic_exchange_n(target, value, __ATOMIC_ACQ_REL);
#endif
}

/* relaxed; of what changes under the GIL alone, for who reads without it */
static inline void atomic_pointer_store(void **target, void *value)
{
#if defined(_MSC_VER)
    *(void *volatile *)target = value;
#else
    __atomic_store_n(target, value, __ATOMIC_RELAXED);
#endif
}

/* sequentially consistent; whether the target still was `expected` and now is `value` */
static inline int atomic_pointer_replace(void **target, void *expected, void *value)
{
#if defined(_MSC_VER)
    return _InterlockedCompareExchangePointer((void *volatile *)target, value, expected) == expected;
#else
    return __atomic_compare_exchange_n(target, &expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
#endif
}

/* relaxed; whether the target still was `expected` and now is `value` */
static inline int atomic_count_replace(size_t *target, size_t expected, size_t value)
{
#if defined(_MSC_VER)
    return (size_t)_InterlockedCompareExchange64((volatile __int64 *)target, (__int64)value, (__int64)expected) ==
           expected;
#else
    return __atomic_compare_exchange_n(target, &expected, value, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
#endif
}

/* relaxed; gives the value before */
static inline size_t atomic_count_add(size_t *target, size_t n)
{
#if defined(_MSC_VER)
    return (size_t)_InterlockedExchangeAdd64((volatile __int64 *)target, (__int64)n);
#else
    return __atomic_fetch_add(target, n, __ATOMIC_RELAXED);
#endif
}

/* relaxed */
static inline size_t atomic_count_load(size_t *target)
{
#if defined(_MSC_VER)
    return *(volatile size_t *)target;
#else
    return __atomic_load_n(target, __ATOMIC_RELAXED);
#endif
}

/* sequentially consistent; gives the value before */
static inline long atomic_flag_swap(long *target, long value)
{
#if defined(_MSC_VER)
    return _InterlockedExchange(target, value);
#else
    return __atomic_exchange_n(target, value, __ATOMIC_SEQ_CST);
#endif
}

/* sequentially consistent */
static inline long atomic_flag_load(long *target)
{
#if defined(_MSC_VER)
    return _InterlockedOr(target, 0);
#else
    return __atomic_load_n(target, __ATOMIC_SEQ_CST);
#endif
}

/* sequentially consistent; whether the target still was `expected` and now is `value` */
static inline int atomic_flag_replace(long *target, long expected, long value)
{
#if defined(_MSC_VER)
    return _InterlockedCompareExchange(target, value, expected) == expected;
#else
    return __atomic_compare_exchange_n(target, &expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
#endif
}

/* sequentially consistent; gives the value after */
static inline long atomic_flag_add(long *target, long value)
{
#if defined(_MSC_VER)
    return _InterlockedExchangeAdd(target, value) + value;
#else
    return __atomic_add_fetch(target, value, __ATOMIC_SEQ_CST);
#endif
}

/* acquire and release; gives the value before */
static inline size_t atomic_count_swap(size_t *target, size_t value)
{
#if defined(_MSC_VER)
    return (size_t)_InterlockedExchange64((volatile __int64 *)target, (__int64)value);
#else
    return __atomic_exchange_n(target, value, __ATOMIC_ACQ_REL);
#endif
}

/* relaxed; a count that no other thread may change meanwhile, so that no locked
 * instruction is needed; other threads may read it */
static inline void atomic_count_store(size_t *target, size_t value)
{
#if defined(_MSC_VER)
    *(volatile size_t *)target = value;
#else
    __atomic_store_n(target, value, __ATOMIC_RELAXED);
#endif
}

#endif /* EXTERNREF_ATOMICS_H */
