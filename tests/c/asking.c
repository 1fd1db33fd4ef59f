/* To be preloaded. On demand a thread that adds a pending call stops before it does, and none starts that is made with
 * attributes, as externref's helper is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>

static int stops;
static sem_t arrived, may_go;

void stop_who_asks(void)
{
    sem_init(&arrived, 0, 0);
    sem_init(&may_go, 0, 0);
    stops = 1;
}

/* From then on nobody else stops. */
void await_who_asks(void)
{
    sem_wait(&arrived);
    stops = 0;
}

void let_go(void)
{
    sem_post(&may_go);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
    return stops && attributes != NULL ? EAGAIN : next(thread, attributes, run, argument);
}

int Py_AddPendingCall(int (*call)(void *), void *argument)
{
    int (*next)(int (*)(void *), void *) = dlsym(RTLD_NEXT, "Py_AddPendingCall");
    if (stops) {
        sem_post(&arrived);
        sem_wait(&may_go);
    }
    return next(call, argument);
}
