/* A C library of the usual kind, which knows nothing of Python: it takes a callback with a
 * `void *user_data`, and a function that destroys the user_data when it is done with it. */
#include <pthread.h>
#include <stdlib.h>

typedef void (*event_callback)(void *user_data, int event);
typedef void (*destroy_callback)(void *user_data);

struct subscription {
    event_callback callback;
    void *user_data;
    destroy_callback destroy;
    int events;
    pthread_t thread;
};

static void *deliver(void *arg)
{
    struct subscription *subscription = (struct subscription *)arg;
    for (int event = 0; event < subscription->events; event++) {
        subscription->callback(subscription->user_data, event);
    }
    subscription->destroy(subscription->user_data);
    return NULL;
}

/* Calls `callback` for each event on a thread of the library, then `destroy`, there too.
 * NULL if there is no thread or no memory: user_data is the caller's again. */
struct subscription *subscribe(int events, event_callback callback, void *user_data, destroy_callback destroy)
{
    struct subscription *subscription = (struct subscription *)malloc(sizeof *subscription);
    if (subscription != NULL) {
        subscription->callback = callback;
        subscription->user_data = user_data;
        subscription->destroy = destroy;
        subscription->events = events;
        if (pthread_create(&subscription->thread, NULL, deliver, subscription) == 0) {
            return subscription;
        }
        free(subscription);
    }
    return NULL;
}

/* Waits for the last event. */
void finish(struct subscription *subscription)
{
    pthread_join(subscription->thread, NULL);
    free(subscription);
}
