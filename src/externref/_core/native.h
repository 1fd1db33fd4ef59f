/* Blocks of native payloads: made on any thread, and, of types whose drop needs no GIL, dropped where the last
 * owner is.
 *
 *   native_alloc, native_free, native_make   any thread, no GIL
 *   drop_anywhere                            the drop_slow of such a type: likewise
 *   native_drop                              for who took the last count of such a type's: likewise
 *
 * A block whose address Python knows is in the set of those that were handed out, which the GIL guards: its last
 * drop goes to the drain, as that of a Python payload does. */
#ifndef EXTERNREF_NATIVE_H
#define EXTERNREF_NATIVE_H

#include "externref.h"
#include "atomics.h"
#include "dropped.h"
#include "live.h"
#include "locks.h"
#include "memory.h"
#include "pending.h"
#include "thread_local.h"

/* A block without a payload and without an owner; NULL if memory is short. */
static VMExternData *native_alloc(const VMExternVTable *vtable)
{
    /* As compute_layout, whose checks make_type has made. */
    const size_t align = vtable->align > sizeof(void *) ? vtable->align : sizeof(void *);
    const size_t offset = externref_footer_offset(vtable->size);
    char *start = (char *)externref_aligned_alloc(align, (offset + sizeof(VMExternData) + align - 1) & ~(align - 1));
    VMExternData *data = (VMExternData *)(start + offset);
    if (start == NULL) {
        return NULL;
    }
    data->ref_count = 0;
    data->value_ptr = start;
    data->vtable = vtable;
    data->handles = data->state = 0;
    return data;
}

static inline void native_free(VMExternData *data)
{
    externref_aligned_free(data->value_ptr);
}

/* A block with one owner, the caller's, whose address nobody was told; NULL if memory is short, or init fails. */
static void *native_make(const VMExternVTable *vtable, int (*init)(void *, void *), void *ctx)
{
    VMExternData *data = native_alloc(vtable);
    if (data == NULL) {
        return NULL;
    }
    if (init(data->value_ptr, ctx) != 0) {
        native_free(data);
        return NULL;
    }
    data->ref_count = 1;
    live_made_anywhere();
    return data;
}

/* A payload may hold references to more of its like, a chain of millions: what is dropped in a drop waits in a list
 * of this thread's until that is over. */
static void native_drop(VMExternData *data)
{
    static EXTERNREF_THREAD_LOCAL struct {
        int drops;
        VMExternData *dropped; /* meanwhile; linked as in pending.h */
    } thread;
    if (thread.drops) {
        data->value_ptr = thread.dropped;
        thread.dropped = data;
        return;
    }
    thread.drops = 1;
    for (;;) {
        const VMExternVTable *const vtable = data->vtable;
        live_freed_anywhere();
        if (vtable->drop_in_place != NULL) {
            vtable->drop_in_place(data->value_ptr);
        }
        native_free(data);
        data = thread.dropped;
        if (data == NULL) {
            break;
        }
        thread.dropped = (VMExternData *)pending_unlink(data);
    }
    thread.drops = 0;
}

static void drop_anywhere(void *raw)
{
    VMExternData *data = (VMExternData *)raw;
    block_settle(data);
    /* The count may also have been a handle's. */
    if ((data->state & EXTERNREF_STATE_REGISTERED) != 0 || data->handles != 0) {
        drop_later(raw);
    }
    else {
        native_drop(data);
    }
}

#endif /* EXTERNREF_NATIVE_H */
