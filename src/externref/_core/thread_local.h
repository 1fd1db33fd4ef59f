/* Variables that each thread has its own of. */
#ifndef EXTERNREF_THREAD_LOCAL_H
#define EXTERNREF_THREAD_LOCAL_H

#include <limits.h> /* for __GLIBC__ */

/* A shared library finds them by a call (__tls_get_addr), unless they are initial-exec: then the loader has given them a
 * fixed distance from the thread's pointer. For libraries loaded while the program runs glibc sets some room aside for
 * that, others none. A payload made and dropped anywhere takes 1.17 times as long with the call. */
#if defined(_MSC_VER)
#  define EXTERNREF_THREAD_LOCAL __declspec(thread)
#elif defined(__GLIBC__)
#  define EXTERNREF_THREAD_LOCAL __attribute__((tls_model("initial-exec"))) __thread
#else
#  define EXTERNREF_THREAD_LOCAL __thread
#endif

#endif /* EXTERNREF_THREAD_LOCAL_H */
