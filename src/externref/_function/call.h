/* Calls through C function pointers whose parameters and result are machine words.
 *
 * The pointer is cast to the very type it is called with. That the callee declares pointers
 * or other word-sized integers in those places makes no difference in the calling conventions
 * of x86-64 (System V and Windows) and AArch64: each travels as a word, in the same
 * register or stack slot. */
#ifndef EXTERNREF_CALL_H
#define EXTERNREF_CALL_H

#include <stdint.h>

#if !defined(__x86_64__) && !defined(_M_X64) && !defined(__aarch64__) && !defined(_M_ARM64)
#  error "externref.Function: do pointers and words travel alike on this architecture? Then add it here"
#endif

#define MAX_WORDS 8

typedef uintptr_t word_t;

/* SAFETY: `function` is the address of a C function with `count` word parameters and this
 * result, as whoever made the Function said. */
/* clang-format off */
#define CALL(keep, result) \
    switch (count) { \
    case 0: keep((result (*)(void))function)(); break; \
    case 1: keep((result (*)(word_t))function)(a[0]); break; \
    case 2: keep((result (*)(word_t, word_t))function)(a[0], a[1]); break; \
    case 3: keep((result (*)(word_t, word_t, word_t))function)(a[0], a[1], a[2]); break; \
    case 4: keep((result (*)(word_t, word_t, word_t, word_t))function)(a[0], a[1], a[2], a[3]); break; \
    case 5: keep((result (*)(word_t, word_t, word_t, word_t, word_t))function)(a[0], a[1], a[2], a[3], a[4]); break; \
    case 6: keep((result (*)(word_t, word_t, word_t, word_t, word_t, word_t))function)(a[0], a[1], a[2], a[3], a[4], a[5]); break; \
    case 7: keep((result (*)(word_t, word_t, word_t, word_t, word_t, word_t, word_t))function)(a[0], a[1], a[2], a[3], a[4], a[5], a[6]); break; \
    default: keep((result (*)(word_t, word_t, word_t, word_t, word_t, word_t, word_t, word_t))function)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]); \
    }

/* clang-format on */

static inline word_t call_word(void *function, int count, const word_t *a)
{
    word_t word = 0;
    CALL(word =, word_t)
    return word;
}

static inline void call_void(void *function, int count, const word_t *a)
{
    CALL(, void)
}

#undef CALL

#endif /* EXTERNREF_CALL_H */
