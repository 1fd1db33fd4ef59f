/* What the two files of the extension `plain` share. */
#include "externref_python.hpp"

/* The extension keeps this over the interpreter's end. */
extern externref::Ref kept;

/* As a METH_O function: what `function` throws becomes NULL, with the Python exception that is set. */
template <PyObject *(*function)(PyObject *)> PyObject *guarded(PyObject *, PyObject *argument)
{
    try {
        return function(argument);
    } catch (const externref::PythonError &) {
        return nullptr;
    }
}

PyObject *wrap(PyObject *number);
PyObject *to_python(PyObject *number);
PyObject *moved_to_python(PyObject *number);

/* The count that a raw pointer, an int, stands for: the caller's, moved here. */
externref::Ref from_number(PyObject *number);
