/* externref_nanobind.hpp: nanobind converts externref::Ref.
 *
 * Into a Ref parameter goes any object: None as null, a VMExternRef as one more owner of its block, anything else in
 * a box of its own. Out of a Ref comes the object, None for null, and a VMExternRef for a native payload.
 * nb::cast<externref::Ref>(object) and nb::cast(ref) do the same. Spent wrappers raise MovedError; in a
 * container, nanobind's TypeError. A parameter's Ref that the function did not move away is released when
 * the call ends.
 *
 * Include it in every file that binds a function with a Ref. C++17. */
#ifndef EXTERNREF_NANOBIND_HPP
#define EXTERNREF_NANOBIND_HPP

#include <nanobind/nanobind.h>

#include <type_traits>
#include <utility>

#include "externref_python.hpp"

NAMESPACE_BEGIN(NB_NAMESPACE)
NAMESPACE_BEGIN(detail)

/* None is let through to the caster, without nb::arg().none(). Nanobind 2.5 and older do not ask for this. */
template <typename T> struct has_arg_defaults;
template <> struct has_arg_defaults<externref::Ref> : std::true_type {};

template <> struct type_caster<externref::Ref> {
    using Value = externref::Ref;
    static constexpr auto Name = const_name("object");
    template <typename T> using Cast = movable_cast_t<T>;

    type_caster() = default;
    type_caster(type_caster &&) = default;
    ~type_caster()
    {
        value.drop_now();
    }

    /* May not throw, and false is always a TypeError: what fails fails again in the conversion below, which may. */
    bool from_python(handle source, uint32_t, cleanup_list *) noexcept
    {
        failed = handle();
        try {
            value = Value::from_python(source.ptr());
        } catch (const externref::PythonError &) {
            PyErr_Clear();
            failed = source;
        }
        return true;
    }

    /* Containers ask, since their own from_python may not throw. */
    template <typename> bool can_cast() const noexcept
    {
        return !failed.is_valid();
    }

    explicit operator Value *()
    {
        return &loaded();
    }
    explicit operator Value &()
    {
        return loaded();
    }
    explicit operator Value &&()
    {
        return std::move(loaded());
    }

    static handle from_cpp(const Value &ref, rv_policy, cleanup_list *) noexcept
    {
        return given(ref);
    }
    static handle from_cpp(Value &&ref, rv_policy, cleanup_list *) noexcept
    {
        return given(std::move(ref));
    }
    static handle from_cpp(const Value *ref, rv_policy, cleanup_list *) noexcept
    {
        return ref != nullptr ? given(*ref) : none().release();
    }

  private:
    Value value;
    handle failed; /* the argument whose conversion failed; lent, as arguments are */

    Value &loaded()
    {
        if (failed.is_valid()) {
            try {
                value = Value::from_python(failed.ptr());
            } catch (const externref::PythonError &) {
                throw python_error();
            }
        }
        return value;
    }

    template <typename Source> static handle given(Source &&ref) noexcept
    {
        try {
            return std::forward<Source>(ref).to_python();
        } catch (const externref::PythonError &) {
            return handle(); /* the Python exception is set */
        }
    }
};

NAMESPACE_END(detail)
NAMESPACE_END(NB_NAMESPACE)

#endif /* EXTERNREF_NANOBIND_HPP */
