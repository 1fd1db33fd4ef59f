/* externref::Ref as pybind11 and nanobind convert it: one module, bound by the one or, with -DNANOBIND,
 * by the other. */
#ifdef NANOBIND
#  include <nanobind/nanobind.h>
#  include <nanobind/stl/vector.h>
#  include "externref_nanobind.hpp"
namespace py = nanobind;
#  define BOUND(name, variable) NB_MODULE(name, variable)
template <typename T> py::object steal(T *object)
{
    return py::steal(object);
}
#else
#  include <pybind11/pybind11.h>
#  include <pybind11/stl.h>
#  include "externref_pybind11.hpp"
namespace py = pybind11;
#  define BOUND(name, variable) PYBIND11_MODULE(name, variable)
template <typename T> py::object steal(T *object)
{
    return py::reinterpret_steal<py::object>(object);
}
#endif

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <thread>
#include <vector>

using externref::Ref;
using without_the_gil = py::call_guard<py::gil_scoped_release>;

static Ref kept; /* destroyed after the interpreter's end */

/* -- Threads without the GIL */

/* A lambda that captures a Ref, copied and destroyed by each thread. */
static void copy_on_threads(Ref ref, std::size_t threads, std::size_t copies)
{
    std::function<Ref()> job = [ref = std::move(ref)] { return ref; };
    std::vector<std::thread> started;
    for (std::size_t i = 0; i < threads; i++) {
        started.emplace_back([job, copies]() mutable {
            for (std::size_t n = 0; n < copies; n++) {
                std::function<Ref()> copy = job;
                copy();
                job = copy;
            }
        });
    }
    for (std::thread &thread : started) {
        thread.join();
    }
}

/* The lambda's last owner is the thread. */
static void drop_on_thread(Ref ref)
{
    std::thread([ref = std::move(ref)] {}).join();
}

/* Destroys each, the last owner perhaps, while the process may end. */
static void drop_meanwhile(std::vector<Ref> refs)
{
    std::thread([refs = std::move(refs)]() mutable {
        for (Ref &ref : refs) {
            ref.reset();
        }
    }).detach();
}

/* Copies and destroys until the process ends. */
static void copy_for_ever(Ref ref)
{
    std::function<Ref()> job = [ref = std::move(ref)] { return ref; };
    std::thread([job] {
        for (;;) {
            std::function<Ref()> copy = job;
            copy();
        }
    }).detach();
}

/* Calls `callback` on a thread, which takes the GIL for the call alone. */
static void call_on_thread(Ref callback, Ref argument)
{
    std::thread([callback = std::move(callback), argument = std::move(argument)] {
        py::gil_scoped_acquire gil;
        py::cast(callback)(argument);
    }).join();
}

/* -- Conversions */

static int nothing_to_make(void *, void *)
{
    return 0;
}

static Ref native()
{
    static const VMExternVTable *type = externref_import() == 0 ? externref_type("Blob", 8, 8, nullptr) : nullptr;
    return Ref::from_raw(externref_new_with(type, nothing_to_make, nullptr));
}

BOUND(bound, m)
{
    m.def("identity", [](Ref ref) { return ref; });
    m.def("identity_const", [](const Ref &ref) -> const Ref & { return ref; });
    m.def("identity_pointer", [](const Ref *ref) { return ref; });
    m.def("no_pointer", []() -> const Ref * { return nullptr; });
    m.def("is_null", [](const Ref &ref) { return !ref; });
    m.def("count", [](const Ref &ref) { return ref.strong_count(); });
    m.def("address", [](const Ref &ref) { return reinterpret_cast<std::uintptr_t>(ref.as_raw()); });
    m.def("wrap", [](const Ref &ref) { return steal(ref.wrap()); });
    m.def("keep", [](Ref ref) { kept = std::move(ref); });
    m.def("kept", []() -> const Ref & { return kept; });
    m.def("take", [] { return std::move(kept); });
    m.def("reversed", [](std::vector<Ref> refs) { return std::vector<Ref>(refs.rbegin(), refs.rend()); });
    m.def("cast_twice", [](py::object object) { return py::cast(py::cast<Ref>(object)); }, py::arg("object").none());
    m.def("either", [](int) { return "an int"; });
    m.def("either", [](const Ref &) { return "an object"; });
    m.def("fail", [](Ref) { throw std::runtime_error("failed"); });
    m.def("native", native);
    m.def("copy_on_threads", copy_on_threads, without_the_gil());
    m.def("drop_on_thread", drop_on_thread, without_the_gil());
    m.def("drop_meanwhile", drop_meanwhile);
    m.def("copy_for_ever", copy_for_ever, without_the_gil());
    m.def("call_on_thread", call_on_thread, without_the_gil());
}
