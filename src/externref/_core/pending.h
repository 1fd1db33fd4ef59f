/* What was let go without the GIL and awaits the drain: blocks whose last reference compiled code
 * dropped, and holds that their keepers ended.
 *
 * Compiled code drops a last reference on any thread, without the GIL, perhaps inside
 * another runtime's collector. So its slow path only links the block into a list,
 * lock-free, and asks the interpreter to drain it later; all Python work is done by
 * the drain, under the GIL.
 *
 *   pending_push    any thread, no GIL: the vtables' drop_slow
 *   pending_push_hold
 *                   any thread, no GIL: for who keeps a hold
 *   pending_any, pending_pop, pending_pop_hold, pending_count
 *                   the holder of the GIL
 *   pending_close   the holder of the GIL, once, at exit
 */
#ifndef EXTERNREF_PENDING_H
#define EXTERNREF_PENDING_H

#include <Python.h>
#include "externref.h"
#include "atomics.h"
#include "hold.h"

static struct {
    void *head;           /* atomic: a list of blocks, newest first; any thread pushes */
    VMExternData *batch;  /* taken from head and not yet popped; GIL */
    void *holds;          /* atomic: a list of holds, likewise */
    ExternrefHold *holds_batch;
    long requested;       /* atomic: a drain has been asked for and has not begun */
    long asking;          /* atomic: threads that may be inside Py_AddPendingCall */
    long closed;          /* atomic: the interpreter is going, ask it nothing */
    int (*drain)(void *); /* what to run under the GIL; set once, at import */
} pending;

#if defined(_MSC_VER)
#  define PENDING_THREAD_LOCAL __declspec(thread)
#else
#  define PENDING_THREAD_LOCAL __thread
#endif

/* Whether this thread drains; whether it did before. */
static int pending_set_draining(int value)
{
    static PENDING_THREAD_LOCAL int draining;
    int before = draining;
    draining = value;
    return before;
}

static void pending_ask(void)
{
    atomic_flag_add(&pending.asking, 1);
    if (!atomic_flag_add(&pending.closed, 0) && !atomic_flag_swap(&pending.requested, 1)) {
        if (Py_AddPendingCall(pending.drain, NULL) != 0) {
            /* The interpreter's queue is full (32 entries). The next push asks again,
             * and every operation of the package drains too. */
            atomic_flag_swap(&pending.requested, 0);
        }
    }
    atomic_flag_add(&pending.asking, -1);
}

/* Takes over a block whose count is zero. `ref_count` stays zero, so that
 * clone_from_raw() can tell; the link goes where value_ptr was, which pending_pop
 * works out again from the vtable. */
static void pending_push(void *raw)
{
    VMExternData *data = (VMExternData *)raw;
    void *head;
    do {
        head = atomic_pointer_load(&pending.head);
        data->value_ptr = head;
    } while (!atomic_pointer_replace(&pending.head, head, data));
    pending_ask();
}

static void pending_push_hold(void *record)
{
    ExternrefHold *hold = (ExternrefHold *)record;
    void *head;
    do {
        head = atomic_pointer_load(&pending.holds);
        hold->next = (ExternrefHold *)head;
    } while (!atomic_pointer_replace(&pending.holds, head, hold));
    pending_ask();
}

static inline int pending_any(void)
{
    return pending.batch != NULL || pending.holds_batch != NULL || atomic_pointer_load(&pending.head) != NULL ||
           atomic_pointer_load(&pending.holds) != NULL;
}

/* The newest of the holds that were let go since a batch was taken. */
static ExternrefHold *pending_first_hold(void)
{
    return (ExternrefHold *)atomic_pointer_load(&pending.holds);
}

/* As pending_pop, of a hold. */
static ExternrefHold *pending_pop_hold(void)
{
    ExternrefHold *hold = pending.holds_batch;
    if (hold == NULL) {
        atomic_flag_swap(&pending.requested, 0);
        hold = (ExternrefHold *)atomic_pointer_swap(&pending.holds, NULL);
        if (hold == NULL) {
            return NULL;
        }
    }
    pending.holds_batch = hold->next;
    return hold;
}

/* A block to free, or NULL. The rest of a batch is not stranded when the code that a
 * free runs drains too, or when threads switch in it: all take from the same batch. */
static VMExternData *pending_pop(void)
{
    VMExternData *data = pending.batch;
    if (data == NULL) {
        atomic_flag_swap(&pending.requested, 0); /* before the take: a later push asks anew */
        data = (VMExternData *)atomic_pointer_swap(&pending.head, NULL);
        if (data == NULL) {
            return NULL;
        }
    }
    pending.batch = (VMExternData *)data->value_ptr;
    data->value_ptr = (char *)data - externref_footer_offset(data->vtable->size);
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

/* How many blocks wait. Only holders of the GIL take blocks away, so the walk is safe. */
static size_t pending_count(void)
{
    return pending_length(pending.batch) + pending_length(atomic_pointer_load(&pending.head));
}

/* After this no Py_AddPendingCall starts and none is still running; later pushes only
 * link. The wait is bounded, because a fork may have left a count behind in `asking`. */
static void pending_close(void)
{
    atomic_flag_swap(&pending.closed, 1);
    for (int i = 0; i < 1000000 && atomic_flag_add(&pending.asking, 0) != 0; i++) {
    }
}

#endif /* EXTERNREF_PENDING_H */
