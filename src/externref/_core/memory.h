/* Aligned blocks from the C library, behind one pair of functions. */
#ifndef EXTERNREF_MEMORY_H
#define EXTERNREF_MEMORY_H

#include <stdlib.h>
#if defined(_WIN32)
#  include <malloc.h>
#endif

/* `align` is a power of two and at least that of a pointer, as posix_memalign asks. `size` need be no multiple of it: C11
 * asks that of aligned_alloc, and the sanitizers' allocators refuse what is none. NULL on failure. */
static inline void *externref_aligned_alloc_any(size_t align, size_t size)
{
#if defined(_WIN32)
    return _aligned_malloc(size, align);
#else
    void *block = NULL;
    return posix_memalign(&block, align, size) == 0 ? block : NULL;
#endif
}

/* The same; `size` is a multiple of `align`. */
static inline void *externref_aligned_alloc(size_t align, size_t size)
{
#if defined(_WIN32) || defined(__APPLE__) /* whose aligned_alloc came late (10.15) */
    return externref_aligned_alloc_any(align, size);
#else
    return aligned_alloc(align, size);
#endif
}

static inline void externref_aligned_free(void *block)
{
#if defined(_WIN32)
    _aligned_free(block);
#else
    free(block);
#endif
}

/* How many dead references are kept for the next; 0: blocks and wrappers are not in slabs, either.
 * None where a sanitizer is to see every use after free, nor where no GIL guards the lists: there an allocator
 * with a heap for each thread is CPython's own, and a dead object may not be revived. */
#if defined(__SANITIZE_ADDRESS__) || defined(EXTERNREF_NO_FREE_LISTS) || defined(Py_GIL_DISABLED)
#  define EXTERNREF_FREE_LIST_LIMIT 0
#elif defined(__has_feature)
#  if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#    define EXTERNREF_FREE_LIST_LIMIT 0
#  endif
#endif
#ifndef EXTERNREF_FREE_LIST_LIMIT
#  define EXTERNREF_FREE_LIST_LIMIT 256
#endif

#endif /* EXTERNREF_MEMORY_H */
