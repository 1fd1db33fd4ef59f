/* To be preloaded: an aligned_alloc that fails on demand. */
#include <stdlib.h>

int aligned_alloc_fails;

void *aligned_alloc(size_t align, size_t size)
{
    void *block = NULL;
    if (aligned_alloc_fails) {
        return NULL;
    }
    return posix_memalign(&block, align, size) == 0 ? block : NULL;
}
