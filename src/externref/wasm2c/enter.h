/* The way into compiled Wasm code and out of it, what it is asked now and then, and the stack in between.
 *
 * What runs is a store's, on one thread at a time. While compiled code runs the GIL is held, or is not, as the call wants;
 * who comes back to it from Python puts everything back in C, when the last Python object is gone: an imported function may
 * have run other stores' code on this thread. */
#ifndef EXTERNREF_WASM2C_ENTER_H
#define EXTERNREF_WASM2C_ENTER_H

#if defined(__linux__) && !defined(_GNU_SOURCE)
#  define _GNU_SOURCE
#endif
#include <Python.h>
#include <pthread.h>
#include <setjmp.h>
#include <unwind.h>
#include "_activations/refset.h"
#include "_core/atomics.h"
#include "_core/locks.h"
#include "_core/monotonic.h"
#include "_core/thread_local.h"
#include "wasm2c/allocate.h"

/* No more of a stack is used: one without a limit would take all memory. */
#define MOST_STACK ((size_t)64 << 20)

/* Nanoseconds after which compiled code looks at signals and lets others have the GIL: longer than they wait, five milliseconds,
 * before they ask for it, which is what makes CPython switch. */
#define POLL_TIME 20000000
/* The budget between two looks at the clock. What one of it buys, 1,024 turns of a loop, may take ten thousand times what
 * another does, a call: the most bounds how late a look comes after what was cheap, to half a second or so. Where all is
 * cheap there is a look every 8 microseconds then, which takes 1/200 of the time. */
#define LEAST_BUDGET 1000
#define MOST_BUDGET (1 << 12)
/* Of it for what the system does to make a memory larger, a microsecond or two, and for bytes that are moved. */
#define GROW_BUDGET 1000
#define BYTES_OF_BUDGET 16

/* Without the signal mask: that is a system call. On Windows (x86-64) a NULL frame has longjmp() put the registers back,
 * and not unwind, which compiled code's frames need not. */
#if defined(_WIN32)
#  define set_jump(here) _setjmp(here, NULL)
#else
#  define set_jump(here) _setjmp(here)
#endif

#define MOST_FRAMES 32 /* that a trap names */

typedef struct {
    int function; /* that trapped, by index; -1 if it did not say */
    int count;
    void *frames[MOST_FRAMES]; /* where the functions begin that ran, the innermost first, whosever they are */
} Trapped;

/* A store's. All under the GIL, or in the store's section, but for what says otherwise. */
typedef struct {
    Wasm2cState seen;           /* by compiled code; first */
    jmp_buf *innermost;         /* that a trap leaves to; NULL if nothing runs */
    PyThreadState *without_gil; /* of the innermost call, if it let the GIL go */
    PyThreadState *thread; /* atomic: that may use the store while something runs; NULL: none, it is in the middle */
    uint64_t thread_id; /* its own, as no other's ever */
    _PyStackChunk *python_frames; /* where the thread had its last one, when the outermost call began */
    char *host_limit; /* of the thread's stack, for host functions */
    void *base; /* the end of the stack that compiled code uses */
    PyObject *guard; /* what has the store's critical section, borrowed */
    long interrupted; /* atomic */
    int64_t share; /* the budget from one look at the clock to the next */
    int64_t looked; /* when it last let others run, in nanoseconds */
    int64_t timeout; /* nanoseconds for an outermost call; 0 if there is no limit */
    int64_t deadline;
    MemoryQuota memory;
    Quota tables; /* elements */
    Trapped trapped; /* at the last trap */
} Running;

static Wasm2cHost host;

/* What runs on this thread. */
static EXTERNREF_THREAD_LOCAL Running *running;

static _Unwind_Reason_Code note_frame(struct _Unwind_Context *context, void *noting)
{
    Running *self = noting;
    if (self->trapped.count == MOST_FRAMES || (char *)_Unwind_GetCFA(context) > (char *)self->innermost) {
        return _URC_END_OF_STACK;
    }
    self->trapped.frames[self->trapped.count++] = (void *)_Unwind_GetRegionStart(context);
    return _URC_NO_REASON;
}

/* Leaves compiled code: longjmp over its frames alone. */
static void leave(int reason)
{
    longjmp(*running->innermost, reason);
}

static void trap(int reason, int function)
{
    Running *self = running;
    self->trapped.function = function;
    self->trapped.count = 0;
    _Unwind_Backtrace(note_frame, self);
    leave(reason);
}

static size_t within(size_t value, size_t least, size_t most)
{
    return value < least ? least : value > most ? most : value;
}

/* What is left of a stack when Wasm code is stopped: the largest frame there may be, and a part of the stack for what
 * carries values to the host, for signal handlers and for C libraries. */
static size_t reserve_of(size_t size)
{
    return WASM2C_MAX_FRAME + within(size / 16, 64 * 1024, 512 * 1024);
}

