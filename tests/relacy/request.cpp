/* The request for a drain: whatever is pushed is drained, without another push, whatever the main thread does. A
 * wake-up that is lost shows as a deadlock: the main thread waits for a drop, the helper for a wake-up. */
#include "model.hpp"

using namespace model;

static void push(int block)
{
    shipped_use(shipped_block(block), 0);
    shipped_drop(shipped_block(block));
}

// The first push starts the helper; the others come when it ticks, is about to sleep, or sleeps.
static void push_some(int thread)
{
    if (thread == 1) {
        push(0);
    }
    look_until_dropped(1);
    linger(80);
    push(thread);
}

// They come while something else goes on, each after a while.
static void push_meanwhile(int thread, unsigned while_1, unsigned while_2)
{
    if (thread == 1) {
        push(0);
        linger(while_1);
        push(1);
    }
    else {
        linger(while_2);
        push(2);
    }
}

// The main thread is in C code: the helper drains.
struct main_in_c : Scenario {
    using Scenario::Scenario;

    void run(int i)
    {
        if (i != 0) {
            push_some(i);
            return;
        }
        sit_until_dropped(BLOCKS);
        close();
    }
};

// It runs Python code, and what the helper added to its queue.
struct main_in_python : Scenario {
    using Scenario::Scenario;

    void run(int i)
    {
        if (i != 0) {
            push_some(i);
            return;
        }
        compute_until_dropped(BLOCKS);
        close();
    }
};

// It pushes itself, with or without the GIL, and runs what it added.
struct main_pushes : Scenario {
    using Scenario::Scenario;

    void run(int i)
    {
        if (i == 1) {
            push(1);
        }
        else if (i == 2) {
            push(2);
        }
        else {
            bool with_gil = choose(2) != 0;
            if (with_gil) {
                take_gil();
            }
            push(0);
            if (with_gil) {
                give_gil();
            }
            compute_until_dropped(BLOCKS);
            close();
        }
    }
};

// Holds that are let go ask likewise.
struct holds_let_go : Scenario {
    using Scenario::Scenario;

    void run(int i)
    {
        if (i == 1) {
            push(0);
            look_until_dropped(1);
            linger(80);
            shipped_use(shipped_block(1), 1);
            shipped_let_go(0, 1, 1);
        }
        else if (i == 2) {
            shipped_use(shipped_block(2), 2);
            shipped_let_go(1, 2, 1);
        }
        else {
            sit_until_dropped(BLOCKS);
            close();
        }
    }
};

// A finalizer of the main thread's waits for that of another block, which the helper drains then.
struct drainer_waits : Scenario {
    using Scenario::Scenario;

    void run(int i)
    {
        if (i == 1) {
            push(0);
            look_until_dropped(1);
            linger(80);
            push(1);
            push(2);
            return;
        }
        sit_until_dropped(1);
        linger(100);
        while (dropped() < BLOCKS) {
            take_gil();
            if (shipped_any()) {
                shipped_drain(0);
            }
            give_gil();
            let_others_run();
        }
        close();
    }

    void finalize(int, bool is_helper)
    {
        if (!is_helper) {
            give_gil();
            sit_until_dropped(BLOCKS);
            take_gil();
        }
    }
};

// A finalizer of the helper's waits for those of what is pushed later, which the main thread drains then.
struct helper_waits : Scenario {
    using Scenario::Scenario;

    void run(int i)
    {
        if (i != 0) {
            push_meanwhile(i, 40, 80);
        }
        else {
            sit_until_dropped(1);
            compute_until_dropped(BLOCKS);
            close();
        }
    }

    void finalize(int, bool is_helper)
    {
        if (is_helper) {
            give_gil();
            look_until_dropped(BLOCKS);
            take_gil();
        }
    }
};

// set_drain("main"): the helper asks, and does not drain.
struct mode_main : Scenario {
    using Scenario::Scenario;

    void run(int i)
    {
        if (i != 0) {
            push_some(i);
            return;
        }
        compute_until_dropped(BLOCKS);
        close();
    }

    void prepare()
    {
        shipped_set_mode(MODE_MAIN);
    }

    void finalize(int block, bool is_helper)
    {
        check(!is_helper, "the helper drains nothing");
        Scenario::finalize(block, is_helper);
    }
};

// set_drain(schedule), with a function that has the main thread drain.
struct mode_scheduled : Scenario {
    using Scenario::Scenario;

    bool is_asked;

    void prepare()
    {
        is_asked = false;
        shipped_set_mode(MODE_SCHEDULED);
    }

    void run(int i)
    {
        if (i != 0) {
            push_some(i);
            return;
        }
        take_gil();
        while (dropped() < BLOCKS) {
            give_gil();
            wait_for_event();
            take_gil();
            run_calls();
            if (is_asked) {
                is_asked = false;
                shipped_drain(0);
            }
        }
        give_gil();
        close();
    }

    int schedule()
    {
        is_asked = true;
        note_event();
        return 1;
    }
};

// set_drain() while something waits that the mode before left to a main thread in C code.
struct mode_changes : Scenario {
    using Scenario::Scenario;

    void run(int i)
    {
        if (i == 1) {
            push(0);
            linger(40);
            push(1);
        }
        else if (i == 2) {
            linger(40);
            push(2);
            take_gil();
            shipped_set_mode(MODE_AUTO);
            give_gil();
        }
        else {
            sit_until_dropped(BLOCKS);
            close();
        }
    }

    void prepare()
    {
        shipped_set_mode(MODE_MAIN);
    }
};

