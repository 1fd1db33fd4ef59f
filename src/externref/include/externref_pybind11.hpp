/* externref_pybind11.hpp: pybind11 converts externref::Ref.
 *
 * Into a Ref parameter goes any object: None as null, a VMExternRef as one more owner of its block, anything else in
 * a box of its own. Out of a Ref comes the object, None for null, and a VMExternRef for a native payload.
 * py::cast<externref::Ref>(object) and py::cast(ref) do the same. Spent wrappers raise MovedError.
 * A parameter's Ref that the function did not move away is released when the call ends.
 *
 * Include it in every file that binds a function with a Ref. C++17. */
#ifndef EXTERNREF_PYBIND11_HPP
#define EXTERNREF_PYBIND11_HPP

#include <pybind11/pybind11.h>

#include <utility>

#include "externref_python.hpp"

namespace PYBIND11_NAMESPACE {
namespace detail {

template <> class type_caster<externref::Ref> {
    PYBIND11_TYPE_CASTER(externref::Ref, const_name("object"));

  public:
    type_caster() = default;
    type_caster(type_caster &&) = default;
    ~type_caster()
    {
        value.drop_now();
    }

    bool load(handle source, bool)
    {
        try {
            value = externref::Ref::from_python(source.ptr());
        } catch (const externref::PythonError &) {
            throw error_already_set();
        }
        return true;
    }

    static handle cast(const externref::Ref &ref, return_value_policy, handle)
    {
        return given(ref);
    }
    static handle cast(externref::Ref &&ref, return_value_policy, handle)
    {
        return given(std::move(ref));
    }

  private:
    template <typename Source> static handle given(Source &&ref)
    {
        try {
            return std::forward<Source>(ref).to_python();
        } catch (const externref::PythonError &) {
            throw error_already_set();
        }
    }
};

} // namespace detail
} // namespace PYBIND11_NAMESPACE

#endif /* EXTERNREF_PYBIND11_HPP */
