/* externref.h: what compiled code needs to hold, copy and drop a VMExternRef.
 *
 * A VMExternRef is one machine word: the address of a footer, `VMExternData`,
 * that ends a heap allocation whose start is the payload.
 *
 *   lowest address                                                     highest
 *   +----------------------------+-----------+-----------+--------+-----------+
 *   | payload (size, align of T) | ref_count | value_ptr | vtable | host word |
 *   | PyObject * for Python      | word      | word      | word   | 8 bytes   |
 *   +----------------------------+-----------+-----------+--------+-----------+
 *   ^                            ^ raw pointer
 *   '----------- value_ptr ------'
 *
 * The contract for compiled code
 *   - A raw pointer is NULL (Python's None) or the address of a live footer.
 *   - Who holds a raw pointer owns one count of `ref_count`, or was lent the
 *     pointer by an owner that outlives the use.
 *   - To copy: add one to `ref_count`, atomically. To drop: subtract one,
 *     atomically; whoever takes it to zero calls `vtable->drop_slow(raw)` and
 *     never touches the pointer again.
 *   - Both may be done on any thread, with or without Python's GIL.
 *   - `value_ptr` and `vtable` are read-only, the host word is not to be read.
 * Broken, the contract frees memory that is still in use, or leaks it: nothing
 * checks compiled code.
 *
 * C99 and C++; needs no Python.h. This file is the only place that states the
 * layout: externref.abi and _core.pyx read it from here. */
#ifndef EXTERNREF_H
#define EXTERNREF_H

#include <stddef.h>
#include <stdint.h>

/* Raised whenever an offset, a field's meaning or a signature below changes. */
#define EXTERNREF_ABI_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif

/* What is known of a payload's type: the other half of Rust's `dyn Any`. One
 * constant per type, alive for as long as any block of the type. */
typedef struct VMExternVTable {
    /* Drops the payload at `value`, without freeing the block. NULL if there is
     * nothing to do. Called once, by a thread that holds the GIL, unless the type is
     * one that needs none (EXTERNREF_DROP_ANYWHERE in externref_api.h). */
    void (*drop_in_place)(void *value);
    size_t size;           /* of the payload, bytes */
    size_t align;          /* of the payload, bytes; a power of two */
    const char *type_name; /* UTF-8; shown in repr() and in errors */
    /* What to call, with the raw pointer, after taking `ref_count` to zero. Any
     * thread, no GIL; runs no Python code and takes no lock Python code holds:
     * the free happens later, under the GIL, or here if the payload needs none.
     * JIT code finds it here and so needs no symbol to link to. */
    void (*drop_slow)(void *raw);
} VMExternVTable;

typedef struct VMExternData {
    /* Counts every owner, compiled or Python. Written by compiled code and by
     * the host, with atomics only. At offset 0, so that the raw pointer is the
     * address of the count. */
    size_t ref_count;
    /* The payload, which is the start of the allocation. Written once by the
     * host; a dead block awaiting its free is linked to the next one through it. */
    void *value_ptr;
    const VMExternVTable *vtable;
    /* The host word: for the holder of the GIL only, never for compiled code, and so no
     * part of the ABI but in its size. `handles` is how many counts the package owns: those
     * of its wrappers and its holds. */
    uint32_t handles;
    uint32_t state; /* see EXTERNREF_STATE_LENDS and its like */
} VMExternData;

/* The parts of `state`. The block is lent while LENDS, how many holds there are whose pointer
 * counting code can see, or EXPOSED, lent for good by as_raw(), is not zero. REGISTERED: the
 * address is in the set of those that were handed out. The top eight bits are zero: a lock's,
 * in builds without a GIL. */
#define EXTERNREF_STATE_LENDS 0x003fffffu
#define EXTERNREF_STATE_EXPOSED 0x00400000u
#define EXTERNREF_STATE_REGISTERED 0x00800000u

/* Offsets in bytes, for code generators (in Python: externref.abi). */
#define EXTERNREF_REF_COUNT_OFFSET offsetof(VMExternData, ref_count)
#define EXTERNREF_VALUE_PTR_OFFSET offsetof(VMExternData, value_ptr)
#define EXTERNREF_VTABLE_OFFSET offsetof(VMExternData, vtable)
#define EXTERNREF_DROP_SLOW_OFFSET offsetof(VMExternVTable, drop_slow)