// No helper is there while it happens. By os.fork(), here in the parent, and by C code that has let the GIL go.
static void fork_by_python()
{
    take_gil();
    shipped_before_fork();
    check(!helper_runs(), "no helper is there when it forks");
    let_others_run();
    check(!helper_runs(), "none comes");
    shipped_after_fork(0);
    run_calls();
    give_gil();
}

static void fork_by_c()
{
    shipped_prepare_fork();
    check(!helper_runs(), "no helper is there when it forks");
    let_others_run();
    check(!helper_runs(), "none comes");
    shipped_in_parent();
}

// What was pushed while it forks is drained after it.
struct forks : Scenario {
    using Scenario::Scenario;

    void run(int i)
    {
        if (i != 0) {
            push_meanwhile(i, 40, 40);
        }
        else {
            for (int n = 0; n < 2; n++) {
                linger(40);
                fork_by_python();
            }
            sit_until_dropped(BLOCKS);
            close();
        }
    }
};

// The same by C code.
struct forks_in_c : Scenario {
    using Scenario::Scenario;

    void run(int i)
    {
        if (i != 0) {
            push_meanwhile(i, 40, 40);
        }
        else {
            for (int n = 0; n < 2; n++) {
                linger(40);
                fork_by_c();
            }
            sit_until_dropped(BLOCKS);
            close();
        }
    }
};

// A fork, by Python code or by C code, while another thread drains: what that has taken and not dropped yet, as its
// finalizer waits, is seen when the fork is over.
struct forks_while_drained : Scenario {
    using Scenario::Scenario;

    void run(int i)
    {
        if (i == 1) {
            push(0);
            push(1);
            linger(40);
            push(2);
        }
        else if (i == 2) {
            linger(40);
            take_gil();
            shipped_drain(0);
            give_gil();
        }
        else {
            linger(40);
            if (choose(2) != 0) {
                fork_by_c();
            }
            else {
                fork_by_python();
            }
            sit_until_dropped(BLOCKS);
            close();
        }
    }

    void finalize(int, bool is_helper)
    {
        if (!is_helper) {
            give_gil();
            look_until_dropped(BLOCKS);
            take_gil();
        }
    }
};

// The child of a fork, which has one thread: what was pushed before is drained there, and what is pushed later. A fork by
// C code that has the GIL stops no helper, and nobody looks until the next push.
struct forks_child : Scenario {
    using Scenario::Scenario;

    int pushed;

    void prepare()
    {
        pushed = 0;
    }

    void run(int i)
    {
        if (i == 1) {
            push(0);
            pushed++;
            linger(40);
            push(1);
            pushed++;
            return;
        }
        const bool is_by_c = shipped_has_gil() && choose(2) != 0;
        linger(80);
        take_gil();
        if (!is_by_c) {
            shipped_before_fork();
        }
        become_child();
        const int expected = dropped() + (int)shipped_count();
        check(expected >= pushed, "what was pushed is here");
        if (!is_by_c) {
            shipped_after_fork(1);
        }
        else {
            push(2);
        }
        run_calls();
        give_gil();
        sit_until_dropped(expected);
        linger(80);
        if (!is_by_c) {
            push(2);
        }
        sit_until_dropped(expected + 1);
        close();
    }
};

// The end, while others push: no helper outlives it, and nothing is lost.
struct closes : Scenario {
    using Scenario::Scenario;

    void run(int i)
    {
        if (i != 0) {
            push_meanwhile(i, 40, 40);
        }
        else {
            if (choose(2) != 0) {
                sit_until_dropped(1);
            }
            linger(40);
            close();
            let_others_run();
            check(!helper_runs(), "none comes after the end");
        }
    }
};

// No thread can be started, at first or ever: pending calls do it.
struct start_fails : Scenario {
    using Scenario::Scenario;

    void prepare()
    {
        fail_starts(choose(2) != 0 ? 1 + choose(2) : 1000);
    }

    void run(int i)
    {
        if (i != 0) {
            push_meanwhile(i, 20, 40);
        }
        else {
            compute_until_dropped(BLOCKS);
            close();
        }
    }

    bool time_goes_on()
    {
        return true;
    }
};

static main_in_c main_in_c_{"main_in_c", 4, true, DROP_PUSHES, 1, BLOCKS};
static main_in_python main_in_python_{"main_in_python", 4, true, DROP_PUSHES, 1, BLOCKS};
static main_pushes main_pushes_{"main_pushes", 4, true, DROP_PUSHES, 1, BLOCKS};
static holds_let_go holds_let_go_{"holds_let_go", 4, true, DROP_PUSHES, 1, BLOCKS};
static drainer_waits drainer_waits_{"drainer_waits", 3, true, DROP_PUSHES, 1, BLOCKS};
static helper_waits helper_waits_{"helper_waits", 4, true, DROP_PUSHES, 1, BLOCKS};
static mode_main mode_main_{"mode_main", 4, true, DROP_PUSHES, 1, BLOCKS};
static mode_scheduled mode_scheduled_{"mode_scheduled", 4, true, DROP_PUSHES, 1, BLOCKS};
static mode_changes mode_changes_{"mode_changes", 4, true, DROP_PUSHES, 1, BLOCKS};
static forks forks_{"forks", 4, true, DROP_PUSHES, 1, BLOCKS};
static forks_in_c forks_in_c_{"forks_in_c", 4, true, DROP_PUSHES, 1, BLOCKS};
static forks_child forks_child_{"forks_child", 3, true, DROP_PUSHES, 1, BLOCKS};
static forks_while_drained forks_while_drained_{"forks_while_drained", 4, true, DROP_PUSHES, 1, BLOCKS};
static closes closes_{"closes", 4, true, DROP_PUSHES, 1, BLOCKS};
static start_fails start_fails_{"start_fails", 4, true, DROP_PUSHES, 1, BLOCKS};
