// The rival of native.c in C++: std::shared_ptr.
#include <array>
#include <cstddef>
#include <memory>
#include <thread>
#include <vector>

// Hides a variable from the optimizer as std::hint::black_box does: through memory.
#define BLACK_BOX(variable) __asm__ volatile("" : : "r"(&(variable)) : "memory")

static size_t dropped;

namespace {

struct payload {
    size_t values[2];
    explicit payload(size_t first) : values{first, 0}
    {
    }
    ~payload()
    {
        dropped += values[0];
    }
};

} // namespace

// Until there is a second thread, libstdc++ counts without atomics. The other counts are
// atomic always, and compiled code that needs no GIL has threads.
extern "C" void prepare(void)
{
    std::thread([] {}).join();
}

extern "C" size_t drops(void)
{
    return dropped;
}

extern "C" void clone_drop(size_t times)
{
    std::shared_ptr<payload> ref = std::make_shared<payload>(0);
    BLACK_BOX(ref);
    for (size_t i = 0; i < times; i++) {
        std::shared_ptr<payload> copy = ref;
        BLACK_BOX(copy);
    }
}

extern "C" void new_drop(size_t times)
{
    for (size_t i = 0; i < times; i++) {
        std::shared_ptr<payload> ref = std::make_shared<payload>(1);
        BLACK_BOX(ref);
    }
}

// On threads. Their payloads are not counted: they would wait for each other.
extern "C" void new_drop_on_threads(size_t times, size_t threads)
{
    std::vector<std::thread> running;
    for (size_t i = 0; i < threads; i++) {
        running.emplace_back([=] {
            for (size_t left = times / threads; left > 0; left--) {
                auto ref = std::make_shared<std::array<size_t, 2>>();
                BLACK_BOX(ref);
            }
        });
    }
    for (std::thread &thread : running) {
        thread.join();
    }
}

// Made here, dropped by threads.
extern "C" void drop_on_threads(size_t times, size_t threads)
{
    std::vector<std::vector<std::shared_ptr<size_t>>> shares(threads);
    std::vector<std::thread> running;
    for (auto &share : shares) {
        share.reserve(times / threads);
        for (size_t left = times / threads; left > 0; left--) {
            share.push_back(std::make_shared<size_t>(left));
        }
    }
    for (auto &share : shares) {
        running.emplace_back([&share] { share.clear(); });
    }
    for (std::thread &thread : running) {
        thread.join();
    }
}
