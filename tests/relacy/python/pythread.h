/* Likewise of its locks and threads. */
#ifndef MODEL_PYTHREAD_H
#define MODEL_PYTHREAD_H

typedef void *PyThread_type_lock;
typedef enum { PY_LOCK_FAILURE, PY_LOCK_ACQUIRED } PyLockStatus;

#define NOWAIT_LOCK 0
#define WAIT_LOCK 1

PyThread_type_lock PyThread_allocate_lock(void);
int PyThread_acquire_lock(PyThread_type_lock lock, int wait);
PyLockStatus PyThread_acquire_lock_timed(PyThread_type_lock lock, long long microseconds, int interruptible);
void PyThread_release_lock(PyThread_type_lock lock);
unsigned long PyThread_get_thread_ident(void);

#endif /* MODEL_PYTHREAD_H */
