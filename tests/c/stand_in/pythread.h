/* See Python.h. */
#ifndef STAND_IN_PYTHREAD_H
#define STAND_IN_PYTHREAD_H

#define NOWAIT_LOCK 0
#define WAIT_LOCK 1
#define PYTHREAD_INVALID_THREAD_ID ((unsigned long)-1)

typedef void *PyThread_type_lock;
typedef enum { PY_LOCK_FAILURE, PY_LOCK_ACQUIRED, PY_LOCK_INTR } PyLockStatus;

PyThread_type_lock PyThread_allocate_lock(void);
int PyThread_acquire_lock(PyThread_type_lock, int);
PyLockStatus PyThread_acquire_lock_timed(PyThread_type_lock, long long, int);
void PyThread_release_lock(PyThread_type_lock);
unsigned long PyThread_get_thread_ident(void);
unsigned long PyThread_start_new_thread(void (*)(void *), void *);

#endif /* STAND_IN_PYTHREAD_H */
