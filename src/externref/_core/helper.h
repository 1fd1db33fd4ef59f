/* The helper: a thread that sees to it that what was let go is drained soon, whoever computes.
 *
 * A pending call alone does not do it: on CPython 3.11 and 3.12 one that another thread adds does not wake a main
 * thread that computes (python/cpython#95820), and nowhere does it wake one that sits in C code.
 *
 *   helper_push, helper_push_hold   any thread, no GIL: for dropped.h, and for who keeps a hold
 *   all others                      the holder of the GIL
 *
 * The helper starts at the first push. While it is awake it looks every HELPER_TICK, without the GIL, whether something
 * is pending and nobody has popped since the last tick. The main thread comes first: the helper takes the GIL, adds
 * a pending call and lets the GIL go, which makes a computing main thread run it; if nothing was popped by the next
 * tick, the helper drains. After HELPER_IDLE_TICKS with nothing to do it sleeps until a push wakes it. So a burst of
 * drops costs one system call.
 *
 * A push links and then looks at `state`; the helper sets HELPER_ASLEEP and then looks at the lists, all of it
 * sequentially consistent: one of the two sees the other. Likewise who sets `forks` or `closed` then looks at
 * `state`, and who changes `state` then looks at those.
 *
 * It is a pthread, not one of PyThread_start_new_thread(): a push has no GIL, without which that one's stack cannot be
 * sized, and a fork needs to join it.
 */
#ifndef EXTERNREF_HELPER_H
#define EXTERNREF_HELPER_H

#include <Python.h>
#include <pythread.h>
#if defined(_WIN32)
#  include <windows.h>
#else
#  include <pthread.h>
#  include <signal.h>
#  include <time.h>
#endif
#include "atomics.h"
#include "monotonic.h"
#include "pending.h"
#include "thread_local.h"

#define HELPER_TICK 10000         /* microseconds */
#ifndef HELPER_IDLE_TICKS         /* tests/relacy has one of its own */
#  define HELPER_IDLE_TICKS 100   /* a second */
#endif
#define HELPER_FORK_WAIT 1000000  /* microseconds, at most, that a fork waits for a finalizer that the helper runs */
#define HELPER_EXIT_WAIT 5000000  /* the same of the interpreter's exit */

/* What CPython's own threads have with glibc. 3.13 lets C code nest 10,000 calls deep on any thread: with 1 MiB, repr()
 * of a list so deep crashes there (tests/test_drain.py). It is address space: what is not touched is no memory. */
#define HELPER_STACK ((size_t)8 << 20)

/* From 3.15 on (PEP 788) an interpreter that is being finalized waits for who attaches to it, and who comes later is told
 * that it is too late. Before, a helper that nobody told of the end would use an interpreter that is no more. */
#if PY_VERSION_HEX >= 0x030F0000
#  define HELPER_GUARDS
#endif

#if PY_VERSION_HEX < 0x030D0000 /* the same by its name of then */
#  define PyThreadState_GetUnchecked() _PyThreadState_UncheckedGet()
#endif

/* Who runs finalizers. */
enum {
    DRAIN_AUTO, /* the main thread, or else the helper */
    DRAIN_MAIN, /* the main thread */
    DRAIN_SCHEDULED /* whom the user's function asks */
};

enum {
    HINT_NONE,
    HINT_GIVEN, /* 1, as helper_add_pending_call() leaves it */
    HINT_UNSURE /* the call may be in the queue of another interpreter, and never begin */
};

#define HINTS_UNSURE 4 /* at most, of such calls that have not begun */

enum {
    HELPER_NONE, /* no thread */
    HELPER_FAILED, /* no thread, since none could be started: pushes add pending calls, and try again in a while */
    HELPER_BUSY, /* being started or joined by who set this, who then looks whether anything is pending */
    HELPER_AWAKE, /* will look at the lists again */
    HELPER_ACTING, /* the same, after it has run what may take long: pushes add pending calls */
    HELPER_TICKING, /* the same, waiting for the next tick: to stop it, post */
    HELPER_ASLEEP, /* has no thread state: to wake it, post */
    HELPER_ENDED /* has left its function: to be joined */
};

