/* externref_python.hpp: the members of externref::Ref that need Python.
 *
 * They need the GIL, and may run arbitrary Python code. One that fails throws PythonError with a Python
 * exception set, and has changed nothing. Nothing is linked, and any number of files of an
 * extension may include this; C++17. (The functions of externref_api.h, which it includes, need an
 * externref_import() in each file that calls them; the members here do not.)
 *
 * With pybind11 or nanobind include externref_pybind11.hpp or externref_nanobind.hpp, which
 * convert a Ref as any other type, and throw what these libraries throw. */
#ifndef EXTERNREF_PYTHON_HPP
#define EXTERNREF_PYTHON_HPP

#include "externref_api.h" /* Python.h, before any other header */

#include <atomic>
#include <exception>
#include <utility>

#include "externref.hpp"

namespace externref {

/* A Python exception is set on this thread: let it go on to Python, by returning NULL. */
class PythonError : public std::exception {
  public:
    const char *what() const noexcept override
    {
        return "a Python exception is set";
    }
};

namespace detail {

/* One for all files of an extension, and none shared with another extension, which may have been compiled
 * with another version of these headers. */
#if defined(__GNUC__) || defined(__clang__)
#  define EXTERNREF_LOCAL __attribute__((visibility("hidden")))
#else
#  define EXTERNREF_LOCAL
#endif
EXTERNREF_LOCAL inline std::atomic<PyObject *> wrapper_type{nullptr}; /* externref.VMExternRef, for ever */
EXTERNREF_LOCAL inline std::atomic<const ExternrefAPI *> api{nullptr};

inline PyObject *checked(PyObject *object)
{
    if (object == nullptr) {
        throw PythonError();
    }
    return object;
}

/* Once the package was imported. */
inline bool is_wrapper(PyObject *object) noexcept
{
    return reinterpret_cast<PyObject *>(Py_TYPE(object)) == wrapper_type.load(std::memory_order_relaxed);
}

/* A VMExternRef, to None; nullptr if there is no memory. */
inline PyObject *new_wrapper(const ExternrefAPI &found)
{
    void *raw = found.from_object(Py_None);
    PyObject *wrapper = raw == nullptr ? nullptr : found.wrap(raw);
    if (wrapper == nullptr) {
        found.release(raw);
    }
    return wrapper;
}

/* Gives up a Python reference at a scope's end. */
class Owned {
  public:
    explicit Owned(PyObject *object) : object_(checked(object))
    {
    }
    Owned(const Owned &) = delete;
    Owned &operator=(const Owned &) = delete;
    ~Owned()
    {
        Py_DECREF(object_);
    }
    PyObject *get() const noexcept
    {
        return object_;
    }

  private:
    PyObject *object_;
};

} // namespace detail

/* Finds the installed package. Whatever needs it calls this first; a module's init may, so that
 * the import of the module fails and not a later call. ImportError as of externref_import(). */
inline const ExternrefAPI &import_api()
{
    const ExternrefAPI *api = detail::api.load(std::memory_order_acquire);
    if (api == nullptr) {
        if (externref_import() != 0) {
            throw PythonError();
        }
        api = externref_api;
        /* The type of one that the package makes: externref.VMExternRef may be something else now, and this is for ever. */
        detail::Owned wrapper(detail::new_wrapper(*api));
        PyObject *type = reinterpret_cast<PyObject *>(Py_TYPE(wrapper.get()));
        Py_INCREF(type);
        detail::wrapper_type.store(type, std::memory_order_relaxed); /* before what says that it is there */
        detail::api.store(api, std::memory_order_release);
    }
    return *api;
}

/* Boxes any object, None and a VMExternRef too: the sole owner of a new block, which takes a reference
 * to the object of its own. Never null. MemoryError. */
inline Ref Ref::from_object(PyObject *object)
{
    void *raw = import_api().from_object(object);
    if (raw == nullptr) {
        throw PythonError();
    }
    return Ref(raw);
}

/* A new reference to the object; to None for null. TypeError for a native payload. */
inline PyObject *Ref::object() const
{
    return detail::checked(import_api().object(raw_));
}

/* One more owner of a VMExternRef's block; null for None. The wrapper keeps its count. TypeError for
 * any other object, MovedError for a spent wrapper, MemoryError. */
inline Ref Ref::unwrap(PyObject *ref)
{
    const ExternrefAPI &api = import_api();
    if (!detail::is_wrapper(ref)) {
        api.unwrap(ref); /* None, or the TypeError */
        if (PyErr_Occurred() != nullptr) {
            throw PythonError();
        }
        return Ref();
    }
    /* Not api.unwrap: it lends for good, which would keep cycles through the block from being collected. */
    detail::Owned clone(PyObject_CallMethod(ref, "clone", nullptr));
    detail::Owned address(PyObject_CallMethod(clone.get(), "into_raw", nullptr));
    return Ref(PyLong_AsVoidPtr(address.get()));
}

/* A new VMExternRef with a count of its own; None for null. MemoryError, OverflowError. */
inline PyObject *Ref::wrap() const
{
    return detail::checked(import_api().wrap_clone(raw_));
}

/* What a function is given: null for None, unwrap() of a VMExternRef, from_object() of anything else. */
inline Ref Ref::from_python(PyObject *value)
{
    if (value == Py_None) {
        return Ref();
    }
    import_api();
    return detail::is_wrapper(value) ? unwrap(value) : from_object(value);
}

/* What a function gives: object(), but wrap() of a native payload. */
inline PyObject *Ref::to_python() const &
{
    PyObject *object = import_api().object(raw_);
    if (object == nullptr && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        object = import_api().wrap_clone(raw_);
    }
    return detail::checked(object);
}

/* The same, and *this is null then. A last reference moves out: nothing is left to be drained. */
inline PyObject *Ref::to_python() &&
{
    PyObject *object = import_api().take_object(raw_);
    if (object == nullptr && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        object = import_api().wrap(raw_);
    }
    detail::checked(object);
    raw_ = nullptr;
    return object;
}

/* reset() for who holds the GIL: what the last owner had is released before this returns. */
inline void Ref::drop_now() noexcept
{
    void *raw = into_raw();
    const ExternrefAPI *api = detail::api.load(std::memory_order_acquire);
    if (api != nullptr) {
        api->release(raw);
    }
    else {
        externref_drop(raw);
    }
}

} // namespace externref

#endif /* EXTERNREF_PYTHON_HPP */
