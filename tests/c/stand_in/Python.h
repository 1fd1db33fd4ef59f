/* Stands in for CPython's headers where there are none for the target: declares what the package's own headers
 * use, and defines nothing of it. What it says of CPython is not checked here, the package's build does that. */
#ifndef STAND_IN_PYTHON_H
#define STAND_IN_PYTHON_H

#define _GNU_SOURCE 1 /* as CPython's does */

#include <stddef.h>
#include <stdint.h>

#define PY_VERSION_HEX 0x030F0000

typedef struct _is PyInterpreterState;
typedef struct _stack_chunk {
    struct _stack_chunk *previous;
} _PyStackChunk;
typedef struct _ts {
    uint64_t id;
    PyInterpreterState *interp;
    _PyStackChunk *datastack_chunk;
} PyThreadState;
typedef struct _object PyObject;
typedef ptrdiff_t Py_ssize_t;
typedef struct PyInterpreterView PyInterpreterView;
typedef struct PyInterpreterGuard PyInterpreterGuard;

#define Py_BEGIN_ALLOW_THREADS \
    { \
        PyThreadState *_save = PyEval_SaveThread();
#define Py_END_ALLOW_THREADS \
    PyEval_RestoreThread(_save); \
    }

void *PyMem_RawCalloc(size_t, size_t);
void PyMem_RawFree(void *);
int Py_AddPendingCall(int (*)(void *), void *);
int Py_IsFinalizing(void);
int Py_IsInitialized(void);
int PyErr_CheckSignals(void);
int PyOS_InterruptOccurred(void);
void PyErr_SetInterrupt(void);
int PyGILState_Check(void);
PyInterpreterState *PyInterpreterState_Get(void);
PyInterpreterView *PyInterpreterView_FromCurrent(void);
PyInterpreterGuard *PyInterpreterGuard_FromView(PyInterpreterView *);
void PyInterpreterGuard_Close(PyInterpreterGuard *);
PyThreadState *PyThreadState_Get(void);
PyThreadState *PyGILState_GetThisThreadState(void);
PyThreadState *PyThreadState_GetUnchecked(void);
PyThreadState *PyThreadState_New(PyInterpreterState *);
void PyThreadState_Clear(PyThreadState *);
void PyThreadState_DeleteCurrent(void);
PyThreadState *PyEval_SaveThread(void);
void PyEval_RestoreThread(PyThreadState *);

#endif /* STAND_IN_PYTHON_H */
