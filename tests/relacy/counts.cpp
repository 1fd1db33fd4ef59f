/* Clones and drops: the last drop, and no other, frees, and whatever an owner did with the payload is over then. */
#include "model.hpp"

using namespace model;

static void use_clone_and_drop(int owner)
{
    void *raw = shipped_block(0);
    shipped_use(raw, owner);
    shipped_clone(raw);
    shipped_drop(raw);
    shipped_use(raw, owner);
    shipped_drop(raw);
}

// The last owner frees, wherever it is.
struct frees_anywhere : Scenario {
    using Scenario::Scenario;

    void run(int i)
    {
        use_clone_and_drop(i);
    }
};

// The last owner links it, and who has the GIL frees.
struct frees_what_is_linked : Scenario {
    using Scenario::Scenario;

    void run(int i)
    {
        if (i > 0) {
            use_clone_and_drop(i);
            return;
        }
        while (dropped() == 0) {
            take_gil();
            shipped_drain(0);
            give_gil();
            let_others_run();
        }
    }
};

static frees_anywhere frees_anywhere_{"frees_anywhere", 3, false, DROP_ANYWHERE, 3, 1};
static frees_what_is_linked frees_what_is_linked_{"frees_what_is_linked", 4, false, DROP_LINKS, 3, 1};
