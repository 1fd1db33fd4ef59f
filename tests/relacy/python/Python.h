/* What the shipped headers use of CPython, for the model: see ../model.hpp, which has it all. */
#ifndef MODEL_PYTHON_H
#define MODEL_PYTHON_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef PY_VERSION_HEX
#  define PY_VERSION_HEX 0x030D0000
#endif

typedef intptr_t Py_ssize_t;
typedef struct {
    int unused;
} PyInterpreterState;
typedef struct {
    PyInterpreterState *interp;
} PyThreadState;

#ifdef Py_GIL_DISABLED
typedef struct {
    int unused;
} PyCriticalSection, PyCriticalSection2;
#endif

int Py_AddPendingCall(int (*call)(void *), void *argument);
PyInterpreterState *PyInterpreterState_Get(void);
PyThreadState *PyThreadState_New(PyInterpreterState *interpreter);
void PyThreadState_Clear(PyThreadState *state);
void PyThreadState_DeleteCurrent(void);
PyThreadState *PyGILState_GetThisThreadState(void);
PyThreadState *PyThreadState_GetUnchecked(void);
PyThreadState *_PyThreadState_UncheckedGet(void);
int PyGILState_Check(void);
int Py_IsInitialized(void);
void PyEval_RestoreThread(PyThreadState *state);
PyThreadState *PyEval_SaveThread(void);

#define Py_BEGIN_ALLOW_THREADS \
    { \
        PyThreadState *saved = PyEval_SaveThread();
#define Py_END_ALLOW_THREADS \
    PyEval_RestoreThread(saved); \
    }

#endif /* MODEL_PYTHON_H */
