/* Memory for what is made in masses, and has one size: cells of slabs. GIL.
 *
 * A slab begins with its Slab and is aligned to its size: a cell's address leads to it. Slabs with a free cell are in
 * a list; one that has no cell in use goes back, if there is another such. A block's cell takes its 40 bytes, where a chunk of
 * glibc's malloc takes 48.
 *
 * While a Watch is told of every block (track.pxi), no slab has a free cell for slab_take(), and none is in the list for
 * slab_give(): each comes to the slow paths, and nothing else has to ask whether there is a watch.
 *
 * Where every use after free is to be seen, and where no GIL guards the list, each cell is an allocation of its own. */
#ifndef EXTERNREF_SLAB_H
#define EXTERNREF_SLAB_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "externref.h"
#include "atomics.h"
#include "memory.h"

/* A block for a Python payload. */
typedef struct {
    void *payload;
    VMExternData footer;
} Cell;

/* Who is told of every block for a Python payload, with the GIL. */
typedef struct {
    void (*made)(void *cell, void *payload); /* with a GIL before the block is written, which nobody else sees */
    int (*freed)(void *cell); /* whether the cell is to be kept: block_release() gives it back then */
} Watch;

#if EXTERNREF_FREE_LIST_LIMIT == 0

static const Watch *block_watch; /* atomic; NULL: nobody */

static void block_release(void *cell)
{
    externref_aligned_free(cell);
}

static void *block_take(void *payload)
{
    (void)payload;
    return externref_aligned_alloc(sizeof(void *), sizeof(Cell));
}

/* The block is whole: other threads may look at it from now on. */
static void block_made(void *cell, void *payload)
{
    const Watch *watch = (const Watch *)atomic_pointer_load((void **)&block_watch);
    if (watch != NULL) {
        watch->made(cell, payload);
    }
}

static void block_give(void *cell)
{
    const Watch *watch = (const Watch *)atomic_pointer_load((void **)&block_watch);
    if (watch == NULL || !watch->freed(cell)) {
        block_release(cell);
    }
}

static void block_trim(void)
{
}

static void block_set_watch(const Watch *watch)
{
    atomic_pointer_store((void **)&block_watch, (void *)watch);
}

#else

/* With twice that glibc would map each slab by itself, since it asks for as much again to align it: 5 bytes more a
 * reference. */
#  define SLAB_SIZE ((size_t)1 << 15)
/* malloc's own words come before: so slabs lie side by side. */
#  define SLAB_USED (SLAB_SIZE - 64)

typedef struct Slab {
    struct Slab *next, *before; /* of those that may have a free cell */
    void **given; /* free cells that were in use before, linked through their first words */
    char *fresh, *end; /* free cells that never were */
    size_t used;
    int is_listed;
} Slab;

/* The slabs of cells of one size. Each function below is told that size, and where in a slab its Slab is, for
 * the compiler to know them. */
typedef struct {
    Slab list; /* its head, without a cell */
    Slab *spare; /* one that had no cell in use when it was last looked at, or NULL */
    void **apart; /* while a Watch is told: the free cells of all slabs, linked through their first words */
    const Watch *watch;
} Slabs;

#  define NO_SLABS(slabs) {{&(slabs).list, &(slabs).list, NULL, NULL, NULL, 0, 0}, NULL, NULL, NULL}

static inline Slab *slab_of(void *cell, size_t start)
{
    return (Slab *)(((uintptr_t)cell & ~(uintptr_t)(SLAB_SIZE - 1)) + start);
}

static void slab_link(Slabs *slabs, Slab *slab)
{
    slab->next = slabs->list.next;
    slab->before = &slabs->list;
    slab->next->before = slab;
    slabs->list.next = slab;
    slab->is_listed = 1;
}

static void slab_unlink(Slab *slab)
{
    slab->next->before = slab->before;
    slab->before->next = slab->next;
    slab->is_listed = 0;
}

static Slab *slab_make(size_t start)
{
    char *memory = (char *)externref_aligned_alloc_any(SLAB_SIZE, SLAB_USED);
    Slab *slab;
    if (memory == NULL) {
        return NULL;
    }
    slab = (Slab *)(memory + start);
    slab->given = NULL;
    slab->fresh = (char *)(slab + 1);
    slab->end = memory + SLAB_USED;
    slab->used = 0;
    return slab;
}

/* Free cells are linked through their first words. */
static inline void cell_push(void ***cells, void *cell)
{
    *(void ***)cell = *cells;
    *cells = (void **)cell;
}

static inline void *cell_pop(void ***cells)
{
    void *cell = *cells;
    *cells = *(void ***)cell;
    return cell;
}

static void slab_put_apart(Slabs *slabs, Slab *slab, size_t size)
{
    while (slab->given != NULL) {
        cell_push(&slabs->apart, cell_pop(&slab->given));
    }
    for (; (size_t)(slab->end - slab->fresh) >= size; slab->fresh += size) {
        cell_push(&slabs->apart, slab->fresh);
    }
}