static struct {
    long state; /* atomic: HELPER_... */
    long forks; /* atomic: that are about to happen: no helper may run */
    long closed; /* atomic: the interpreter is going: likewise, for good */
    long mode; /* atomic: DRAIN_... */
    long changes; /* atomic: of the mode, ever */
    long unsure; /* atomic: pending calls of HINT_UNSURE that have not begun */
    long requested; /* atomic: a pending call that the helper added has not begun */
    long hinted; /* atomic: HINT_...: the same of one that the main thread added when it pushed */
    long generation; /* atomic: of processes; a fork makes a new one */
    int forbidden; /* in a child that was not forked on the main thread: Python ends there with the thread that forked,
                        and a helper would outlive it */
    int64_t failed; /* when it could not be started, nanoseconds */
    PyThread_type_lock lock; /* always held; a release of it is a post */
#if !defined(_WIN32)
    pthread_t thread;
    sigset_t mask; /* for the code of others that it runs: what that starts inherits it */
#endif
    unsigned long main_thread;
    /* Set once, by helper_setup. */
    PyInterpreterState *interpreter; /* the payloads' */
#if defined(HELPER_GUARDS)
    PyInterpreterView *view; /* of it: valid for ever */
    PyInterpreterGuard *guard; /* that the helper has */
#endif
    void (*drain)(int is_helper); /* GIL */
    int (*schedule)(void); /* GIL; calls the user's function; 0 if it raised */
} helper;

static EXTERNREF_THREAD_LOCAL int helper_is_this_thread;
#if !defined(_WIN32)
static EXTERNREF_THREAD_LOCAL int helper_prepared; /* helper_prepare_fork counted a fork of this thread's */
#endif

static int helper_is_closed(void)
{
    return atomic_flag_load(&helper.closed) != 0;
}

static int helper_must_stop(void)
{
    return atomic_flag_load(&helper.forks) != 0 || helper_is_closed();
}

/* Whether this thread has the GIL, of the payloads' interpreter. PyGILState_Check() says yes always where an interpreter
 * besides the main one was ever made. */
static int helper_has_gil(void)
{
    PyThreadState *const own = PyGILState_GetThisThreadState();
    return own != NULL && own == PyThreadState_GetUnchecked() && own->interp == helper.interpreter;
}

/* --- The main thread's turn --- */

static void helper_wake(void);

static int helper_pending_call(void *flag)
{
    atomic_flag_swap((long *)flag, 0); /* before the drain: what comes later asks anew */
    if (flag == &helper.hinted && atomic_flag_load(&helper.mode) == DRAIN_SCHEDULED) {
        helper_wake();
    }
    else if (PyInterpreterState_Get() == helper.interpreter) {
        helper.drain(0); /* 3.12 and later run it in the main interpreter, wherever it was added */
    }
    return 0;
}

/* Whether one waits. The interpreter's queue has 32 places, which others need too: we take one for each flag, and
 * HINTS_UNSURE. */
static int helper_add_pending_call(long *flag)
{
    if (!atomic_flag_replace(flag, 0, 1) || Py_AddPendingCall(helper_pending_call, flag) == 0) {
        return 1;
    }
    atomic_flag_swap(flag, 0);
    return 0;
}

static int helper_in_main_thread(void)
{
    return PyThread_get_thread_ident() == helper.main_thread;
}

static int helper_unsure_call(void *unused)
{
    (void)unused;
    atomic_flag_add(&helper.unsure, -1);
    return helper_pending_call(&helper.hinted);
}

/* The main thread pushed: it drains as soon as it runs Python code, and need not be asked by the helper, ten
 * milliseconds later. On 3.11 the call goes to the interpreter of who has the GIL then: if that may be another, a
 * drain forgets that it was given. */
static void helper_hint(void)
{
    if (helper_must_stop() || atomic_flag_load(&helper.mode) == DRAIN_SCHEDULED) {
        return;
    }
    if (PY_VERSION_HEX >= 0x030C0000 || helper_has_gil()) {
        helper_add_pending_call(&helper.hinted);
    }
    else if (atomic_flag_replace(&helper.hinted, HINT_NONE, HINT_UNSURE)) {
        if (atomic_flag_add(&helper.unsure, 1) > HINTS_UNSURE || Py_AddPendingCall(helper_unsure_call, NULL) != 0) {
            atomic_flag_add(&helper.unsure, -1);
            atomic_flag_replace(&helper.hinted, HINT_UNSURE, HINT_NONE);
        }
    }
}

