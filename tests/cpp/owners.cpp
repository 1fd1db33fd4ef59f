/* externref::Ref in a program of its own: what each member does to a count, then lambdas that capture one,
 * copied and destroyed by four threads. Blocks are of a type that the program makes itself: no Python
 * anywhere. For AddressSanitizer, since a dead block is freed, and for ThreadSanitizer. C++17. */
#include "externref.hpp"

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <set>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

using externref::Ref;

constexpr std::size_t THREADS = 4;
constexpr std::size_t LOOPS = 5000;

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            std::printf("line %d: not %s\n", __LINE__, #condition); \
            std::exit(1); \
        } \
    } while (false)

/* -- Blocks */

struct Block {
    std::array<std::size_t, THREADS> written; /* by each thread, without a lock, while it owns a count */
    VMExternData footer;
};

static std::size_t made, dropped, seen;

/* The last owner: sees what all others did. */
static void drop_slow(void *raw)
{
    Block *block = static_cast<Block *>(externref_value(raw));
    for (std::size_t written : block->written) {
        seen += written;
    }
    dropped++;
    delete block;
}

static Ref make()
{
    static const VMExternVTable vtable = {nullptr, sizeof(Block::written), alignof(Block), "block", drop_slow};
    Block *block = new Block{};
    block->footer.ref_count = 1;
    block->footer.value_ptr = block;
    block->footer.vtable = &vtable;
    made++;
    return Ref::from_raw(&block->footer);
}

static bool balanced()
{
    return made == dropped;
}

/* -- One thread */

static_assert(std::is_nothrow_default_constructible_v<Ref> && std::is_nothrow_destructible_v<Ref>);
static_assert(std::is_nothrow_copy_constructible_v<Ref> && std::is_nothrow_copy_assignable_v<Ref>);
static_assert(std::is_nothrow_move_constructible_v<Ref> && std::is_nothrow_move_assignable_v<Ref>);
static_assert(std::is_nothrow_swappable_v<Ref> && std::is_nothrow_constructible_v<Ref, std::nullptr_t>);
static_assert(!std::is_convertible_v<Ref, bool> && !std::is_convertible_v<void *, Ref>);

static void copies_and_moves()
{
    Ref ref = make();
    CHECK(ref.strong_count() == 1);
    {
        Ref copy = ref;
        CHECK(copy == ref && copy.as_raw() == ref.as_raw() && ref.strong_count() == 2);
        Ref moved = std::move(copy);
        CHECK(!copy && moved == ref && ref.strong_count() == 2);
        copy = moved;
        CHECK(copy && ref.strong_count() == 3);
        copy = std::move(moved);
        CHECK(!moved && ref.strong_count() == 2);
        Ref &alias = copy;
        copy = alias;
        CHECK(ref.strong_count() == 2);
        copy = std::move(alias);
        CHECK(copy == ref && ref.strong_count() == 2);
    }
    CHECK(ref.strong_count() == 1 && dropped + 1 == made);
    ref = make(); /* the only owner of another */
    CHECK(ref.strong_count() == 1 && dropped + 1 == made);
    ref = nullptr;
    CHECK(!ref && balanced());
}

static void raw_pointers()
{
    Ref ref = make();
    void *raw = ref.as_raw();
    Ref clone = Ref::clone_from_raw(raw);
    CHECK(ref.strong_count() == 2 && clone == ref);
    CHECK(clone.into_raw() == raw && !clone && ref.strong_count() == 2);
    CHECK(Ref::from_raw(raw) == ref);
    CHECK(ref.strong_count() == 1); /* what took it over is gone */
    ref.reset();
    CHECK(!ref && balanced());
}