/* And when a host function is not called any more, which is Python, and may recurse through C. */
static size_t host_reserve_of(size_t size)
{
    return reserve_of(size) +
           (size < 1024 * 1024 ? within(size / 8, 32 * 1024, 128 * 1024) : within(size / 4, 256 * 1024, 2048 * 1024));
}

/* The lowest addresses that frames may have on a thread. */
typedef struct {
    char *compiled;
    char *host;
} StackLimits;

/* Both are NULL if they cannot be found out now. */
static StackLimits find_stack_limits(void)
{
    StackLimits limits = {NULL, NULL};
    char *const here = __builtin_frame_address(0);
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
    if (low != NULL) {
        if ((size_t)(here - low) > MOST_STACK) {
            low = here - MOST_STACK;
            size = MOST_STACK;
        }
        limits.compiled = low + reserve_of(size);
        limits.host = low + host_reserve_of(size);
    }
    return limits;
}

static inline StackLimits stack_limits(void)
{
    /* Kept for each thread: to ask reads a file, on Linux's main thread. */
    static EXTERNREF_THREAD_LOCAL StackLimits limits;
    if (limits.compiled == NULL) {
        limits = find_stack_limits();
    }
    if (limits.compiled == NULL) { /* unknown: from here on there will be this much, or nothing at all */
        const StackLimits unknown = {(char *)__builtin_frame_address(0) - reserve_of(0),
                                     (char *)__builtin_frame_address(0) - reserve_of(0)};
        return unknown;
    }
    return limits;
}

/* Runs signal handlers; 0, or why to leave. Where there is not enough stack for them they wait, but for Ctrl-C's, which
 * runs when the code has ended. */
static int run_handlers(Running *self)
{
    if ((char *)__builtin_frame_address(0) > self->host_limit) {
        return PyErr_CheckSignals() != 0 ? WASM2C_RAISED : 0;
    }
    if (PyOS_InterruptOccurred()) {
        PyErr_SetInterrupt();
        return WASM2C_INTERRUPTED;
    }
    return 0;
}

/* Lets signal handlers and other threads run; 0, or why to leave. Meanwhile nobody may use the store: compiled code has
 * addresses in it in its registers. */
static int look_around(Running *self)
{
    PyThreadState *const without_gil = self->without_gil;
    PyThreadState *const thread = self->thread;
    int reason;
    if (without_gil != NULL) {
        PyEval_RestoreThread(without_gil);
    }
    atomic_pointer_store((void **)&self->thread, NULL);
    reason = run_handlers(self);
    if (without_gil == NULL && reason == 0) {
        PyEval_RestoreThread(PyEval_SaveThread());
    }
    atomic_pointer_store((void **)&self->thread, thread);
    if (without_gil != NULL) {
        PyEval_SaveThread(); /* who is left to takes it, and the exception */
    }
    running = self;
    return reason;
}

static int reason_at(Running *self, int64_t time)
{
    return atomic_flag_load(&self->interrupted) || (self->timeout != 0 && time >= self->deadline) ? WASM2C_INTERRUPTED
                                                                                                  : 0;
}

static void leave_for(int reason)
{
    if (reason == WASM2C_INTERRUPTED) {
        trap(reason, -1);
    }
    if (reason != 0) {
        leave(reason);
    }
}

static int go_on(Wasm2cState *seen, const char *frame)
{
    Running *self = (Running *)seen;
    if (seen->budget < 0) {
        const int64_t time = monotonic_now(), since = time - self->looked;
        int reason = 0;
        if (since < POLL_TIME / 2) {
            self->share = (int64_t)within((size_t)self->share * 2, LEAST_BUDGET, MOST_BUDGET);
        }
        else {
            self->share = since > 2 * POLL_TIME && self->share > LEAST_BUDGET ? self->share / 2 : self->share;
            self->looked = time;
            reason = look_around(self);
        }
        seen->budget = self->share;
        leave_for(reason != 0 ? reason : reason_at(self, monotonic_now()));
    }
    return frame > seen->stack_limit;
}

/* Calls compiled code; 0, or why it was left. In the store's section, which ends meanwhile: `innermost` and `thread`
 * keep other threads out, and CPython's list of a thread's sections is on the stack, which a host function may change
 * for another greenlet's. */
