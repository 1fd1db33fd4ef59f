/* Runs a script in a Python that it embeds, and goes on after that one's end: script FILE [ARGUMENT ...] */
#include <Python.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    PyConfig config;
    PyStatus status;
    FILE *file = argc > 1 ? fopen(argv[1], "r") : NULL;
    int failed;
    if (file == NULL) {
        perror("no script");
        return 1;
    }
    PyConfig_InitPythonConfig(&config);
    config.parse_argv = 0;
    status = PyConfig_SetBytesArgv(&config, argc - 1, argv + 1);
    if (!PyStatus_Exception(status)) {
        status = Py_InitializeFromConfig(&config);
    }
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        Py_ExitStatusException(status);
    }
    failed = PyRun_SimpleFileEx(file, argv[1], 1);
    if (Py_FinalizeEx() != 0 || failed) {
        return 1;
    }
    usleep(30000); /* three ticks of the helper, if it is still there */
    return 0;
}