static void null()
{
    Ref ref, other = nullptr;
    CHECK(!ref && ref == other && ref == nullptr && !(ref != nullptr) && ref <= other && !(ref < other));
    CHECK(ref.as_raw() == nullptr && ref.into_raw() == nullptr && ref.strong_count() == 0);
    CHECK(!Ref::from_raw(nullptr) && !Ref::clone_from_raw(nullptr));
    CHECK(std::hash<Ref>()(ref) == std::hash<Ref>()(other));
    ref.reset();
    other = ref;
    swap(ref, other);
}

static void comparison()
{
    Ref one = make(), two = make();
    if (std::less<void *>()(two.as_raw(), one.as_raw())) {
        swap(one, two);
    }
    const Ref copy = one;
    CHECK(one == copy && !(one != copy) && one <= copy && one >= copy && !(one < copy) && !(one > copy));
    CHECK(one != two && !(one == two) && one < two && one <= two && two > one && two >= one && !(two < one));
    CHECK(one != nullptr && nullptr < one);
    CHECK(std::hash<Ref>()(one) == std::hash<Ref>()(copy));
    CHECK((std::unordered_set<Ref>{one, two, copy, nullptr}.size() == 3));
    CHECK((std::set<Ref>{one, two, copy, nullptr}.size() == 3));
    std::map<Ref, int> numbers{{one, 1}, {two, 2}};
    CHECK(numbers.at(copy) == 1 && one.strong_count() == 3);
}

static void exceptions()
{
    Ref ref = make();
    std::vector<Ref> refs(3, ref);
    try {
        std::vector<Ref> copies = refs;
        std::function<void()> raising = [ref, copies] { throw std::runtime_error("raised"); };
        CHECK(ref.strong_count() == 1 + 3 + 3 + 4);
        raising();
    } catch (const std::runtime_error &) {
    }
    CHECK(ref.strong_count() == 4);
    refs.clear();
    CHECK(ref.strong_count() == 1);
}

/* What a drop runs may look at the very Ref that is dropped: it must be whole, without what dies. */
static Ref slot;
static void *found_in_slot;
static void look_at_slot(void *)
{
    found_in_slot = slot.as_raw();
}

static void reentrancy()
{
    static const VMExternVTable vtable = {nullptr, 0, 1, "looking", look_at_slot};
    static VMExternData footer = {1, &footer, &vtable, 0, 0};
    slot = Ref::from_raw(&footer);
    found_in_slot = &footer;
    slot.reset();
    CHECK(found_in_slot == nullptr && footer.ref_count == 0);
    footer.ref_count = 1;
    slot = Ref::from_raw(&footer);
    slot = make();
    CHECK(found_in_slot == slot.as_raw() && footer.ref_count == 0);
    slot.reset();
}

/* -- Four threads */

static std::size_t work(std::function<Ref()> job, std::size_t *written)
{
    std::size_t calls = 0;
    for (std::size_t i = 0; i < LOOPS; i++) {
        std::function<Ref()> copy = job;
        std::vector<std::function<Ref()>> jobs(3, copy);
        ++*written;
        job = std::move(jobs[i % 3]); /* the older ones: which of them goes must not matter */
        calls += job() == copy() ? 1 : 0;
    }
    return calls;
}

static void threads()
{
    Ref ref = make();
    Block *block = static_cast<Block *>(externref_value(ref.as_raw()));
    std::function<Ref()> job = [ref] { return ref; };
    std::vector<std::thread> started;
    std::atomic<std::size_t> calls{0};
    for (std::size_t i = 0; i < THREADS; i++) {
        started.emplace_back([&calls, job, written = &block->written[i]] { calls += work(job, written); });
    }
    ref.reset();
    job = nullptr;
    for (std::thread &thread : started) {
        thread.join();
    }
    CHECK(calls == THREADS * LOOPS);
}

int main()
{
    copies_and_moves();
    raw_pointers();
    null();
    comparison();
    exceptions();
    reentrancy();
    threads();
    CHECK(balanced());
    std::printf("made %zu, dropped %zu, writes seen %zu\n", made, dropped, seen);
    return 0;
}
