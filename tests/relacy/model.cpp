/* The world around the shipped code, and the runner: see model.hpp. */
#include "fields.hpp"

#include <errno.h>
#include <pthread.h>

#include <chrono>

extern "C" {
#include "python/Python.h"
#include "python/pythread.h"
}
#include "model.hpp"

namespace model {

// --- The world around ------------------------------------------------------------

enum { QUEUE = 4 };

struct Call {
    int (*call)(void *);
    void *argument;
};

struct World {
    rl::mutex gil;
    int gil_owner; // -1: nobody
    rl::semaphore<World> lock;    // PyThread's
    rl::semaphore<World> started; // the helper's thread, or the end
    rl::semaphore<World> ended;
    int events; // that the main thread may wait for: a block was dropped, a call was added
    bool main_waits;
    void *(*run)(void *);
    void *argument;
    bool helper_runs;
    bool helper_idles; // its fiber waits for a start
    bool helper_sleeps; // in PyThread's lock
    bool is_forking;
    bool waits_for_gil[THREADS];
    bool has_left[THREADS];
    int starts_that_fail;
    long nanoseconds;
    Call calls[QUEUE];
    int call_count;
    int dropped;
};

static World *world;
static Scenario *scenario;
static Scenario *all, **end = &all;
static PyInterpreterState interpreter;
static PyThreadState thread_states[THREADS];

void take_gil()
{
    if (!shipped_has_gil() || is_control("gil-not-taken")) {
        return;
    }
    {
        Away away;
        world->waits_for_gil[rl::thread_index()] = true;
        world->gil.lock(RL_INFO);
        world->waits_for_gil[rl::thread_index()] = false;
        world->gil_owner = rl::thread_index();
    }
    if (born[rl::thread_index()] != process) {
        give_gil();
        leave_if_gone();
    }
}

void give_gil()
{
    Away away;
    if (shipped_has_gil() && !is_control("gil-not-taken")) {
        world->gil_owner = -1;
        world->gil.unlock(RL_INFO);
    }
}

static bool wait(rl::semaphore<World> &semaphore, bool is_try, bool is_timed)
{
    bool is_posted;
    do_what_was_deferred();
    {
        Away away;
        is_posted = semaphore.wait(is_try, is_timed, RL_INFO) == rl::sema_wakeup_reason_success;
    }
    leave_if_gone();
    return is_posted;
}

static bool wait_for_post(bool is_try, bool is_timed)
{
    world->helper_sleeps = !is_try;
    const bool is_posted = wait(world->lock, is_try, is_timed);
    world->helper_sleeps = false;
    return is_posted;
}

static void post(rl::semaphore<World> &semaphore)
{
    unsigned before;
    Away away;
    if (!semaphore.post(1, before, RL_INFO) && born[rl::thread_index()] == process) {
        fail("posted twice", "", rl::test_result_user_assert_failed);
    }
}

void linger(unsigned turns)
{
    for (turns = rl::rand(turns + 1); turns > 0; turns--) {
        let_others_run();
    }
}

// These two order nothing: who is told of an event is told no more.
void note_event()
{
    world->events++;
    if (world->main_waits) {
        world->main_waits = false;
        rl::ctx().unpark_thread(0, false, RL_INFO);
    }
}

void wait_for_event()
{
    do_what_was_deferred();
    Away away;
    while (world->events == 0) {
        world->main_waits = true;
        rl::ctx().park_current_thread(false, false, false, RL_INFO);
    }
    world->events--;
}

void let_others_run()
{
    {
        Away away;
        rl::yield(1, RL_INFO);
    }
    leave_if_gone();
}

void check(bool condition, const char *what)
{
    if (!condition) {
        fail("not true", what, rl::test_result_user_assert_failed);
    }
}

// For the main thread, with the GIL, as its eval loop does it.
void run_calls()
{
    while (world->call_count > 0) {
        Call call = world->calls[0];
        memmove(world->calls, world->calls + 1, sizeof(Call) * --world->call_count);
        check(call.call(call.argument) == 0, "a pending call does not raise");
        do_what_was_deferred();
    }
}

// The main thread is in C code, without the GIL: it runs no pending call.
void sit_until_dropped(int count)
{
    while (world->dropped < count) {
        wait_for_event();
    }
}

// It runs Python code.
void compute_until_dropped(int count)
{
    for (;;) {
        take_gil();
        run_calls();
        give_gil();
        if (world->dropped >= count) {
            break;
        }
        wait_for_event();
    }
}

// As another thread does that looks now and then.
void look_until_dropped(int count)
{
    while (world->dropped < count) {
        let_others_run();
    }
}

void close()
{
    take_gil();
    shipped_drain(0);
    shipped_close();
    check(!helper_runs(), "no helper outlives the end");
    shipped_drain(0);
    give_gil();
    world->run = NULL; // the model's last thread goes
    post(world->started);
}

// Those that wait for the GIL have done all that they had to do before the fork.
static bool are_others_gone()
{
    const int helper = scenario->has_helper ? scenario->threads - 1 : THREADS;
    for (int i = 1; i < scenario->threads; i++) {
        const bool is_gone = i == helper ? world->helper_idles && !world->helper_runs : world->has_left[i];
        if (!is_gone && !world->waits_for_gil[i]) {
            return false;
        }
    }
    return true;
}

void become_child()
{
    unsigned before;
    born[0] = ++process;
    world->is_forking = true;
    if (world->helper_sleeps) {
        Away away;
        world->lock.post(1, before, RL_INFO);
    }
    while (!are_others_gone()) {
        let_others_run();
    }
    world->is_forking = world->helper_runs = false;
    if (world->helper_idles) {
        born[scenario->threads - 1] = process; // the next that starts is the child's
    }
    wait(world->ended, true, false); // of a helper that was to be joined
    {
        Away away;
        end_fields();
        begin_fields();
    }
    shipped_in_child();
}

bool helper_runs()
{
    return world->helper_runs;
}

int dropped()
{
    return world->dropped;
}

void fail_starts(int count)
{
    world->starts_that_fail = count;
}

unsigned choose(unsigned count)
{
    return rl::rand(count);
}

// --- Scenarios -------------------------------------------------------------------

Scenario::Scenario(const char *name_, int threads_, bool has_helper_, Drop drop_, int owners_, int drops_)
    : name(name_), threads(threads_), has_helper(has_helper_), drop(drop_), owners(owners_), drops(drops_), next(NULL)
{
    *end = this;
    end = &next;
}

Scenario::~Scenario()
{
}

// Python code: threads may switch.
void Scenario::finalize(int, bool)
{
    if (world->gil_owner == (int)rl::thread_index() && choose(2) != 0) {
        give_gil();
        take_gil();
    }
}

int Scenario::schedule()
{
    check(false, "nobody asked for schedule()");
    return 0;
}

template <int threads> struct Suite : rl::test_suite<Suite<threads>, threads> {
    World own;

    void before()
    {
        static_assert(threads <= THREADS, "more threads than fields have stamps for");
        world = &own;
        own.gil_owner = -1;
        own.lock.init(false, 0, 1, RL_INFO);
        own.started.init(false, 0, 1, RL_INFO);
        own.ended.init(false, 0, 1, RL_INFO);
        own.events = own.starts_that_fail = own.call_count = own.dropped = 0;
        own.main_waits = own.helper_runs = own.helper_idles = own.helper_sleeps = own.is_forking = false;
        memset(own.waits_for_gil, 0, sizeof(own.waits_for_gil));
        memset(own.has_left, 0, sizeof(own.has_left));
        process = 0;
        memset(born, 0, sizeof(born));
        own.nanoseconds = 0;
        are_begun = false;
        shipped_reset(scenario->drop, scenario->owners);
        begin_fields();
        scenario->prepare();
    }

    void thread(int i)
    {
        const bool is_helper = scenario->has_helper && i == threads - 1;
        memset(__start_model_thread, 0, Away::size());
        if (setjmp(ends[i]) != 0) { // it is gone
            deferred[i].field = NULL;
            own.helper_runs &= !(is_helper && own.is_forking);
        }
        else if (!is_helper) {
            scenario->run(i);
        }
        own.has_left[i] = true;
        if (is_helper) {
            run_helpers(i);
        }
    }

    void run_helpers(int i)
    {
        for (;;) {
            own.helper_sleeps = false;
            own.helper_idles = true;
            born[i] = process;
            wait(own.started, false, false);
            own.helper_idles = false;
            if (own.run == NULL) {
                break;
            }
            memset(__start_model_thread, 0, Away::size());
            own.run(own.argument);
            own.helper_runs = false;
            post(own.ended);
        }
    }

    void after()
    {
        memset(__start_model_thread, 0, Away::size());
        shipped_drain(0); // what was pushed after the end
        check(!shipped_any(), "nothing is pending");
        check(own.dropped == scenario->drops || process > 0, "every block was dropped");
        end_fields();
        own.lock.deinit(RL_INFO);
        own.started.deinit(RL_INFO);
        own.ended.deinit(RL_INFO);
    }
};

// Again with a history, if something was found.
template <int threads> void simulate(rl::test_params &params)
{
    typedef rl::random_scheduler<threads> scheduler;
    rl::ostringstream state;
    if (rl::run_test<Suite<threads>, scheduler>(params, state, false) != rl::test_result_success) {
        params.initial_state = state.str();
        params.collect_history = true;
        rl::run_test<Suite<threads>, scheduler>(params, state, true);
    }
}

// SCENARIO ITERATIONS [CONTROL]: one line about it. 0 if nothing was found, or with a control, if something was.
static int run(int argc, char **argv)
{
    rl::ostringstream output;
    rl::test_params params;
    const auto begin = std::chrono::steady_clock::now();
    for (Scenario *each = all; each != NULL; each = each->next) {
        if (argc == 1) {
            puts(each->name);
        }
        else if (strcmp(each->name, argv[1]) == 0) {
            scenario = each;
        }
    }
    if (scenario == NULL || argc < 3) {
        return argc == 1 ? 0 : 2;
    }
    const bool is_control = argc > 3;
    control = is_control ? argv[3] : "";
    params.iteration_count = (rl::iteration_t)atoll(argv[2]);
    params.output_stream = params.progress_stream = &output;
    params.execution_depth_limit = 20000;
    shipped_start();
    switch (scenario->threads) {
    case 3:
        simulate<3>(params);
        break;
    case 4:
        simulate<4>(params);
        break;
    case 5:
        simulate<5>(params);
        break;
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    const bool is_found = params.test_result != rl::test_result_success;
    const rl::string text = output.str();
    const rl::string what = text.substr(0, text.find('\n')); // of a race, a deadlock
    printf("%-22s%-26s%9llu%8.1f  %s%s\n", scenario->name, control, (unsigned long long)params.stop_iteration,
           seconds.count(),
           is_found     ? is_control ? "found: " : "FOUND: "
           : is_control ? "NOT FOUND"
                        : "nothing found",
           is_found ? what.c_str() : "");
    if (is_found && !is_control) {
        fputs(text.c_str(), stderr);
        for (int i = 0; i < field_count; i++) {
            fprintf(stderr, "<%p> is %s\n", (void *)fields[i].storage, fields[i].name);
        }
    }
    return is_found != is_control;
}

} // namespace model

// --- What the shipped headers call ------------------------------------------------

extern "C" {

void model_assert(int condition, const char *what)
{
    model::check(condition, what);
}

void model_dropped(void)
{
    model::world->dropped++;
    model::note_event();
}

void model_finalize(int block, int is_helper)
{
    model::scenario->finalize(block, is_helper);
}

int model_schedule(void)
{
    return model::scenario->schedule();
}

int model_pthread_create(pthread_t *, const pthread_attr_t *, void *(*run)(void *), void *argument)
{
    if (model::world->starts_that_fail > 0) {
        model::world->starts_that_fail--;
        return EAGAIN;
    }
    model::check(!model::world->helper_runs, "there is one helper");
    model::world->helper_runs = true;
    model::world->run = run;
    model::world->argument = argument;
    model::post(model::world->started);
    return 0;
}

int model_pthread_join(pthread_t)
{
    return !model::wait(model::world->ended, false, false);
}

void model_pause(void)
{
    model::let_others_run();
}

// Goes on by a tick now and then where a thread could not be started.
long model_nanoseconds(void)
{
    if (model::scenario->time_goes_on() && rl::rand(2) != 0) {
        model::world->nanoseconds += 10000000;
    }
    return model::world->nanoseconds;
}

int Py_AddPendingCall(int (*call)(void *), void *argument)
{
    model::Call added = {call, argument};
    model::let_others_run();
    if (model::world->call_count == model::QUEUE) {
        return -1;
    }
    model::world->calls[model::world->call_count++] = added;
    model::note_event();
    return 0;
}

PyInterpreterState *PyInterpreterState_Get(void)
{
    return &model::interpreter;
}

PyThreadState *PyThreadState_New(PyInterpreterState *interpreter)
{
    PyThreadState *state = &model::thread_states[rl::thread_index()];
    state->interp = interpreter;
    return state;
}

void PyThreadState_Clear(PyThreadState *)
{
}

void PyThreadState_DeleteCurrent(void)
{
    model::give_gil();
}

PyThreadState *PyGILState_GetThisThreadState(void)
{
    return PyThreadState_New(&model::interpreter);
}

PyThreadState *PyThreadState_GetUnchecked(void)
{
    return PyGILState_Check() ? PyGILState_GetThisThreadState() : NULL;
}

PyThreadState *_PyThreadState_UncheckedGet(void)
{
    return PyThreadState_GetUnchecked();
}

int PyGILState_Check(void)
{
    return model::world->gil_owner == (int)rl::thread_index();
}

int Py_IsInitialized(void)
{
    return 1;
}

void PyEval_RestoreThread(PyThreadState *)
{
    model::take_gil();
}

PyThreadState *PyEval_SaveThread(void)
{
    model::give_gil();
    return NULL;
}

PyThread_type_lock PyThread_allocate_lock(void)
{
    return &model::world->lock;
}

int PyThread_acquire_lock(PyThread_type_lock, int is_wait)
{
    // That of helper_setup() is none: it is held from the begin.
    return model::are_begun ? model::wait_for_post(!is_wait, false) : 1;
}

PyLockStatus PyThread_acquire_lock_timed(PyThread_type_lock, long long microseconds, int)
{
    if (model::wait_for_post(false, microseconds >= 0)) {
        return PY_LOCK_ACQUIRED;
    }
    model::see_newest();
    return PY_LOCK_FAILURE;
}

void PyThread_release_lock(PyThread_type_lock)
{
    model::post(model::world->lock);
}

unsigned long PyThread_get_thread_ident(void)
{
    return rl::thread_index();
}

} // extern "C"

int main(int argc, char **argv)
{
    return model::run(argc, argv);
}
