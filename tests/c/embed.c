/* Owns a reference for longer than the interpreter lives.
 *   embed PREFIX [PATH ...]     runs externref from these folders
 * With -DUNTOLD nobody tells externref of the interpreter's end. */
#include <Python.h>
#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

#include "externref.h"

static int fail(const char *what)
{
    fprintf(stderr, "%s failed\n", what);
    if (PyErr_Occurred()) {
        PyErr_Print();
    }
    return 1;
}

static int add_paths(int argc, char **argv)
{
    PyObject *path = PySys_GetObject("path");
    for (int i = 2; i < argc; i++) {
        PyObject *entry = PyUnicode_DecodeFSDefault(argv[i]);
        if (entry == NULL || PyList_Append(path, entry) != 0) {
            return -1;
        }
        Py_DECREF(entry);
    }
    return 0;
}

#ifdef UNTOLD
/* The threads of this process, on Linux. */
static int count_threads(void)
{
    int count = -2; /* "." and ".." */
    DIR *tasks = opendir("/proc/self/task");
    while (tasks != NULL && readdir(tasks) != NULL) {
        count++;
    }
    closedir(tasks);
    return count;
}
#endif

int main(int argc, char **argv)
{
    void *raw;
    PyObject *result, *scope;

    Py_Initialize();
    if (add_paths(argc, argv) != 0) {
        return fail("sys.path");
    }
    scope = PyDict_New();
    result = PyRun_String("from externref import VMExternRef\nraw = VMExternRef(['kept']).into_raw()\n", Py_file_input,
                          scope, scope);
    if (result == NULL) {
        return fail("import externref");
    }
    Py_DECREF(result);
    raw = PyLong_AsVoidPtr(PyDict_GetItemString(scope, "raw"));
    Py_DECREF(scope);
    if (raw == NULL) {
        return fail("into_raw");
    }
    externref_clone(raw);
#ifdef UNTOLD
    if (PyRun_SimpleString("import atexit; atexit._clear()") != 0) {
        return fail("atexit");
    }
#endif
    if (Py_FinalizeEx() != 0) {
        return fail("Py_FinalizeEx");
    }
    printf("count %zu, ", externref_strong_count(raw));
    externref_drop(raw);
    externref_drop(raw); /* the last: there is nobody left to drain, and nothing may crash */
    printf("dropped after the end, ");
#ifdef UNTOLD
    /* The helper has begun, and finds that it is too late. */
    for (int i = 0; i < 5000 && count_threads() != 1; i++) {
        usleep(1000);
    }
    printf("threads %d\n", count_threads());
    return 0;
#endif

    Py_Initialize();
    if (add_paths(argc, argv) != 0) {
        return fail("sys.path");
    }
    if (PyRun_SimpleString("try:\n"
                           "    import externref\n"
                           "except ImportError as error:\n"
                           "    assert 'a second time' in str(error), error\n"
                           "else:\n"
                           "    raise SystemError('imported')\n") != 0 ||
        Py_FinalizeEx() != 0) {
        return fail("the second interpreter");
    }
    printf("refused after that\n");
    return 0;
}