/* Compiled code has these numbers built in: a change fails here, and is a new
 * EXTERNREF_ABI_VERSION. */
#define EXTERNREF_CHECK(name, condition) typedef char externref_check_##name[(condition) ? 1 : -1]
EXTERNREF_CHECK(count_is_a_word, sizeof(size_t) == sizeof(void *));
EXTERNREF_CHECK(ref_count_offset, EXTERNREF_REF_COUNT_OFFSET == 0);
EXTERNREF_CHECK(value_ptr_offset, EXTERNREF_VALUE_PTR_OFFSET == sizeof(void *));
EXTERNREF_CHECK(vtable_offset, EXTERNREF_VTABLE_OFFSET == 2 * sizeof(void *));
EXTERNREF_CHECK(footer_size, sizeof(VMExternData) == 3 * sizeof(void *) + 8);
EXTERNREF_CHECK(size_offset, offsetof(VMExternVTable, size) == sizeof(void *));
EXTERNREF_CHECK(align_offset, offsetof(VMExternVTable, align) == 2 * sizeof(void *));
EXTERNREF_CHECK(type_name_offset, offsetof(VMExternVTable, type_name) == 3 * sizeof(void *));
EXTERNREF_CHECK(drop_slow_offset, EXTERNREF_DROP_SLOW_OFFSET == 4 * sizeof(void *));
#undef EXTERNREF_CHECK

/* The few atomics of the protocol, on a `size_t`.
 *   increment  relaxed: a new count is always made from one already owned, which
 *              keeps the block alive; nothing else is published by it.
 *   decrement  release: what this owner did with the payload happens before the
 *              free. Gives the value before.
 *   acquire    load that pairs with those releases, before the free. A load and
 *              not a fence: the same instruction on x86-64, and ThreadSanitizer
 *              does not understand fences. */
#if defined(__GNUC__) || defined(__clang__)
#  define EXTERNREF_INCREMENT(count) ((void)__atomic_fetch_add((count), 1, __ATOMIC_RELAXED))
#  define EXTERNREF_DECREMENT(count) __atomic_fetch_sub((count), 1, __ATOMIC_RELEASE)
#  define EXTERNREF_ACQUIRE(count) __atomic_load_n((count), __ATOMIC_ACQUIRE)
#elif defined(_MSC_VER) && defined(_WIN64)
#  include <intrin.h>
#  define EXTERNREF_INCREMENT(count) ((void)_InterlockedIncrement64((volatile __int64 *)(count)))
#  define EXTERNREF_DECREMENT(count) ((size_t)_InterlockedDecrement64((volatile __int64 *)(count)) + 1)
#  define EXTERNREF_ACQUIRE(count) ((size_t)_InterlockedOr64((volatile __int64 *)(count), 0))
#else
#  error "externref.h: no atomics known for this compiler; add its increment, decrement and acquire here"
#endif

/* Where the footer is in a block whose payload has `size` bytes: right after it, rounded
 * up to the footer's alignment. `size` is at most SIZE_MAX - sizeof(void *). */
static inline size_t externref_footer_offset(size_t size)
{
    return (size + (sizeof(void *) - 1)) & ~(sizeof(void *) - 1);
}

/* Copies a reference: the result is a second owner. Returns `raw`; NULL stays NULL. */
static inline void *externref_clone(void *raw)
{
    if (raw != NULL) {
        EXTERNREF_INCREMENT(&((VMExternData *)raw)->ref_count);
    }
    return raw;
}

/* Gives up one owner. NULL is ignored. */
static inline void externref_drop(void *raw)
{
    VMExternData *data = (VMExternData *)raw;
    if (data != NULL && EXTERNREF_DECREMENT(&data->ref_count) == 1) {
        (void)EXTERNREF_ACQUIRE(&data->ref_count);
        data->vtable->drop_slow(raw);
    }
}

/* How many owners there are: exact when no other thread changes the count. */
static inline size_t externref_strong_count(const void *raw)
{
    return EXTERNREF_ACQUIRE(&((VMExternData *)(uintptr_t)raw)->ref_count);
}

/* The address of the payload; lent for as long as the caller owns `raw`. */
static inline void *externref_value(const void *raw)
{
    return ((const VMExternData *)raw)->value_ptr;
}

#ifdef __cplusplus
}
#endif

#endif /* EXTERNREF_H */
