/* The way into compiled Wasm code and out of it, and the stack in between.
 *
 * The GIL is held throughout, except while an imported function runs Python: who returns
 * from there puts `innermost` and the stack limit back, which other threads may have changed. */
#ifndef EXTERNREF_WASM2C_ENTER_H
#define EXTERNREF_WASM2C_ENTER_H

#if defined(__linux__) && !defined(_GNU_SOURCE)
#  define _GNU_SOURCE
#endif
#include <pthread.h>
#include <setjmp.h>
#include "_activations/refset.h"
#include "wasm2c/runtime.h"

/* What is left of the stack for Python and the C library when Wasm code is stopped. */
#define STACK_RESERVE (256 * 1024)

static void *innermost;     /* the jmp_buf that a trap leaves to */
static Wasm2cHost host;

static void leave(int reason)
{
    longjmp(*(jmp_buf *)innermost, reason);
}

/* The lowest address a frame of Wasm code may have on this thread. */
static char *find_stack_limit(void)
{
    char *low = NULL;
    size_t size = 0;
#if defined(__linux__)
    pthread_attr_t attributes;
    void *start = NULL;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        if (pthread_attr_getstack(&attributes, &start, &size) == 0) {
            low = (char *)start;
        }
        pthread_attr_destroy(&attributes);
    }
#elif defined(__APPLE__)
    size = pthread_get_stacksize_np(pthread_self());
    low = (char *)pthread_get_stackaddr_np(pthread_self()) - size;
#endif
    if (low == NULL) {  /* unknown: there will be this much */
        return (char *)__builtin_frame_address(0) - STACK_RESERVE;
    }
    return low + (size / 4 < STACK_RESERVE ? size / 4 : STACK_RESERVE);
}

static inline char *stack_limit(void)
{
    /* Kept for each thread: to ask reads a file, on Linux's main thread. A shared library, as this
     * module is, finds a thread's variable by a call (__tls_get_addr), unless it is initial-exec:
     * then the loader has given it a fixed distance from the thread's pointer. For libraries
     * loaded while the program runs glibc sets some room aside for that; a pointer has its place there. */
    static __thread char *limit __attribute__((tls_model("initial-exec")));
    if (limit == NULL) {
        limit = find_stack_limit();
    }
    return limit;
}

/* Calls compiled code; 0, or why it was left. `*base`, unless it is set, becomes the end of
 * the stack that compiled code uses. */
static int enter(Wasm2cCall call, void (*code)(void), void *instance, uint64_t *slots, void **base)
{
    jmp_buf here;
    void *const outer = innermost;
    char *const outer_limit = host.stack_limit;
    int reason;
    if (*base == NULL) {
        *base = __builtin_frame_address(0);
    }
    host.stack_limit = stack_limit();
    innermost = &here;
    reason = _setjmp(here);     /* without the signal mask: that is a system call */
    if (reason == 0) {
        call(code, instance, slots);
    }
    innermost = outer;
    host.stack_limit = outer_limit;
    return reason;
}

/* Marks what the stack from the caller's frame to `base` may hold. */
static __attribute__((noinline, unused)) void mark_stack(RefSet *set, const void *base)
{
    refset_mark_words(set, __builtin_frame_address(0), base);
}

/* Marks what the stack from here to `base`, and the registers, may hold. */
static __attribute__((noinline, unused)) void mark_frames(RefSet *set, const void *base)
{
    /* Puts every register that callers may keep a value in into this frame, which is above
     * the callee's. It must not become a jump, which would undo that first. */
    __builtin_unwind_init();
    mark_stack(set, base);
    __asm__ volatile("" ::: "memory");
}

#endif /* EXTERNREF_WASM2C_ENTER_H */
