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
    uintptr_t *slots; /* 0: empty */
    unsigned bits;    /* there are 2**bits slots; meaningless while slots is NULL */
    size_t used;
} registry;

static inline size_t registry_home(uintptr_t address, unsigned bits)
{
    /* Fibonacci hashing: neighbouring blocks differ only in a few middle bits. */
    return (size_t)(((uint64_t)address * UINT64_C(0x9E3779B97F4A7C15)) >> (64 - bits));
}

/* The slot that holds `address`, or the empty one where it would go. */
static inline size_t registry_find(const uintptr_t *slots, unsigned bits, uintptr_t address)
{
    size_t mask = ((size_t)1 << bits) - 1;
    size_t i = registry_home(address, bits);
    while (slots[i] != 0 && slots[i] != address) {
        i = (i + 1) & mask;
    }
    return i;
}

static int registry_contains(uintptr_t address)
{
    return registry.slots != NULL &&
           registry.slots[registry_find(registry.slots, registry.bits, address)] == address;
}

/* 0, or -1 without a change if memory is short. */
static int registry_resize(unsigned bits)
{
    size_t old_size = registry.slots != NULL ? (size_t)1 << registry.bits : 0;
    uintptr_t *slots = (uintptr_t *)PyMem_RawCalloc((size_t)1 << bits, sizeof(uintptr_t));
    if (slots == NULL) {
        return -1;
    }
    for (size_t i = 0; i < old_size; i++) {
        if (registry.slots[i] != 0) {
            slots[registry_find(slots, bits, registry.slots[i])] = registry.slots[i];
        }
    }
    PyMem_RawFree(registry.slots);
    registry.slots = slots;
    registry.bits = bits;
    return 0;
}

/* Adds an address that is not in the set. 0, or -1 without a change if memory is short. */
static int registry_add(uintptr_t address)
{
    if (registry.slots == NULL) {
        if (registry_resize(REGISTRY_MIN_BITS) != 0) {
            return -1;
        }
    }
    else if (registry.used >= (size_t)1 << (registry.bits - 1)) { /* at most half full */
        if (registry_resize(registry.bits + 1) != 0) {
            return -1;
        }
    }
    registry.slots[registry_find(registry.slots, registry.bits, address)] = address;
    registry.used++;
    return 0;
}

/* Removes an address that is in the set. */
static void registry_remove(uintptr_t address)
{
    size_t mask = ((size_t)1 << registry.bits) - 1;
    size_t hole = registry_find(registry.slots, registry.bits, address);
    for (size_t i = (hole + 1) & mask; registry.slots[i] != 0; i = (i + 1) & mask) {
        /* Whoever was pushed past the hole by its cluster moves back into it. */
        size_t home = registry_home(registry.slots[i], registry.bits);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            registry.slots[hole] = registry.slots[i];
            hole = i;
        }
    }
    registry.slots[hole] = 0;
    registry.used--;
    if (registry.bits > REGISTRY_MIN_BITS && registry.used < (size_t)1 << (registry.bits - 3)) {
        (void)registry_resize(registry.bits - 1); /* no memory: it stays large, and right */
    }
}

#endif /* EXTERNREF_REGISTRY_H */
