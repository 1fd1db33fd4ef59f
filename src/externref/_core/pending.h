/* What was let go without the GIL and awaits the drain: blocks whose last reference compiled code
 * dropped, and holds that their keepers ended.
 *
 * Compiled code drops a last reference on any thread, without the GIL, perhaps inside
 * another runtime's collector. So its slow path only links the block into a list,
 * lock-free, and sees to it that somebody drains the list (helper.h); all Python work is
 * done by the drain, under the GIL.
 *
 *   pending_link, pending_link_hold
 *                   any thread, no GIL
 *   pending_any, pending_popped
 *                   any thread, no GIL
 *   pending_pop, pending_pop_hold, pending_holds, pending_count
 *                   the holder of the GIL; without one they take pending.lock, so that nobody takes
 *                   away what another looks at
 */
#ifndef EXTERNREF_PENDING_H
#define EXTERNREF_PENDING_H

#include "externref.h"
#include "atomics.h"
#include "hold.h"
#include "locks.h"
#include "thread_local.h"

#define PENDING_TAKEN ((void *)1) /* for a batch, which is just being taken */

static struct {
    void *head;        /* atomic: a list of blocks, newest first; any thread pushes */
    void *batch;       /* of blocks, taken from head and not yet popped; changes under the GIL, or the lock */
    void *holds;       /* atomic: a list of holds, likewise */
    void *holds_batch; /* of holds */
    size_t popped;     /* how often something was popped; likewise */
    Lock lock;
} pending;

/* Whether this thread drains; whether it did before. */
static int pending_set_draining(int value)
{
    static EXTERNREF_THREAD_LOCAL int draining;
    int before = draining;
    draining = value;
    return before;
}

static inline void *pending_payload(const VMExternData *data)
{
    return (char *)data - externref_footer_offset(data->vtable->size);
}

/* Whether a block awaits the drain. */
static inline int pending_is_linked(const VMExternData *data)
{
    return data->value_ptr != pending_payload(data);
}

/* Takes over a block whose count is zero. `ref_count` stays zero, so that
 * clone_from_raw() can tell; the link goes where value_ptr was. */
static void pending_link(void *raw)
{
    VMExternData *data = (VMExternData *)raw;
    void *head;
    if (pending_is_linked(data)) { /* its count was another's, which came to zero once more */
        return;
    }
    do {
        head = atomic_pointer_load(&pending.head);
        data->value_ptr = head;
    } while (!atomic_pointer_replace(&pending.head, head, data));
}

/* The block after this one, whose value_ptr is worked out again. */
static inline void *pending_unlink(VMExternData *data)
{
    void *next = data->value_ptr;
    data->value_ptr = pending_payload(data);
    return next;
}

static void pending_link_hold(void *record)
{
    ExternrefHold *hold = (ExternrefHold *)record;
    void *head;
    do {
        head = atomic_pointer_load(&pending.holds);
        hold->next = (ExternrefHold *)head;
    } while (!atomic_pointer_replace(&pending.holds, head, hold));
}

/* The lists first: who takes one has marked its batch before, so that what waits is seen in one of both. */
static inline int pending_any(void)
{
    return atomic_pointer_load(&pending.head) != NULL || atomic_pointer_load(&pending.holds) != NULL ||
           atomic_pointer_load(&pending.batch) != NULL || atomic_pointer_load(&pending.holds_batch) != NULL;
}

/* How often something was popped: whether anybody is at it shows in that it changes. */
static inline size_t pending_popped(void)
{
    return EXTERNREF_ACQUIRE(&pending.popped);
}

/* A batch's first, or that of a new batch, or NULL. The rest of a batch is not stranded when the code
 * that a free runs drains too, or when threads switch in it: all take from the same batch. */
static void *pending_first(void **batch, void **list)
{
    void *first = *batch;
    atomic_count_store(&pending.popped, pending.popped + 1);
    if (first == NULL) {
        /* Both before the swap, which releases them, of an empty list too: see pending_any, and helper_has_work. */
        atomic_pointer_store(batch, PENDING_TAKEN);
        first = atomic_pointer_swap(list, NULL);
        if (first == NULL) {
            atomic_pointer_store(batch, NULL);
        }
    }
    return first;
}

/* A hold to end, or NULL. */
static ExternrefHold *pending_pop_hold(void)
{
    ExternrefHold *hold;
    lock_take(&pending.lock);
    hold = (ExternrefHold *)pending_first(&pending.holds_batch, &pending.holds);
    if (hold != NULL) {
        atomic_pointer_store(&pending.holds_batch, hold->next);
    }
    lock_release(&pending.lock);
    return hold;
}

/* A block to free, or NULL. */
static VMExternData *pending_pop(void)
{
    VMExternData *data;
    lock_take(&pending.lock);
    data = (VMExternData *)pending_first(&pending.batch, &pending.head);
    if (data != NULL) {
        atomic_pointer_store(&pending.batch, pending_unlink(data));
    }
    lock_release(&pending.lock);
    return data;
}

static size_t pending_length(const void *list)
{
    size_t length = 0;
    for (const VMExternData *data = (const VMExternData *)list; data != NULL;
         data = (const VMExternData *)data->value_ptr) {
        length++;
    }
    return length;
}

/* How many blocks wait. Who takes blocks away waits meanwhile. */
static size_t pending_count(void)
{
    size_t length;
    lock_take(&pending.lock);
    length = pending_length(pending.batch) + pending_length(atomic_pointer_load(&pending.head));
    lock_release(&pending.lock);
    return length;
}

/* What is known of a hold that was let go: its block, whose address may be another's afterwards, and how many owners
 * that has. */
typedef struct {
    uintptr_t address;
    size_t count;
} PendingHold;

/* Notes the first `room` of the holds that wait; how many there are. */
static size_t pending_holds(PendingHold *notes, size_t room)
{
    size_t length = 0;
    lock_take(&pending.lock);
    for (int i = 0; i < 2; i++) {
        const ExternrefHold *hold =
            (const ExternrefHold *)(i == 0 ? pending.holds_batch : atomic_pointer_load(&pending.holds));
        for (; hold != NULL; hold = hold->next) {
            if (length < room) {
                notes[length].address = (uintptr_t)hold->footer;
                notes[length].count = externref_strong_count(hold->footer);
            }
            length++;
        }
    }
    lock_release(&pending.lock);
    return length;
}

#endif /* EXTERNREF_PENDING_H */
