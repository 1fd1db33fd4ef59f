/* The set of raw pointers that were handed out and whose block still exists.
 *
 * from_raw() and clone_from_raw() look an address up here before they read a byte
 * behind it, so that a made-up, stale or misremembered integer is an exception and
 * not a crash. Blocks that never hand out a pointer never get here.
 *
 * Open addressing with linear probing; a removal shifts the cluster back, so there
 * are no tombstones. Every function needs the GIL, which is its lock. */
#ifndef EXTERNREF_REGISTRY_H
#define EXTERNREF_REGISTRY_H

#include <Python.h>
#include <stdint.h>

#define REGISTRY_MIN_BITS 6

static struct {
    uintptr_t *entries; /* 0: empty */
    unsigned bits;    /* there are 2**bits entries; meaningless while entries is NULL */
    size_t used;
} registry;

static inline size_t registry_home(uintptr_t address, unsigned bits)
{
    /* Fibonacci hashing: neighbouring blocks differ only in a few middle bits. */
    return (size_t)(((uint64_t)address * UINT64_C(0x9E3779B97F4A7C15)) >> (64 - bits));
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
    return registry.entries != NULL &&
           registry.entries[registry_find(registry.entries, registry.bits, address)] == address;
}

/* 0, or -1 without a change if memory is short. */
static int registry_resize(unsigned bits)
{
    size_t old_size = registry.entries != NULL ? (size_t)1 << registry.bits : 0;
    uintptr_t *entries = (uintptr_t *)PyMem_RawCalloc((size_t)1 << bits, sizeof(uintptr_t));
    if (entries == NULL) {
        return -1;
    }
    for (size_t i = 0; i < old_size; i++) {
        if (registry.entries[i] != 0) {
            entries[registry_find(entries, bits, registry.entries[i])] = registry.entries[i];
        }
    }
    PyMem_RawFree(registry.entries);
    registry.entries = entries;
    registry.bits = bits;
    return 0;
}

/* Adds an address that is not in the set. 0, or -1 without a change if memory is short. */
static int registry_add(uintptr_t address)
{
    if (registry.entries == NULL) {
        if (registry_resize(REGISTRY_MIN_BITS) != 0) {
            return -1;
        }
    }
    else if (registry.used >= (size_t)1 << (registry.bits - 1)) { /* at most half full */
        if (registry_resize(registry.bits + 1) != 0) {
            return -1;
        }
    }
    registry.entries[registry_find(registry.entries, registry.bits, address)] = address;
    registry.used++;
    return 0;
}

/* Removes an address that is in the set. */
static void registry_remove(uintptr_t address)
{
    size_t mask = ((size_t)1 << registry.bits) - 1;
    size_t hole = registry_find(registry.entries, registry.bits, address);
    for (size_t i = (hole + 1) & mask; registry.entries[i] != 0; i = (i + 1) & mask) {
        /* Whoever was pushed past the hole by its cluster moves back into it. */
        size_t home = registry_home(registry.entries[i], registry.bits);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            registry.entries[hole] = registry.entries[i];
            hole = i;
        }
    }
    registry.entries[hole] = 0;
    registry.used--;
    if (registry.bits > REGISTRY_MIN_BITS && registry.used < (size_t)1 << (registry.bits - 3)) {
        (void)registry_resize(registry.bits - 1); /* no memory: it stays large, and right */
    }
}

#endif /* EXTERNREF_REGISTRY_H */
