/* externref_activations.h: how compiled code adds a reference to an activations table.
 *
 * A VMExternRefActivationsTable owns one count for every reference inserted, so that
 * compiled frames only borrow. Its `address` is that of this struct. To insert:
 *
 *     if (table->next == table->end) { ... the slow path: insert_with_gc, which needs Python ... }
 *     *table->next++ = raw;            the count of `raw` now belongs to the table
 *
 * The chunk between `next` and `end` changes whenever the table is collected: load both
 * fields again after anything that may collect. One thread at a time, with the GIL or in a
 * call that its holder waits for. C99 and C++; needs no Python.h. */
#ifndef EXTERNREF_ACTIVATIONS_H
#define EXTERNREF_ACTIVATIONS_H

#include <stddef.h>

typedef struct VMExternRefActivations {
    void **next; /* where the next reference goes */
    void **end;  /* the end of the bump chunk; equal to `next` when it is full, or not there yet */
} VMExternRefActivations;

/* Moves `raw`, which is not NULL, into the table. 1, or 0 if the chunk is full: then the
 * caller still owns it. */
static inline int externref_activations_try_insert(VMExternRefActivations *table, void *raw)
{
    if (table->next == table->end) {
        return 0;
    }
    *table->next++ = raw;
    return 1;
}

#endif /* EXTERNREF_ACTIVATIONS_H */
