/* To be preloaded: an allocation of the thread that arms it fails, the n-th one from then on, and the n-th after that.
 *
 * What counts are the allocations of the libraries in one folder, told apart by the address that they return to, or all
 * of them but those of libraries that end the process where they have none. With PYTHONMALLOC=malloc these are every
 * object of Python. glibc only: the allocator below is its own. */
#ifndef _GNU_SOURCE
#  define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t align, size_t size);

static __thread long left __attribute__((tls_model("initial-exec"))); /* until one fails; 0: none does */
static __thread long next __attribute__((tls_model("initial-exec"))); /* the same, from the one that failed on */
static __thread const char *only __attribute__((tls_model("initial-exec"))); /* the folder, or NULL */
static __thread int failed __attribute__((tls_model("initial-exec")));

/* folder: NULL, or what the caller keeps. */
void faults_arm_two(long n, long then, const char *folder)
{
    failed = 0;
    only = folder;
    next = then;
    left = n;
}

void faults_arm(long n, const char *folder)
{
    faults_arm_two(n, 0, folder);
}

/* Ends that; how many failed. */
int faults_disarm(void)
{
    left = next = 0;
    return failed;
}

/* Whether a library does where it has no memory: wasmtime, and what registers its unwinding tables. */
static int ends_the_process(const char *library)
{
    return strstr(library, "libwasmtime") != NULL || strstr(library, "libgcc_s") != NULL;
}

static int fails(const void *caller)
{
    Dl_info info;
    if (left == 0) {
        return 0;
    }
    if (only != NULL && (dladdr(caller, &info) == 0 || strncmp(info.dli_fname, only, strlen(only)) != 0)) {
        return 0;
    }
    if (only == NULL && dladdr(caller, &info) != 0 && ends_the_process(info.dli_fname)) {
        return 0;
    }
    if (--left != 0) {
        return 0;
    }
    left = next;
    next = 0;
    failed++;
    errno = ENOMEM;
    return 1;
}

#define FAILS fails(__builtin_return_address(0))
#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, name))

void *malloc(size_t size)
{
    return FAILS ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return FAILS ? NULL : __libc_calloc(count, size);
}

void *realloc(void *block, size_t size)
{
    return FAILS ? NULL : __libc_realloc(block, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    return FAILS ? NULL : __libc_memalign(align, size);
}

int posix_memalign(void **block, size_t align, size_t size)
{
    if (FAILS) {
        return ENOMEM;
    }
    *block = __libc_memalign(align, size);
    return *block == NULL ? ENOMEM : 0;
}

void *mmap(void *address, size_t size, int protection, int flags, int file, off_t offset)
{
    typedef void *(*Map)(void *, size_t, int, int, int, off_t);
    return FAILS ? MAP_FAILED : NEXT(Map, "mmap")(address, size, protection, flags, file, offset);
}

int mprotect(void *address, size_t size, int protection)
{
    typedef int (*Protect)(void *, size_t, int);
    return FAILS ? -1 : NEXT(Protect, "mprotect")(address, size, protection);
}

/* It reads a file, on the main thread. */
int pthread_getattr_np(pthread_t thread, pthread_attr_t *attributes)
{
    typedef int (*Ask)(pthread_t, pthread_attr_t *);
    return FAILS ? ENOMEM : NEXT(Ask, "pthread_getattr_np")(thread, attributes);
}
