/* The lists of what was let go: nothing is lost, nothing comes twice. */
#include "model.hpp"

using namespace model;

static void use_and_drop(int block, int owner)
{
    shipped_use(shipped_block(block), owner);
    shipped_drop(shipped_block(block));
}

static void pop_until_dropped(int count)
{
    while (dropped() < count) {
        take_gil();
        void *raw = shipped_pop();
        if (raw != NULL) {
            shipped_free(raw);
        }
        give_gil();
        let_others_run();
    }
}

struct two_push_two_pop : Scenario {
    using Scenario::Scenario;

    void run(int i)
    {
        if (i >= 2) {
            pop_until_dropped(BLOCKS);
        }
        else {
            use_and_drop(i, 0);
            if (i == 0) {
                use_and_drop(2, 0);
            }
        }
    }
};

// What was popped is pushed again, perhaps while another looks at it as the list's head.
struct pushed_again : Scenario {
    using Scenario::Scenario;

    bool was_revived;

    void prepare()
    {
        was_revived = false;
    }

    void run(int i)
    {
        if (i >= 1) {
            use_and_drop(i - 1, 0);
            return;
        }
        while (dropped() < BLOCKS) {
            take_gil();
            void *raw = shipped_pop();
            if (raw != NULL && !was_revived) {
                was_revived = true;
                shipped_revive(raw);
                give_gil();
                shipped_drop(raw);
                take_gil();
            }
            else if (raw != NULL) {
                shipped_free(raw);
            }
            give_gil();
            let_others_run();
        }
    }
};

// Two holds of a block, beside a block; both lists are drained by two.
struct holds_and_blocks : Scenario {
    using Scenario::Scenario;

    void run(int i)
    {
        if (i < 2) {
            shipped_use(shipped_block(0), i);
            shipped_let_go(i, 0, 0);
        }
        else if (i == 2) {
            use_and_drop(1, 0);
            use_and_drop(1, 0);
        }
        else {
            while (dropped() < 2) {
                take_gil();
                shipped_drain(0);
                give_gil();
                let_others_run();
            }
        }
    }
};

// stats(): who counts sees whole lists, of at most all.
struct counted_meanwhile : Scenario {
    using Scenario::Scenario;

    void run(int i)
    {
        if (i == 0) {
            pop_until_dropped(BLOCKS);
        }
        else if (i == 1) {
            take_gil();
            check(shipped_count() <= BLOCKS, "no block is counted twice");
            give_gil();
        }
        else {
            use_and_drop(i - 2, 0);
            if (i == 2) {
                use_and_drop(2, 0);
            }
        }
    }
};

static two_push_two_pop two_push_two_pop_{"two_push_two_pop", 4, false, DROP_LINKS, 1, BLOCKS};
static pushed_again pushed_again_{"pushed_again", 4, false, DROP_LINKS, 1, BLOCKS};
static holds_and_blocks holds_and_blocks_{"holds_and_blocks", 5, false, DROP_LINKS, 2, 2};
static counted_meanwhile counted_meanwhile_{"counted_meanwhile", 4, false, DROP_LINKS, 1, BLOCKS};