/* --- The thread --- */

/* Signals are for the process's other threads, but for those that a thread causes itself: a finalizer may call
 * WebAssembly, whose traps they are. Those before. */
#if defined(_WIN32)
static void helper_block_signals(void)
{
}
static void helper_unblock_signals(void)
{
}
#else
static sigset_t helper_block_signals(void)
{
    static const int its_own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof(its_own) / sizeof(its_own[0]); i++) {
        sigdelset(&blocked, its_own[i]);
    }
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    return before;
}

static void helper_unblock_signals(void)
{
    pthread_sigmask(SIG_SETMASK, &helper.mask, NULL);
}
#endif

typedef struct {
    long generation;
    PyThreadState *thread_state; /* NULL while it sleeps */
    size_t popped; /* as it was at the last tick */
    long changes; /* likewise */
    int asked; /* the main thread, or the user's function, and nothing happened since */
    int idle; /* ticks in a row with nothing to do */
} Helper;

static int helper_is_news(const Helper *self)
{
    return self->popped != pending_popped() || self->changes != atomic_flag_load(&helper.changes);
}

static void helper_take_note(Helper *self)
{
    self->popped = pending_popped();
    self->changes = atomic_flag_load(&helper.changes);
    self->asked = 0;
    self->idle = 0;
}

/* That somebody drained is seen with what was pushed afterwards: a drain ends with a swap of the empty list. */
static int helper_has_work(const Helper *self)
{
    return pending_any() && (!self->asked || helper_is_news(self) || atomic_flag_load(&helper.mode) == DRAIN_AUTO);
}

/* With the GIL. */
static void helper_act(Helper *self)
{
    long mode = atomic_flag_load(&helper.mode);
    if (helper_must_stop() || helper_is_news(self)) {
        return; /* somebody drained while we waited for the GIL */
    }
    if (mode == DRAIN_AUTO && (self->asked || atomic_flag_load(&helper.requested))) {
        helper.drain(1);
        helper_take_note(self);
    }
    else if (mode == DRAIN_SCHEDULED && helper.schedule()) {
        self->asked = 1;
    }
    else {
        /* If the queue is full, it asks again at the next tick, or drains. */
        self->asked = helper_add_pending_call(&helper.requested) || mode == DRAIN_AUTO;
    }
    self->idle = 0;
}

/* With the GIL, which is given up with the thread state. Runs arbitrary code: what the thread's locals hold. */
static void helper_end_thread_state(Helper *self)
{
    PyThreadState_Clear(self->thread_state);
    PyThreadState_DeleteCurrent();
    self->thread_state = NULL;
}

/* Whether the interpreter stays there, until helper_let_go(). No GIL. */
static int helper_keep_interpreter(void)
{
#if defined(HELPER_GUARDS)
    helper.guard = PyInterpreterGuard_FromView(helper.view);
    return helper.guard != NULL;
#else
    return 1;
#endif
}

/* Why it does not, if that is not for want of memory. */
static int helper_is_too_late(void) /* not reached: before 3.15 */
{
#if defined(HELPER_GUARDS)
    return Py_IsFinalizing() || !Py_IsInitialized();
#else
    return 0; /* not reached: the same */
#endif
}

/* Arbitrary code comes after it: a finalizer that hangs would have the interpreter's end hang. */
static void helper_let_go(void)
{
#if defined(HELPER_GUARDS)
    PyInterpreterGuard *guard = helper.guard;
    if (guard != NULL) {
        helper.guard = NULL;
        PyInterpreterGuard_Close(guard);
    }
#endif
}

