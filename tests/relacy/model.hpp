/* The package's lock-free protocol, as shipped, under Relacy, which knows C++11's memory model: .ci/relacy runs it.
 *
 * Shipped code, included by shipped.c without a change:
 *   externref.h              clone, drop
 *   atomics.h, locks.h       every atomic operation with the ordering that it has there
 *   pending.h                pending_link, pending_link_hold, pending_pop, pending_pop_hold, pending_any, pending_count
 *   dropped.h                drop_later
 *   helper.h                 helper_push, the helper's thread, the pending calls, forks, set_drain(), the end
 *   native.h                 drop_anywhere, native_drop
 * The compiler puts a call before each access to memory, and in place of each atomic one, as it does for
 * ThreadSanitizer (-fsanitize=thread). fields.hpp has the functions that it calls. An atomic access is one of a
 * rl::atomic that stands for the field, and so may give an old value wherever C++11 lets it; a plain one must be ordered
 * with those of other threads, or is a data race, and must not be of freed memory.
 *
 * Modelled, not shipped (model.cpp; shipped_drain in shipped.c):
 *   the GIL              a rl::mutex, which a finalizer may let go; without one (Py_GIL_DISABLED) nothing is held
 *   PyThread's lock      a rl::semaphore; a wait for a tick may end at any time
 *   Py_AddPendingCall    a short queue; the main thread runs what is in it, if its scenario has it run Python code
 *   pthread_create       one thread of Relacy's, for one helper after the other
 *   run_drain()          its loop again, in C, and what free_block() and drop_handle_counted() do to a count
 *   fork()               the main thread goes on as the child, and the others end, at any atomic operation
 *   time                 stands still, but where a thread could not be started
 * HELPER_IDLE_TICKS is 2, that the helper soon sleeps. Left out: 3.15's guards, registered and lent
 * blocks, wrappers.
 *
 * Schedules are random, and the same in each run: an iteration's number is its seed. Relacy lets a load give one of
 * the last three values; a compare-and-swap that fails gives the newest; no load gives what is stored later. No value
 * stays old for longer than a tick.
 *
 * A control spoils one thing, which must be found, or the checker would find nothing: Weaker and Later in fields.hpp. */
#ifndef MODEL_HPP
#define MODEL_HPP

#include <stddef.h>

#include "shipped.h"

namespace model {

// --- Scenarios -------------------------------------------------------------------

// Thread 0 is the main thread. If there is one for the helper, whenever that is started, it is the last, and thread 0
// ends with close().
struct Scenario {
    const char *name;
    int threads;
    bool has_helper;
    Drop drop;
    int owners;  // of each block
    int drops; // of payloads, by the end
    Scenario *next; // in the list of all

    Scenario(const char *name, int threads, bool has_helper, Drop drop, int owners, int drops);
    virtual ~Scenario();

    virtual void prepare()
    {
    }

    virtual void run(int thread) = 0;

    // With the GIL, if there is one.
    virtual void finalize(int block, bool is_helper);

    virtual int schedule();

    virtual bool time_goes_on()
    {
        return false;
    }
};

// --- What they call --------------------------------------------------------------

unsigned choose(unsigned count); // one of so many numbers, from 0
void check(bool condition, const char *what);
void take_gil();
void give_gil();
void let_others_run();
void linger(unsigned turns); // at most
bool helper_runs();
int dropped(); // how many payloads were, till now
void fail_starts(int count); // of the helper's thread, from now on

// For the main thread. Whoever drops a payload or adds a pending call notes an event; that orders nothing.
void note_event();
void wait_for_event();
void run_calls();                  // GIL: those that wait, as the eval loop does it
void sit_until_dropped(int count); // it is in C code, without the GIL, and runs no pending call
void compute_until_dropped(int count); // it runs Python code
void close();                      // as close_pending() in drain.pxi
void become_child();               // forks, and goes on as the child, after shipped_in_child()

// For any.
void look_until_dropped(int count);

} // namespace model

#endif // MODEL_HPP
