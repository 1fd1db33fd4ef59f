/* The clock of interruptible stores: a thread that counts up the epochs of the engines in which calls run.
 *
 * It has no thread state and never the GIL, for a call may keep that one as long as it runs. While nothing runs it sleeps:
 * a call that begins counts itself and then looks at `asleep`; the thread sets `asleep` and then looks at the counts.
 * One of the two sees the other. */
#ifndef EXTERNREF_WASMTIME_CLOCK_H
#define EXTERNREF_WASMTIME_CLOCK_H

#include <Python.h>
#include <pythread.h>
#include "_core/atomics.h"
#include "_core/monotonic.h"

/* Microseconds between two ticks: longer than the five milliseconds for which CPython's threads wait before they ask for
 * the GIL, which they get at a tick. */
#define CLOCK_TICK 10000
/* After so many without a call the thread sleeps: a program that calls now and then need not wake it each time. */
#define CLOCK_MOST_IDLE 100

/* An engine's. */
typedef struct Clock {
    struct Clock *previous; /* in the list */
    struct Clock *next;
    void *engine;
    long calls; /* atomic: the stores of the engine in which a call runs */
} Clock;

static struct {
    void (*increment)(void *engine); /* wasmtime_engine_increment_epoch */
    PyThread_type_lock lock; /* of the list, which attached threads change: a fork never finds it half changed */
    PyThread_type_lock wake; /* held, but to wake the thread */
    Clock *first;
    long asleep;  /* atomic */
    int started;  /* who takes `asleep` down reads and sets it */
} clocks;

/* Whether a call runs. */
static int clock_tick(int increment)
{
    int busy = 0;
    PyThread_acquire_lock(clocks.lock, WAIT_LOCK);
    for (Clock *clock = clocks.first; clock != NULL; clock = clock->next) {
        if (atomic_flag_load(&clock->calls) != 0) {
            busy = 1;
            if (increment) {
                clocks.increment(clock->engine);
            }
        }
    }
    PyThread_release_lock(clocks.lock);
    return busy;
}

static void clock_run(void *unused)
{
    int idle = 0;
    (void)unused;
    for (;;) {
        if (idle == CLOCK_MOST_IDLE) {
            idle = 0;
            atomic_flag_swap(&clocks.asleep, 1);
            if (!clock_tick(0) || !atomic_flag_replace(&clocks.asleep, 1, 0)) {
                PyThread_acquire_lock(clocks.wake, WAIT_LOCK);
            }
        }
        PyThread_acquire_lock_timed(clocks.wake, CLOCK_TICK, 0);
        idle = clock_tick(1) ? 0 : idle + 1;
    }
}

/* 0, or -1 if there is no memory. Again in the child of a fork, which has the list, but neither the thread nor, until
 * they begin anew, any calls. */
static int clock_setup(void)
{
    for (Clock *clock = clocks.first; clock != NULL; clock = clock->next) {
        atomic_flag_swap(&clock->calls, 0);
    }
    clocks.lock = PyThread_allocate_lock();
    clocks.wake = PyThread_allocate_lock();
    if (clocks.lock == NULL || clocks.wake == NULL) {
        return -1;
    }
    PyThread_acquire_lock(clocks.wake, WAIT_LOCK);
    clocks.asleep = 1; /* whoever begins a call starts it */
    clocks.started = 0;
    return 0;
}

/* 0, or -1 if no thread can be started. */
static int clock_wake(void)
{
    if (!atomic_flag_replace(&clocks.asleep, 1, 0)) {
        return 0;
    }
    if (clocks.started) {
        PyThread_release_lock(clocks.wake);
        return 0;
    }
    clocks.started = 1; /* before there is a thread to fall asleep again, and another one to wake it */
    if (PyThread_start_new_thread(clock_run, NULL) == PYTHREAD_INVALID_THREAD_ID) {
        clocks.started = 0;
        atomic_flag_swap(&clocks.asleep, 1);
        return -1;
    }
    return 0;
}

/* A call begins in a store of the engine, the store's first; to be ended, also if this is -1: no thread can be started. */
static inline int clock_begin(Clock *clock)
{
    atomic_flag_add(&clock->calls, 1);
    return atomic_flag_load(&clocks.asleep) ? clock_wake() : 0;
}

static inline void clock_end(Clock *clock)
{
    atomic_flag_add(&clock->calls, -1);
}

static void clock_add(Clock *clock)
{
    PyThread_acquire_lock(clocks.lock, WAIT_LOCK);
    clock->previous = NULL;
    clock->next = clocks.first;
    if (clock->next != NULL) {
        clock->next->previous = clock;
    }
    clocks.first = clock;
    PyThread_release_lock(clocks.lock);
}

/* The thread does not touch the engine from here on. */
static void clock_remove(Clock *clock)
{
    PyThread_acquire_lock(clocks.lock, WAIT_LOCK);
    if (clock->previous != NULL) {
        clock->previous->next = clock->next;
    }
    else {
        clocks.first = clock->next;
    }
    if (clock->next != NULL) {
        clock->next->previous = clock->previous;
    }
    PyThread_release_lock(clocks.lock);
}

#endif /* EXTERNREF_WASMTIME_CLOCK_H */