/* 0 if the process has forked in `act` and this is the child: its only thread now, and no helper. */
static int helper_with_gil(Helper *self, void (*act)(Helper *))
{
    int forked;
    if (!helper_keep_interpreter()) {
        if (helper_is_too_late()) { /* not reached: before 3.15 */
            /* It was the interpreter's, which has ended it. */
            self->thread_state = NULL; /* not reached: the same */
            atomic_flag_swap(&helper.closed, 1); /* not reached: the same */
        }
        /* Else the next tick tries again. */
        return 1; /* not reached: the same */
    }
    if (self->thread_state == NULL) {
        self->thread_state = PyThreadState_New(helper.interpreter);
        if (self->thread_state == NULL) {
            helper_let_go(); /* not reached: CPython 3.11 crashes before, in PyThreadState_New() without memory */
            return 1; /* not reached: the same; no memory: likewise */
        }
    }
    PyEval_RestoreThread(self->thread_state);
    helper_let_go();
    atomic_flag_swap(&helper.state, HELPER_ACTING);
    helper_unblock_signals();
    act(self);
    forked = self->generation != atomic_flag_load(&helper.generation);
    if (!forked) {
        helper_block_signals();
        atomic_flag_swap(&helper.state, HELPER_AWAKE);
    }
    if (forked && self->thread_state != NULL) {
        helper_end_thread_state(self);
    }
    else if (self->thread_state != NULL) {
        PyEval_SaveThread();
    }
    return !forked;
}

/* Waits for a post, or so many microseconds; for ever if negative. */
static void helper_wait(Helper *self, long state, long long microseconds)
{
    int go_on;
    atomic_flag_swap(&helper.state, state);
    go_on = helper_must_stop() || (state == HELPER_ASLEEP && helper_has_work(self));
    if ((go_on || PyThread_acquire_lock_timed(helper.lock, microseconds, 0) != PY_LOCK_ACQUIRED) &&
        !atomic_flag_replace(&helper.state, state, HELPER_AWAKE)) {
        /* Of who posts just now. */
        PyThread_acquire_lock(helper.lock, WAIT_LOCK); /* not reached: at that moment alone */
    }
}

static void helper_post(long state)
{
    if (atomic_flag_replace(&helper.state, state, HELPER_AWAKE)) {
        PyThread_release_lock(helper.lock);
    }
}

/* Until it must stop. As helper_with_gil. */
static int helper_tick(Helper *self)
{
    helper_take_note(self);
    while (!helper_must_stop()) {
        helper_wait(self, HELPER_TICKING, HELPER_TICK);
        if (helper_must_stop()) {
            break;
        }
        if (helper_is_news(self)) {
            helper_take_note(self);
        }
        else if (helper_has_work(self)) {
            if (!helper_with_gil(self, helper_act)) {
                return 0;
            }
        }
        else if (++self->idle >= HELPER_IDLE_TICKS) {
            if (self->thread_state != NULL && !helper_with_gil(self, helper_end_thread_state)) {
                return 0;
            }
            helper_wait(self, HELPER_ASLEEP, -1);
            self->idle = 0;
        }
    }
    return self->thread_state == NULL || helper_with_gil(self, helper_end_thread_state);
}

static void helper_run(void)
{
    Helper self = {0, NULL, 0, 0, 0, 0};
    self.generation = atomic_flag_load(&helper.generation);
    helper_is_this_thread = 1;
#if defined(__linux__)
    pthread_setname_np(pthread_self(), "externref-drain");
#elif defined(__APPLE__)
    pthread_setname_np("externref-drain");
#endif
#if !defined(_WIN32)
    helper.thread = pthread_self();
#endif
    do {
        atomic_flag_swap(&helper.state, HELPER_AWAKE);
        if (!helper_tick(&self)) {
            return;
        }
        atomic_flag_swap(&helper.state, HELPER_ENDED);
        /* The fork that it ends for may be over, having taken it for awake. */
    } while (!helper_must_stop() && atomic_flag_replace(&helper.state, HELPER_ENDED, HELPER_BUSY));
}

/* --- Starting and waking it; any thread, no GIL --- */

#if defined(_WIN32)

static void helper_main(void *unused)
{
    (void)unused;
    helper_run();
}

static int helper_start_thread(void)
{
    return PyThread_start_new_thread(helper_main, NULL) != PYTHREAD_INVALID_THREAD_ID;
}

static void helper_join_thread(void)
{
}

static void helper_pause(long microseconds)
{
    Sleep((DWORD)(microseconds / 1000 + 1));
}

#else

static void *helper_main(void *unused)
{
    (void)unused;
    helper_run();
    return NULL;
}

static int helper_start_thread(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t before;
    int error = pthread_attr_init(&attributes);
    if (error != 0) {
        return 0; /* not reached: glibc's does not fail */
    }
    error = pthread_attr_setstacksize(&attributes, HELPER_STACK);
    if (error == 0) {
        before = helper_block_signals(); /* it inherits that */
        error = pthread_create(&thread, &attributes, helper_main, NULL);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attributes);
    return error == 0;
}

