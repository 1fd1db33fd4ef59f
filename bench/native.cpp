// The rival of native.c in C++: std::shared_ptr.
#include <cstddef>
#include <memory>
#include <thread>

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
