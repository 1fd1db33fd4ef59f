/* Interrupts Python code where CPython looks for interrupts: at the n-th place.
 *
 * CPython looks when a function begins, after a call of C code, and when it jumps back. Before each of these it tells
 * trace and profile functions of something. This one is C, so that nothing of its own is such a place. */
#include <Python.h>

static __thread long left; /* events until the interrupt; 0: it came */
static __thread PyObject *interrupt; /* borrowed: a signal's number, or a type of exceptions */

static int at_event(PyObject *unused, PyFrameObject *frame, int what, PyObject *arg)
{
    (void)unused, (void)frame, (void)what, (void)arg;
    if (left > 0 && --left == 0) {
        if (PyLong_Check(interrupt)) {
            PyErr_SetInterruptEx((int)PyLong_AsLong(interrupt));
        }
        else {
            PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), interrupt);
        }
    }
    return 0;
}

/* Lets one come that nothing took notice of. */
static void flush(void)
{
    PyObject *names = PyDict_New(), *result = NULL;
    while (names != NULL && (result = PyRun_String("0", Py_eval_input, names, names)) == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(result);
    Py_XDECREF(names);
}

/* function(argument), interrupted at the n-th event. */
PyObject *safe_points_call(PyObject *function, PyObject *argument, long n, PyObject *by)
{
    PyObject *result, *type, *value, *traceback;
    left = n;
    interrupt = by;
    PyEval_SetTrace(at_event, NULL);
    PyEval_SetProfile(at_event, NULL);
    result = PyObject_CallOneArg(function, argument);
    PyEval_SetProfile(NULL, NULL);
    PyEval_SetTrace(NULL, NULL);
    PyErr_Fetch(&type, &value, &traceback);
    flush();
    PyErr_Restore(type, value, traceback);
    return result;
}

/* Whether there was an n-th one. */
int safe_points_came(void)
{
    return left == 0;
}
