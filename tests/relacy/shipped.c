/* What is shipped, as it is shipped, and what scenarios call of it.
 *
 * Compiled with -fsanitize=thread, but linked without its library: model.hpp has the functions that the compiler's
 * instructions call before each access, and instead of each atomic one. */
#include "shipped.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Threads are fibers of one thread here: model.hpp keeps this section for each. */
#define EXTERNREF_THREAD_LOCAL_H
#define EXTERNREF_THREAD_LOCAL __attribute__((section("model_thread")))

#define HELPER_IDLE_TICKS 2

int model_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);
int model_pthread_join(pthread_t thread);
void model_pause(void);
long model_nanoseconds(void);
#define pthread_create model_pthread_create
#define pthread_join(thread, result) model_pthread_join(thread)
#define pthread_self() ((pthread_t)1)
#define pthread_atfork(prepare, parent, child) ((void)(prepare), (void)(parent), (void)(child), 0)
#define pthread_setname_np(thread, name) ((void)(thread))
#define pthread_sigmask no_sigmask
#define nanosleep(time, rest) ((void)(time), model_pause())
#define sched_yield() model_pause()
#define clock_gettime(clock, time) ((time)->tv_sec = 0, (time)->tv_nsec = model_nanoseconds())
#define free(block) model_freed(block)

static int no_sigmask(int how, const sigset_t *set, sigset_t *before)
{
    (void)how;
    (void)set;
    if (before != NULL) {
        sigemptyset(before);
    }
    return 0;
}

#include "native.h"

static struct {
    long notes[OWNERS]; /* the payload: what each owner has to say */
    VMExternData footer;
} blocks[BLOCKS];
static ExternrefHold holds[HOLDS];

static void shipped_dropped(void *value);
static VMExternVTable vtables[] = {
    {NULL, sizeof(blocks[0].notes), sizeof(long), "links", pending_link},
    {NULL, sizeof(blocks[0].notes), sizeof(long), "pushes", drop_later},
    {shipped_dropped, sizeof(blocks[0].notes), sizeof(long), "anywhere", drop_anywhere},
};
static int used[BLOCKS]; /* of each block's notes, how many are to be 1 */

#define SEE(field) model_see((void *)&(field), sizeof(field), owner, #field)

void shipped_start(void)
{
    const void *owner = NULL;
    SEE(pending.head);
    SEE(pending.batch);
    SEE(pending.holds);
    SEE(pending.holds_batch);
    SEE(pending.popped);
#ifdef Py_GIL_DISABLED
    SEE(pending.lock);
#endif
    SEE(helper.state);
    SEE(helper.forks);
    SEE(helper.closed);
    SEE(helper.mode);
    SEE(helper.changes);
    SEE(helper.unsure);
    SEE(helper.requested);
    SEE(helper.hinted);
    SEE(helper.generation);
    SEE(helper.forbidden);
    SEE(helper.failed);
    SEE(helper.thread);
    for (int i = 0; i < BLOCKS; i++) {
        owner = &blocks[i];
        for (int j = 0; j < OWNERS; j++) {
            SEE(blocks[i].notes[j]);
        }
        SEE(blocks[i].footer.ref_count);
        SEE(blocks[i].footer.value_ptr);
        SEE(blocks[i].footer.vtable);
        SEE(blocks[i].footer.handles);
        SEE(blocks[i].footer.state);
    }
    for (int i = 0; i < HOLDS; i++) {
        owner = &holds[i];
        SEE(holds[i].footer);
        SEE(holds[i].next);
    }
}

static int schedule(void)
{
    return model_schedule();
}

void shipped_reset(enum Drop drop, int owners)
{
    memset(&pending, 0, sizeof(pending));
    memset(&helper, 0, sizeof(helper));
    memset(blocks, 0, sizeof(blocks));
    memset(holds, 0, sizeof(holds));
    memset(used, 0, sizeof(used));
    helper_setup(0, shipped_drain, schedule);
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i].footer.ref_count = (size_t)owners;
        blocks[i].footer.value_ptr = blocks[i].notes;
        blocks[i].footer.vtable = &vtables[drop];
    }
}

int shipped_has_gil(void)
{
    return !EXTERNREF_FREE_THREADED;
}

void *shipped_block(int i)
{
    return &blocks[i].footer;
}

static int number_of(const void *value)
{
    return (int)(((const char *)value - (const char *)blocks) / (ptrdiff_t)sizeof(blocks[0]));
}

void shipped_clone(void *raw)
{
    model_assert(externref_clone(raw) == raw, "a clone is the same pointer");
}

void shipped_use(void *raw, int owner)
{
    long *notes = (long *)externref_value(raw);
    notes[owner]++;
    used[number_of(notes)]++;
}

void shipped_drop(void *raw)
{
    externref_drop(raw);
}

void shipped_let_go(int hold, int block, int pushes)
{
    holds[hold].footer = &blocks[block].footer;
    if (pushes) {
        helper_push_hold(&holds[hold]);
    }
    else {
        pending_link_hold(&holds[hold]);
    }
}

void *shipped_pop(void)
{
    return pending_pop();
}

/* Before the memory goes: no owner's use may be missing, or still under way. */
static void shipped_dropped(void *value)
{
    const long *notes = (const long *)value;
    long sum = 0;
    for (int i = 0; i < OWNERS; i++) {
        sum += notes[i];
    }
    model_assert(sum == used[number_of(value)], "all uses are over");
    model_dropped();
}

void shipped_free(void *raw)
{
    VMExternData *data = (VMExternData *)raw;
    model_assert(EXTERNREF_ACQUIRE(&data->ref_count) == 0, "nobody owns what is freed");
    model_assert(!pending_is_linked(data), "it is in no list");
    block_settle(data);
    shipped_dropped(data->value_ptr);
    native_free(data);
}

int shipped_pop_hold(void)
{
    ExternrefHold *hold = pending_pop_hold();
    VMExternData *data;
    if (hold == NULL) {
        return 0;
    }
    data = hold->footer;
    model_freed(hold);
    if (EXTERNREF_DECREMENT(&data->ref_count) == 1) { /* as drop_handle_counted() in block.pxi */
        (void)EXTERNREF_ACQUIRE(&data->ref_count);
        shipped_free(data);
        model_finalize(number_of(data), 0);
    }
    return 1;
}

void shipped_revive(void *raw)
{
    EXTERNREF_INCREMENT(&((VMExternData *)raw)->ref_count);
}

int shipped_any(void)
{
    return pending_any();
}

size_t shipped_count(void)
{
    return pending_count();
}

void shipped_drain(int is_helper)
{
    VMExternData *data;
    if (pending_set_draining(1)) {
        helper_restart();
        return;
    }
    helper_drained();
    for (;;) {
        if (is_helper && !helper_may_drain()) {
            break;
        }
        data = pending_pop();
        if (data != NULL) {
            shipped_free(data);
            helper_restart();
            model_finalize(number_of(data), is_helper);
        }
        else if (!shipped_pop_hold()) {
            break;
        }
    }
    pending_set_draining(0);
}

void shipped_set_mode(enum Mode mode)
{
    helper_set_mode((long)mode);
    helper_tell_mode();
}

void shipped_before_fork(void)
{
    helper_before_fork();
}

void shipped_after_fork(int is_child)
{
    helper_after_fork(is_child);
}

void shipped_prepare_fork(void)
{
    helper_prepare_fork();
}

void shipped_in_parent(void)
{
    helper_in_parent();
}

void shipped_in_child(void)
{
    helper_in_child();
}

void shipped_close(void)
{
    helper_close();
}
