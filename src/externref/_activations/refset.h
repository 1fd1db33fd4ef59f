/* A set of raw pointers, each with a mark: open addressing, linear probing.
 *
 * A raw pointer is a multiple of eight, so the mark is the low bit of its slot. Nothing is
 * ever removed one by one: a sweep makes a new set of what is marked. */
#ifndef EXTERNREF_REFSET_H
#define EXTERNREF_REFSET_H

#include <stdint.h>
#include <stdlib.h>

typedef struct {
    uintptr_t *slots; /* 0 is empty */
    size_t capacity;  /* a power of two, or 0 */
    size_t count;
} RefSet;

/* Where the search for `raw` starts. Blocks that were allocated together stay near one
 * another, a page of addresses to 256 slots, and the pages are scattered: sweeping a million
 * entries took six times as long when runs of 32 slots were. */
static inline size_t refset_start(const RefSet *set, uintptr_t raw)
{
    uint64_t page = ((uint64_t)raw >> 12) * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)((page >> 24 & ~(uint64_t)255) + (raw >> 4 & 255)) & (set->capacity - 1);
}

/* The slot of `raw`, or the empty one where it belongs. The set has an empty slot. */
static inline uintptr_t *refset_slot(const RefSet *set, uintptr_t raw)
{
    size_t i = refset_start(set, raw);
    while (set->slots[i] != 0 && (set->slots[i] & ~(uintptr_t)1) != raw) {
        i = (i + 1) & (set->capacity - 1);
    }
    return &set->slots[i];
}

/* Adds `raw`, for which there is room; 0 if it was there already. */
static inline int refset_add(RefSet *set, uintptr_t raw)
{
    uintptr_t *slot = refset_slot(set, raw);
    if (*slot != 0) {
        return 0;
    }
    *slot = raw;
    set->count++;
    return 1;
}

/* Whether `word` is in the set; it is marked then. */
static inline int refset_mark(RefSet *set, uintptr_t word)
{
    uintptr_t *slot;
    if (set->count == 0 || word == 0 || word % 8 != 0) {
        return 0;
    }
    slot = refset_slot(set, word);
    if (*slot == 0) {
        return 0;
    }
    *slot |= 1;
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
    set->slots = NULL;
    set->capacity = set->count = 0;
    if (count > SIZE_MAX / 64) {
        return -1;
    }
    while (capacity < 2 * count) {
        capacity *= 2;
    }
    set->slots = (uintptr_t *)calloc(capacity, sizeof(uintptr_t));
    if (set->slots == NULL) {
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
        if (set->slots[i] != 0) {
            uintptr_t raw = set->slots[i] & ~(uintptr_t)1;
            *refset_slot(&larger, raw) = set->slots[i];
            larger.count++;
        }
    }
    free(set->slots);
    *set = larger;
    return 0;
}

static inline void refset_free(RefSet *set)
{
    free(set->slots);
    set->slots = NULL;
    set->capacity = set->count = 0;
}

#endif /* EXTERNREF_REFSET_H */