/* Has the first slab of the list one free cell, and tells the watch whose. */
static int slab_find_watched(Slabs *slabs, size_t size, size_t start, void *payload)
{
    void *cell;
    Slab *slab;
    if (slabs->apart == NULL) {
        slab = slab_make(start);
        if (slab == NULL) {
            return 0;
        }
        slab->is_listed = 0;
        slab_put_apart(slabs, slab, size);
    }
    cell = cell_pop(&slabs->apart);
    slabs->watch->made(cell, payload);
    if (slabs->list.next != &slabs->list) {
        slab_unlink(slabs->list.next); /* that of the cell before */
    }
    slab = slab_of(cell, start);
    cell_push(&slab->given, cell);
    slab_link(slabs, slab);
    slab->is_listed = 0; /* for slab_give() */
    return 1;
}

/* Sees to it that the first slab of the list has a free cell, for this payload; whether one could be had. */
static int slab_find(Slabs *slabs, size_t size, size_t start, void *payload)
{
    Slab *slab = slabs->list.next;
    if (slabs->watch != NULL) {
        return slab_find_watched(slabs, size, start, payload);
    }
    while (slab != &slabs->list) {
        if (slab->given != NULL || (size_t)(slab->end - slab->fresh) >= size) {
            return 1;
        }
        slab_unlink(slab);
        slab = slabs->list.next;
    }
    slab = slab_make(start);
    if (slab == NULL) {
        return 0;
    }
    slab_link(slabs, slab);
    return 1;
}

static void slab_free(Slab *slab, size_t start)
{
    slab_unlink(slab);
    externref_aligned_free((char *)slab - start);
}

/* A cell, or NULL. */
static inline void *slab_take(Slabs *slabs, size_t size, size_t start, void *payload)
{
    Slab *slab = slabs->list.next;
    void *cell = slab->given;
    if (cell == NULL && (size_t)(slab->end - slab->fresh) < size) {
        if (!slab_find(slabs, size, start, payload)) {
            return NULL;
        }
        slab = slabs->list.next;
        cell = slab->given;
    }
    if (cell != NULL) {
        cell_pop(&slab->given);
    }
    else {
        cell = slab->fresh;
        slab->fresh += size;
    }
    slab->used++;
    return cell;
}

/* After a cell was given to a slab that is not in the list, or that has no other in use. */
static void slab_given(Slabs *slabs, Slab *slab, size_t start)
{
    if (!slab->is_listed) {
        if (slabs->watch != NULL) {
            void *cell = cell_pop(&slab->given);
            if (slabs->watch->freed(cell)) {
                slab->used++; /* what is kept, or of which a child forgot that it is */
            }
            else {
                cell_push(&slabs->apart, cell);
            }
            return;
        }
        slab_link(slabs, slab);
    }
    if (slab->used == 0 && slabs->spare != slab) {
        if (slabs->spare != NULL && slabs->spare->used == 0) {
            slab_free(slab, start);
        }
        else {
            slabs->spare = slab;
        }
    }
}

static inline void slab_give(Slabs *slabs, size_t start, void *cell)
{
    Slab *slab = slab_of(cell, start);
    cell_push(&slab->given, cell);
    if (--slab->used == 0 || !slab->is_listed) {
        slab_given(slabs, slab, start);
    }
}

/* Gives back the spare one. */
static void slab_trim(Slabs *slabs, size_t start)
{
    if (slabs->spare != NULL && slabs->spare->used == 0) {
        slab_free(slabs->spare, start);
    }
    slabs->spare = NULL;
}

static Slabs block_slabs = NO_SLABS(block_slabs);

static void *block_take(void *payload)
{
    return slab_take(&block_slabs, sizeof(Cell), 0, payload);
}

static void block_made(void *cell, void *payload)
{
    (void)cell, (void)payload; /* it was told as the cell was taken */
}

static void block_give(void *cell)
{
    slab_give(&block_slabs, 0, cell);
}

static void block_trim(void)
{
    slab_trim(&block_slabs, 0);
}

/* Gives back what the watch kept. */
static void block_release(void *cell)
{
    slab_of(cell, 0)->used--;
    cell_push(&block_slabs.apart, cell);
}

/* From now on this watch is told, or none with NULL: nothing that it kept is left then. */
static void block_set_watch(const Watch *watch)
{
    Slabs *const slabs = &block_slabs;
    slabs->spare = NULL;
    slabs->watch = watch;
    while (slabs->list.next != &slabs->list) {
        Slab *slab = slabs->list.next;
        slab_unlink(slab);
        slab_put_apart(slabs, slab, sizeof(Cell));
    }
    if (watch != NULL) {
        return;
    }
    while (slabs->apart != NULL) {
        void *cell = cell_pop(&slabs->apart);
        Slab *slab = slab_of(cell, 0);
        cell_push(&slab->given, cell);
        if (!slab->is_listed) {
            slab_link(slabs, slab);
        }
    }
    for (Slab *slab = slabs->list.next, *next; slab != &slabs->list; slab = next) {
        next = slab->next;
        if (slab->used == 0) {
            slab_free(slab, 0);
        }
    }
}

#endif

#endif /* EXTERNREF_SLAB_H */
