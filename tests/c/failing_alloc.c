/* To be preloaded: an aligned_alloc and a posix_memalign that fail on demand. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>

void *__libc_memalign(size_t align, size_t size);

int aligned_alloc_fails;

void *aligned_alloc(size_t align, size_t size)
{
    return aligned_alloc_fails ? NULL : __libc_memalign(align, size);
}

int posix_memalign(void **block, size_t align, size_t size)
{
    *block = aligned_alloc(align, size);
    return *block != NULL ? 0 : ENOMEM;
}