static int enter(Running *self, Section *section, Wasm2cCall call, void (*code)(void), void *instance, uint64_t *slots,
                 int release_gil)
{
    jmp_buf here;
    jmp_buf *const outer = self->innermost;
    Running *const outer_running = running;
    PyThreadState *const outer_without_gil = self->without_gil;
    int reason;
    if (outer == NULL) {
        atomic_pointer_store((void **)&self->thread, PyThreadState_Get());
        self->thread_id = self->thread->id;
        self->python_frames = self->thread->datastack_chunk;
        self->base = __builtin_frame_address(0);
        const StackLimits limits = stack_limits();
        self->seen.stack_limit = limits.compiled;
        self->host_limit = limits.host;
        self->share = self->seen.budget = LEAST_BUDGET;
        self->looked = 0; /* long ago: the first look is a real one, but after a host function */
        self->interrupted = 0;
        if (self->timeout != 0) {
            self->deadline = monotonic_now() + self->timeout;
        }
    }
    if ((char *)__builtin_frame_address(0) <= self->seen.stack_limit) { /* what carries the values looks at nothing */
        self->trapped.function = -1;
        self->trapped.count = 0;
        return WASM2C_EXHAUSTED;
    }
    running = self;
    self->innermost = &here;
    section_end(section);
    self->without_gil = release_gil ? PyEval_SaveThread() : NULL;
    reason = set_jump(here);
    if (reason == 0) {
        call(code, instance, slots);
    }
    if (self->without_gil != NULL) {
        PyEval_RestoreThread(self->without_gil);
    }
    section_begin(section, self->guard);
    self->without_gil = outer_without_gil;
    self->innermost = outer;
    running = outer_running;
    return reason;
}

static int (*call_host_function)(void *, uint64_t *);

static int call_host(void *function, uint64_t *slots)
{
    Running *const self = running;
    PyThreadState *const without_gil = self->without_gil;
    int result;
    if ((char *)__builtin_frame_address(0) <= self->host_limit) {
        trap(WASM2C_EXHAUSTED, -1);
    }
    if (without_gil != NULL) {
        PyEval_RestoreThread(without_gil);
        self->without_gil = NULL;
    }
    result = call_host_function(function, slots);
    self->without_gil = without_gil;
    if (without_gil != NULL) {
        PyEval_SaveThread();
    }
    running = self;
    if (result == 0) {
        /* The budget does not know how long the host took. */
        const int64_t time = monotonic_now();
        int reason = 0;
        if (self->looked == 0) {
            self->looked = time;
        }
        else if (time - self->looked >= POLL_TIME) {
            self->looked = time;
            reason = look_around(self);
        }
        leave_for(reason != 0 ? reason : reason_at(self, time));
    }
    return result;
}

/* What ran before: for who has compiled code do something for a store that asks nothing but free_memory() and free_table(). */
static Running *set_running(Running *self)
{
    Running *before = running;
    running = self;
    return before;
}

static void allocate_memory(Wasm2cMemory *memory, uint64_t pages, uint64_t max_pages, int is64, uint32_t page_size)
{
    const int reason = new_memory(&running->memory, memory, pages, max_pages, is64, page_size);
    if (reason != 0) {
        leave(reason);
    }
}

/* Before a memory or table grows, so that what is left has not grown: the loop around looks every 1,024th turn only. */
static void look_before(Running *self)
{
    if (self->seen.budget < 0) {
        go_on(&self->seen, NULL);
    }
}

/* Takes from the budget for one that grew, or could not, and bytes that may have been moved. */
static void spend(Running *self, uint64_t moved)
{
    const int64_t cost = GROW_BUDGET + (int64_t)(moved / BYTES_OF_BUDGET);
    self->seen.budget = self->seen.budget > cost ? self->seen.budget - cost : -1;
}

static uint64_t grow_memory(Wasm2cMemory *memory, uint64_t pages)
{
    uint64_t before;
    look_before(running);
    before = more_memory(&running->memory, memory, pages);
    spend(running, is_usual(memory) ? 0 : memory->size);
    return before;
}

static void free_memory(Wasm2cMemory *memory)
{
    end_memory(&running->memory, memory);
}

static void allocate_table(Wasm2cTable *table, uint32_t elements, uint32_t max_elements, size_t element_size)
{
    const int reason = new_table_of(&running->tables, table, elements, max_elements, element_size);
    if (reason != 0) {
        leave(reason);
    }
}

static uint32_t grow_table(Wasm2cTable *table, uint32_t elements, const void *value, size_t element_size)
{
    uint32_t before;
    look_before(running);
    before = more_table(&running->tables, table, elements, value, element_size);
    spend(running, table->size * element_size);
    return before;
}

static void free_table(Wasm2cTable *table)
{
    end_table(&running->tables, table);
}

/* Whether what runs is on this thread, and on the stack above us: if a greenlet was switched to, it is on the heap. No
 * module is asked for greenlets, which may say anything. Each has its own stack of Python frames, in chunks, and what
 * runs was called from one of them. */
static int is_here(const Running *self)
{
    PyThreadState *thread = PyThreadState_Get();
    _PyStackChunk *chunk;
    if (thread != atomic_pointer_load((void **)&self->thread) || thread->id != self->thread_id) {
        return 0; /* the address may be a dead thread's */
    }
    for (chunk = thread->datastack_chunk; chunk != NULL; chunk = chunk->previous) {
        if (chunk == self->python_frames) {
            return 1;
        }
    }
    return 0;
}

/* Whether nothing of Python's calls us: is_here() could not tell, then. */
static inline int is_called_by_none(void)
{
    return PyThreadState_Get()->datastack_chunk == NULL;
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
