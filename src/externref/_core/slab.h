/* Memory for the blocks of Python payloads, which have one size: cells of slabs. GIL.
 *
 * A slab begins with its Slab and is aligned to its size: a cell's address leads to it. Slabs with a free cell are in
 * a list; one that has no cell in use goes back, if there is another such. A cell takes the block's 40 bytes, where a chunk of
 * glibc's malloc takes 48; and of 10,000 references that are made, and then dropped, each takes 771 instructions in
 * place of 1,210 (callgrind, Debian's CPython 3.11).
 *
 * Where every use after free is to be seen, and where no GIL guards the list, each cell is an allocation of its own. */
#ifndef EXTERNREF_SLAB_H
#define EXTERNREF_SLAB_H

#include <stddef.h>
#include <stdint.h>
#include "externref.h"
#include "memory.h"

typedef struct {
    void *payload; /* or the next free cell */
    VMExternData footer;
} Cell;

#if EXTERNREF_FREE_LIST_LIMIT == 0

static void *slab_take(void)
{
    return externref_aligned_alloc(sizeof(void *), sizeof(Cell));
}

static void slab_give(void *cell)
{
    externref_aligned_free(cell);
}

static void slab_trim(void)
{
}

#else

/* With twice that glibc would map each slab by itself, since it asks for as much again to align it: 5 bytes more a
 * reference. */
#  define SLAB_SIZE ((size_t)1 << 15)
/* malloc's own words come before: so slabs lie side by side. */
#  define SLAB_USED (SLAB_SIZE - 64)

typedef struct Slab {
    struct Slab *next, *before; /* of those with a free cell */
    Cell *given; /* free cells that were in use before, linked through the payload */
    Cell *fresh; /* free cells that never were, to the slab's end */
    size_t used;
} Slab;

static Slab slabs = {&slabs, &slabs, NULL, NULL, 0}; /* the list's head */
static int slab_is_spare; /* whether there is one without a cell in use */

static inline Slab *slab_of(void *cell)
{
    return (Slab *)((uintptr_t)cell & ~(uintptr_t)(SLAB_SIZE - 1));
}

static inline int slab_is_full(const Slab *slab)
{
    return slab->given == NULL && (char *)(slab->fresh + 1) > (char *)slab + SLAB_USED;
}

static void slab_link(Slab *slab)
{
    slab->next = slabs.next;
    slab->before = &slabs;
    slab->next->before = slab;
    slabs.next = slab;
}

static void slab_unlink(Slab *slab)
{
    slab->next->before = slab->before;
    slab->before->next = slab->next;
}

/* A slab more, in the list; NULL if memory is short. */
static Slab *slab_new(void)
{
    Slab *slab = (Slab *)externref_aligned_alloc_any(SLAB_SIZE, SLAB_USED);
    if (slab != NULL) {
        slab->given = NULL;
        slab->fresh = (Cell *)(slab + 1);
        slab->used = 0;
        slab_is_spare = 1;
        slab_link(slab);
    }
    return slab;
}

static void slab_free(Slab *slab)
{
    slab_unlink(slab);
    externref_aligned_free(slab);
}

/* Memory for a block, or NULL. */
static void *slab_take(void)
{
    Slab *slab = slabs.next;
    Cell *cell;
    if (slab == &slabs && (slab = slab_new()) == NULL) {
        return NULL;
    }
    cell = slab->given;
    if (cell != NULL) {
        slab->given = (Cell *)cell->payload;
    }
    else {
        cell = slab->fresh++;
    }
    if (slab->used++ == 0) {
        slab_is_spare = 0;
    }
    if (slab_is_full(slab)) {
        slab_unlink(slab);
    }
    return cell;
}

static void slab_give(void *memory)
{
    Cell *cell = (Cell *)memory;
    Slab *slab = slab_of(cell);
    if (slab_is_full(slab)) {
        slab_link(slab);
    }
    cell->payload = slab->given;
    slab->given = cell;
    if (--slab->used == 0) {
        if (slab_is_spare) {
            slab_free(slab);
        }
        slab_is_spare = 1;
    }
}

/* Gives back the spare one. */
static void slab_trim(void)
{
    if (slab_is_spare) {
        Slab *slab = slabs.next;
        while (slab->used != 0) {
            slab = slab->next;
        }
        slab_free(slab);
        slab_is_spare = 0;
    }
}

#endif

#endif /* EXTERNREF_SLAB_H */