static void helper_join_thread(void)
{
    pthread_join(helper.thread, NULL);
}

static void helper_pause(long microseconds)
{
    struct timespec pause = {0, microseconds * 1000};
    nanosleep(&pause, NULL);
}

#endif

static void helper_start_or_wake(void)
{
    for (;;) { /* not reached: once more, that is, for another thread that pushes at this moment */
        long state = atomic_flag_load(&helper.state), next = HELPER_NONE;
        int full = 0;
        if (state == HELPER_ASLEEP) {
            helper_post(state);
            return; /* if it did not, somebody else did */
        }
        if (state == HELPER_BUSY || state == HELPER_AWAKE || state == HELPER_TICKING || helper_must_stop()) {
            return;
        }
        if (state == HELPER_ACTING) {
            helper_hint();
            return;
        }
        if (!atomic_flag_replace(&helper.state, state, HELPER_BUSY)) {
            continue; /* not reached: another thread pushes at this moment */
        }
        if (state == HELPER_ENDED) {
            helper_join_thread();
        }
        if (!helper_must_stop()) {
            if (!helper.forbidden &&
                (state != HELPER_FAILED || monotonic_now() - helper.failed >= HELPER_TICK * INT64_C(1000))) {
                if (helper_start_thread()) {
                    return;
                }
                helper.failed = monotonic_now();
            }
            next = HELPER_FAILED;
            full = !helper_add_pending_call(&helper.requested);
        }
        atomic_flag_swap(&helper.state, next);
        /* Who pushed meanwhile, or let us go on, saw HELPER_BUSY and left the rest to us. */
        if (helper_must_stop() || !pending_any() ||
            (next == HELPER_FAILED && (full || atomic_flag_load(&helper.requested)))) {
            return;
        }
    }
}

static void helper_wake(void)
{
    long state;
    if (helper_in_main_thread() && !atomic_flag_load(&helper.hinted)) {
        helper_hint();
    }
    state = atomic_flag_load(&helper.state);
    if (state != HELPER_AWAKE && state != HELPER_TICKING) {
        helper_start_or_wake();
    }
}

static void helper_push(void *raw)
{
    pending_link(raw);
    helper_wake();
}

static void helper_push_hold(void *record)
{
    pending_link_hold(record);
    helper_wake();
}

/* --- For the holder of the GIL --- */

/* Somebody who drains is about to run a finalizer. If that waits, the rest is the helper's, which a fork may have stopped,
 * or which could not be started before. */
static inline void helper_restart(void)
{
    if (atomic_flag_load(&helper.state) == HELPER_NONE && pending_any()) {
        helper_start_or_wake();
    }
}

/* Somebody drains: that no helper could be started is over, perhaps. */
static inline void helper_drained(void)
{
    if (atomic_flag_load(&helper.state) == HELPER_FAILED) {
        atomic_flag_replace(&helper.state, HELPER_FAILED, HELPER_NONE);
    }
    if (atomic_flag_load(&helper.hinted) == HINT_UNSURE) {
        atomic_flag_replace(&helper.hinted, HINT_UNSURE, HINT_NONE);
    }
}

/* Whether the helper may drain on: finalizers are the user's to place, and a fork or the end waits for it. */
static inline int helper_may_drain(void)
{
    return atomic_flag_load(&helper.mode) == DRAIN_AUTO && !helper_must_stop();
}

static void helper_set_mode(long mode)
{
    atomic_flag_swap(&helper.mode, mode);
    atomic_flag_add(&helper.changes, 1);
}

/* After it, for what is pending. */
static void helper_tell_mode(void)
{
    if (pending_any()) {
        helper_wake();
    }
}

/* Waits until no helper runs, which the caller has forbidden, for so many microseconds at most. No GIL, or else a helper
 * that waits for it does not end. */
static void helper_await_end(long microseconds)
{
    const int64_t end = monotonic_now() + microseconds * INT64_C(1000);
    long pause = 20, state;
    while ((state = atomic_flag_load(&helper.state)) != HELPER_NONE && state != HELPER_FAILED) {
        if (state == HELPER_TICKING || state == HELPER_ASLEEP) {
            helper_post(state);
        }
        else if (state == HELPER_ENDED && atomic_flag_replace(&helper.state, state, HELPER_BUSY)) {
            helper_join_thread();
            atomic_flag_swap(&helper.state, HELPER_NONE);
        }
        else if (monotonic_now() < end) {
            helper_pause(pause);
            pause = pause < 5000 ? pause * 2 : pause;
        }
        else {
            break;
        }
    }
}

