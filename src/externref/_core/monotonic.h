/* A clock that only goes on, to be read without the GIL. */
#ifndef EXTERNREF_MONOTONIC_H
#define EXTERNREF_MONOTONIC_H

#include <stdint.h>
#if defined(_WIN32)
#  include <windows.h>
#else
#  include <time.h>
#endif

/* nanoseconds */
static inline int64_t monotonic_now(void)
{
#if defined(_WIN32)
    return (int64_t)GetTickCount64() * 1000000;
#else
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
#endif
}

#endif /* EXTERNREF_MONOTONIC_H */
