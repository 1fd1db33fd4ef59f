/* The set of raw pointers that were handed out and whose block still exists.
 *
 * from_raw() and clone_from_raw() look an address up here before they read a byte
 * behind it, so that a made-up, stale or misremembered integer is an exception and
 * not a crash. Blocks that never hand out a pointer never get here.
 *
 * Open addressing with linear probing; a removal shifts the cluster back, so there
 * are no tombstones. Every function needs the GIL, which is its lock, or in builds without one
 * registry_lock(): who looks an address up has it until the block has an owner more, and who frees
 * a block takes the address out first. There are several sets then, so that threads seldom meet. */
#ifndef EXTERNREF_REGISTRY_H
#define EXTERNREF_REGISTRY_H

#include <Python.h>
#include <stdint.h>
#include "locks.h"

#define REGISTRY_MIN_BITS 6

typedef struct {
    uintptr_t *entries; /* 0: empty */
    unsigned bits;    /* there are 2**bits entries; meaningless while entries is NULL */
    size_t used;
#ifdef Py_GIL_DISABLED
    Lock lock;
#endif
} Registry;

#ifdef Py_GIL_DISABLED
#  define REGISTRIES 64
#  define registry_take(set) lock_take(&(set)->lock)
#  define registry_give(set) lock_release(&(set)->lock)
#else
#  define REGISTRIES 1
#  define registry_take(set) ((void)(set))
#  define registry_give(set) ((void)(set))
#endif

static Registry registries[REGISTRIES];

/* By bits that vary from block to block, and not those that registry_home() begins with. */
static inline Registry *registry_of(uintptr_t address)
{
    return &registries[(address >> 4 ^ address >> 10 ^ address >> 16) % REGISTRIES];
}

static inline void registry_lock(uintptr_t address)
{
    registry_take(registry_of(address));
}

static inline void registry_unlock(uintptr_t address)
{
    registry_give(registry_of(address));
}

static inline size_t registry_home(uintptr_t address, unsigned bits)
{
    /* Blocks that lie side by side do so here, too; where each 512 bytes of memory begin is mixed well: by one
     * multiplication, or with longer stretches, the blocks of slabs that lie evenly spaced would make long clusters. */
    uint64_t mixed = (uint64_t)(address >> 9) * UINT64_C(0x9E3779B97F4A7C15);
    mixed = (mixed ^ mixed >> 32) * UINT64_C(0x9E3779B97F4A7C15);
    return ((size_t)(mixed >> (64 - bits)) + (address >> 3 & 63)) & (((size_t)1 << bits) - 1);
}

/* The entry that holds `address`, or the empty one where it would go. */
static inline size_t registry_find(const uintptr_t *entries, unsigned bits, uintptr_t address)
{
    size_t mask = ((size_t)1 << bits) - 1;
    size_t i = registry_home(address, bits);
    while (entries[i] != 0 && entries[i] != address) {
        i = (i + 1) & mask;
    }
    return i;
}

static int registry_contains(uintptr_t address)
{
    const Registry *set = registry_of(address);
    return set->entries != NULL && set->entries[registry_find(set->entries, set->bits, address)] == address;
}

/* 0, or -1 without a change if memory is short. */
static int registry_resize(Registry *set, unsigned bits)
{
    size_t old_size = set->entries != NULL ? (size_t)1 << set->bits : 0;
    uintptr_t *entries = (uintptr_t *)PyMem_RawCalloc((size_t)1 << bits, sizeof(uintptr_t));
    if (entries == NULL) {
        return -1;
    }
    for (size_t i = 0; i < old_size; i++) {
        if (set->entries[i] != 0) {
            entries[registry_find(entries, bits, set->entries[i])] = set->entries[i];
        }
    }
    PyMem_RawFree(set->entries);
    set->entries = entries;
    set->bits = bits;
    return 0;
}

/* Adds an address that is not in the set. 0, or -1 without a change if memory is short. */
static int registry_add(uintptr_t address)
{
    Registry *set = registry_of(address);
    if (set->entries == NULL) {
        if (registry_resize(set, REGISTRY_MIN_BITS) != 0) {
            return -1;
        }
    }
    else if (set->used >= (size_t)1 << (set->bits - 1)) { /* at most half full */
        if (registry_resize(set, set->bits + 1) != 0) {
            return -1;
        }
    }
    set->entries[registry_find(set->entries, set->bits, address)] = address;
    set->used++;
    return 0;
}

/* Removes an address that is in the set. */
static void registry_remove(uintptr_t address)
{
    Registry *set = registry_of(address);
    size_t mask = ((size_t)1 << set->bits) - 1;
    size_t hole = registry_find(set->entries, set->bits, address);
    for (size_t i = (hole + 1) & mask; set->entries[i] != 0; i = (i + 1) & mask) {
        /* Whoever was pushed past the hole by its cluster moves back into it. */
        size_t home = registry_home(set->entries[i], set->bits);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            set->entries[hole] = set->entries[i];
            hole = i;
        }
    }
    set->entries[hole] = 0;
    set->used--;
}

/* Calls look() with each address that is in the set, and what keeps its block meanwhile. */
static void registry_each(void (*look)(uintptr_t address, void *context), void *context)
{
    for (size_t i = 0; i < REGISTRIES; i++) {
        const Registry *set = &registries[i];
        registry_take(&registries[i]);
        for (size_t j = 0; set->entries != NULL && j < (size_t)1 << set->bits; j++) {
            if (set->entries[j] != 0) {
                look(set->entries[j], context);
            }
        }
        registry_give(&registries[i]);
    }
}

/* Gives back what a burst of addresses took. Not as they are removed: what came once will come again, and of an
 * address that is added and removed, in bursts, growing and shrinking took 155 of the 435 instructions. */
static void registry_trim(void)
{
    for (size_t i = 0; i < REGISTRIES; i++) {
        Registry *set = &registries[i];
        unsigned bits = REGISTRY_MIN_BITS;
        registry_take(set);
        while (set->used > (size_t)1 << (bits - 2)) { /* room for as many */
            bits++;
        }
        if (set->entries != NULL && bits < set->bits) {
            (void)registry_resize(set, bits); /* no memory: it stays large, and right */
        }
        registry_give(set);
    }
}

#endif /* EXTERNREF_REGISTRY_H */
