/* A hold that somebody without the GIL ends: what a wasmtime store or numba's code keeps.
 *
 * A live block cannot be linked into a list itself, for it may have many holds. So each has a
 * record, made under the GIL, that is pushed on a list of records when the hold's keeper lets it
 * go; the drain ends the hold and keeps the record for the next. */
#ifndef EXTERNREF_HOLD_H
#define EXTERNREF_HOLD_H

#include "externref.h"

typedef struct ExternrefHold {
    VMExternData *footer;       /* of the block that is held; first, for raw_of_record() and numba's code */
    struct ExternrefHold *next; /* in the list of those that were let go, or of spare ones */
    int lends;
} ExternrefHold;

#endif /* EXTERNREF_HOLD_H */
