/* The other file of the extension `plain`: nothing here imports the C API. */
#include "plain.hpp"

using externref::Ref;

/* Each lends from the int's count, which stays the caller's. */

PyObject *wrap(PyObject *number)
{
    Ref ref = Ref::clone_from_raw(PyLong_AsVoidPtr(number));
    return ref.wrap();
}

PyObject *to_python(PyObject *number)
{
    Ref ref = Ref::clone_from_raw(PyLong_AsVoidPtr(number));
    return ref.to_python();
}

/* Takes the int's count, unless it fails: then the Ref must still have it. */
PyObject *moved_to_python(PyObject *number)
{
    Ref ref = from_number(number);
    try {
        return std::move(ref).to_python();
    } catch (const externref::PythonError &) {
        if (ref.into_raw() == nullptr) {
            PyErr_SetString(PyExc_AssertionError, "what failed has changed the Ref");
        }
        throw;
    }
}
