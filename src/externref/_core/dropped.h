/* What comes of a block whose count compiled code took to zero. Any thread, no GIL. */
#ifndef EXTERNREF_DROPPED_H
#define EXTERNREF_DROPPED_H

#include "externref.h"
#include "helper.h"
#include "track.h"

/* The count was a handle's. Apart, or who drops rightly pays for it with 10 instructions. */
#if defined(__GNUC__)
__attribute__((noinline))
#endif
static void drop_stolen(VMExternData *data)
{
    if (track_give_back(data)) {
        track_stolen(data);
    }
    else {
        helper_push(data);
    }
}

/* The drop_slow of vtables, but of those whose payloads drop anywhere. A block that handles have is in no list of what is
 * to be freed: they could end meanwhile, and free it. */
static void drop_later(void *raw)
{
    VMExternData *data = (VMExternData *)raw;
    /* The caller has done it; but ThreadSanitizer does not see what code that is not instrumented does. */
    (void)EXTERNREF_ACQUIRE(&data->ref_count);
    if (data->handles != 0) {
        drop_stolen(data);
    }
    else {
        helper_push(raw);
    }
}

#endif /* EXTERNREF_DROPPED_H */
