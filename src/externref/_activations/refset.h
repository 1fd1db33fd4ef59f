/* A set of raw pointers, each with a mark: open addressing, linear probing.
 *
 * A raw pointer is a multiple of the word's size, so the mark is the low bit of its entry. Nothing
 * is ever removed one by one: a sweep makes a new set of what is marked. That is why this is not the
 * set of _core/registry.h, which removes, has no marks, and scatters its addresses otherwise. */
#ifndef EXTERNREF_REFSET_H
#define EXTERNREF_REFSET_H

#include <stdint.h>
#include <stdlib.h>

typedef struct {
    uintptr_t *entries; /* raw pointer and mark; 0 is empty */
    size_t capacity;  /* a power of two, or 0 */
    size_t count;
} RefSet;

/* The raw pointer of an entry. */
static inline void *refset_raw(uintptr_t entry)
{
    return (void *)(entry & ~(uintptr_t)1);
}

static inline int refset_is_marked(uintptr_t entry)
{
    return (int)(entry & 1);
}

/* Where the search for `raw` starts. Blocks that were allocated together stay near one
 * another, a page of addresses to 256 places, and the pages are scattered: sweeping a million
 * entries took six times as long when runs of 32 places were. */
static inline size_t refset_start(const RefSet *set, uintptr_t raw)
{
    uint64_t page = ((uint64_t)raw >> 12) * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)((page >> 24 & ~(uint64_t)255) + (raw >> 4 & 255)) & (set->capacity - 1);
}

/* The entry of `raw`, or the empty one where it belongs. The set has an empty one. */
static inline uintptr_t *refset_find(const RefSet *set, uintptr_t raw)
{
    size_t i = refset_start(set, raw);
    while (set->entries[i] != 0 && refset_raw(set->entries[i]) != (void *)raw) {
        i = (i + 1) & (set->capacity - 1);
    }
    return &set->entries[i];
}

/* Adds `raw`, for which there is room; 0 if it was there already. */
static inline int refset_add(RefSet *set, uintptr_t raw)
{
    uintptr_t *entry = refset_find(set, raw);
    if (*entry != 0) {
        return 0;
    }
    *entry = raw;
    set->count++;
    return 1;
}

/* Whether `word` is in the set; it is marked then. */
static inline int refset_mark(RefSet *set, uintptr_t word)
{
    uintptr_t *entry;
    if (set->count == 0 || word == 0 || word % sizeof(void *) != 0) {
        return 0;
    }
    entry = refset_find(set, word);
    if (*entry == 0) {
        return 0;
    }
    *entry |= 1;
    return 1;
}

#if defined(__GNUC__) || defined(__clang__)
#  define REFSET_ANY_MEMORY __attribute__((noinline, no_sanitize_address, unused))
#else
#  define REFSET_ANY_MEMORY
#endif

/* Marks what the aligned words of this memory name. It may be a stack, with the words
 * between variables that AddressSanitizer forbids. */
REFSET_ANY_MEMORY
static void refset_mark_words(RefSet *set, const void *start, const void *end)
{
    uintptr_t at = ((uintptr_t)start + sizeof(uintptr_t) - 1) & ~(uintptr_t)(sizeof(uintptr_t) - 1);
    for (; at + sizeof(uintptr_t) <= (uintptr_t)end; at += sizeof(uintptr_t)) {
        refset_mark(set, *(const volatile uintptr_t *)at);
    }
}

/* An empty set with room for `count`, in `*set`, whatever that held; -1 if there is no memory. */
static inline int refset_init(RefSet *set, size_t count)
{
    size_t capacity = 64;
    set->entries = NULL;
    set->capacity = set->count = 0;
    if (count > SIZE_MAX / 64) {
        return -1; /* not reached: there is not so much memory */
    }
    while (capacity < 2 * count) {
        capacity *= 2;
    }
    set->entries = (uintptr_t *)calloc(capacity, sizeof(uintptr_t));
    if (set->entries == NULL) {
        return -1;
    }
    set->capacity = capacity;
    return 0;
}

/* Makes room for `more`; -1 if there is no memory, and nothing has changed then. */
static inline int refset_reserve(RefSet *set, size_t more)
{
    RefSet larger;
    size_t i;
    if (set->count + more <= set->capacity / 2) {
        return 0;
    }
    if (refset_init(&larger, set->count + more) != 0) {
        return -1;
    }
    for (i = 0; i < set->capacity; i++) {
        if (set->entries[i] != 0) {
            *refset_find(&larger, (uintptr_t)refset_raw(set->entries[i])) = set->entries[i];
            larger.count++;
        }
    }
    free(set->entries);
    *set = larger;
    return 0;
}

static inline void refset_free(RefSet *set)
{
    free(set->entries);
    set->entries = NULL;
    set->capacity = set->count = 0;
}

#endif /* EXTERNREF_REFSET_H */
