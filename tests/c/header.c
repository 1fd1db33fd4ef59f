/* externref.h before any other header, every inline function used. C99 and C++. */
#include "externref.h"

size_t use(void *raw);

size_t use(void *raw)
{
    size_t count = externref_strong_count(externref_clone(raw));
    externref_drop(raw);
    return count + (externref_value(raw) != NULL) + externref_footer_offset(1);
}