static void helper_stop(long microseconds)
{
    long state = atomic_flag_load(&helper.state);
    if (state != HELPER_NONE && state != HELPER_FAILED && !helper_is_this_thread) {
        Py_BEGIN_ALLOW_THREADS helper_await_end(microseconds);
        Py_END_ALLOW_THREADS
    }
}

/* A fork is over, or was never begun: a child that goes on as a parent, after a fork in a hook, has begun anew. */
static void helper_end_fork(void)
{
    long forks;
    do {
        forks = atomic_flag_load(&helper.forks);
    } while (forks > 0 && !atomic_flag_replace(&helper.forks, forks, forks - 1));
}

/* os.fork()'s hooks. A helper that ran would make 3.12 and later warn, and be missing in the child. */
static void helper_before_fork(void)
{
    atomic_flag_add(&helper.forks, 1);
    helper_stop(HELPER_FORK_WAIT);
}

/* In the parent and in the child. The helper is not started here: 3.13 has not counted the parent's threads yet. */
static void helper_after_fork(int child)
{
    if (!child) {
        helper_end_fork();
    }
    if (pending_any() && !(helper_in_main_thread() && helper_add_pending_call(&helper.hinted))) {
        helper_wake();
    }
}

#if !defined(_WIN32)
/* The C library's hooks, which see forks by C code too. If that has let the GIL go, the helper may hold it, and
 * nobody would let it go in the child. */
static void helper_prepare_fork(void)
{
    if (!helper_is_this_thread && Py_IsInitialized() && !PyGILState_Check()) {
        helper_prepared = 1;
        atomic_flag_add(&helper.forks, 1);
        helper_await_end(HELPER_FORK_WAIT);
    }
}

static void helper_in_parent(void)
{
    if (helper_prepared) {
        helper_prepared = 0;
        helper_end_fork();
        if (pending_any()) {
            helper_wake();
        }
    }
}

/* No thread but this one is left, nor what others were about to do. */
static void helper_in_child(void)
{
    helper_prepared = 0;
    helper_is_this_thread = 0;
    helper_let_go(); /* what a helper had that is not here: the end would wait for it */
    helper.forbidden |= !helper_in_main_thread();
    helper.main_thread = PyThread_get_thread_ident();
    atomic_flag_add(&helper.generation, 1);
    atomic_flag_swap(&helper.forks, 0);
    atomic_flag_swap(&helper.requested, 0);
    atomic_flag_swap(&helper.unsure, 0);
    atomic_flag_swap(&helper.hinted, 0);
    PyThread_acquire_lock(helper.lock, NOWAIT_LOCK); /* if it was posted and not taken */
    atomic_flag_swap(&helper.state, HELPER_NONE);
}
#endif

/* At exit: no thread state of the helper's is left, or it hangs in a finalizer. Pushes only link from now on. */
static void helper_close(void)
{
    atomic_flag_swap(&helper.closed, 1);
    helper_stop(HELPER_EXIT_WAIT);
}

/* 0 if there is no memory. */
static int helper_setup(unsigned long main_thread, void (*drain)(int), int (*schedule)(void))
{
    helper.main_thread = main_thread;
    helper.drain = drain;
    helper.schedule = schedule;
    helper.interpreter = PyInterpreterState_Get();
    helper.lock = PyThread_allocate_lock();
    if (helper.lock == NULL) {
        return 0; /* not reached: no memory at import */
    }
    PyThread_acquire_lock(helper.lock, NOWAIT_LOCK);
#if defined(HELPER_GUARDS)
    helper.view = PyInterpreterView_FromCurrent();
    if (helper.view == NULL) {
        return 0;
    }
#endif
#if !defined(_WIN32)
    pthread_sigmask(SIG_SETMASK, NULL, &helper.mask);
    if (pthread_atfork(helper_prepare_fork, helper_in_parent, helper_in_child) != 0) {
        return 0; /* not reached: no memory at import */
    }
#endif
    return 1;
}

#endif /* EXTERNREF_HELPER_H */
