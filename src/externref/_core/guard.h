/* Freed blocks that debug.track(guard=N) keeps, so that compiled code which still uses one is caught.
 *
 * Such a block has one owner, nobody, and a vtable of its own: a drop comes to guard_dropped(), on any thread, with the
 * GIL or without, and a clone shows in the count. Its payload's word is the address of what is known of it. */
#ifndef EXTERNREF_GUARD_H
#define EXTERNREF_GUARD_H

#include <stdio.h>
#include <string.h>
#include "externref.h"
#include "atomics.h"
#include "slab.h"

typedef struct {
    const char *life; /* its block's, in words */
    size_t drops; /* since somebody looked */
} Guarded;

static long guard_busy; /* atomic: a lock between who was told of a drop, and who lets go of the block */

static void guard_lock(void)
{
    while (atomic_flag_swap(&guard_busy, 1) != 0) {
    }
}

static void guard_unlock(void)
{
    atomic_flag_swap(&guard_busy, 0);
}

static void guard_dropped(void *raw);

static const VMExternVTable guard_vtable = {NULL, sizeof(void *), sizeof(void *), "freed reference", guard_dropped};

static inline Cell *guard_cell(VMExternData *data)
{
    return (Cell *)((char *)data - offsetof(Cell, footer));
}

static size_t guard_drops(Guarded *guarded)
{
    size_t drops;
    guard_lock();
    drops = guarded->drops;
    guarded->drops = 0;
    guard_unlock();
    return drops;
}

static void guard_dropped(void *raw)
{
    VMExternData *data = (VMExternData *)raw;
    char text[2048];
    guard_lock();
    text[0] = 0;
    if (data->vtable == &guard_vtable) {
        Guarded *guarded = (Guarded *)guard_cell(data)->payload;
        snprintf(text, sizeof(text), "%s", guarded->life);
        guarded->drops++;
        data->handles = 0;
        atomic_count_store(&data->ref_count, 1);
    }
    guard_unlock();
    fprintf(stderr, "externref: compiled code dropped a freed reference: %s\n", text);
    fflush(stderr);
}

/* So many owners more than it should have. */
static size_t guard_clones(VMExternData *data)
{
    const size_t count = EXTERNREF_ACQUIRE(&data->ref_count);
    atomic_count_store(&data->ref_count, 1);
    return count - 1;
}

static void guard_put(VMExternData *data, Guarded *guarded)
{
    guard_lock();
    guard_cell(data)->payload = guarded;
    data->ref_count = 1;
    data->value_ptr = guard_cell(data);
    data->vtable = &guard_vtable;
    data->handles = 0;
    data->state = 0;
    guard_unlock();
}

static int guard_is_whole(VMExternData *data, Guarded *guarded)
{
    return guard_cell(data)->payload == guarded && data->value_ptr == guard_cell(data) &&
           data->vtable == &guard_vtable && data->handles == 0;
}

/* What is known of it may go. */
static void guard_take(VMExternData *data)
{
    guard_lock();
    data->vtable = NULL;
    guard_unlock();
}

#endif /* EXTERNREF_GUARD_H */
