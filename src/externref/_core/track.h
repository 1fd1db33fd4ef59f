/* What externref.debug knows of blocks: their records, and the freed ones that it keeps.
 *
 * Here is C alone, so that whatever happens in the middle of a making or a freeing no Python code runs: a record owns no
 * object, its texts are copies. One lock guards all of it, and is never held over more than this file's own code: threads
 * without the GIL come here with what they drop once too often. What fails for want of memory is not recorded.
 *
 *   Place    a line of a function of a file; those that are alike are one
 *   Event    what happened to a block, and the places of the calls that it was in
 *   Record   of a block that lives or is kept, in a hash table by its address; of one that is kept in a list, too
 *
 * A kept block has one owner, nobody, and a vtable of its own: a drop comes to track_dropped(), a clone shows in the
 * count. Its payload's word is the address of its record. */
#ifndef EXTERNREF_TRACK_H
#define EXTERNREF_TRACK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if !defined(_WIN32)
#  include <poll.h>
#  include <pthread.h>
#  include <sched.h>
#  include <unistd.h>
#endif
#include "externref.h"
#include "atomics.h"
#include "locks.h"
#include "pending.h"
#include "slab.h"

typedef struct Place {
    struct Place *next; /* in its bucket */
    size_t users;
    size_t hash;
    int line;
    const char *function;
    char file[]; /* and after it the function's name */
} Place;

typedef struct Event {
    struct Event *before; /* the block's event before this one */
    const char *what;
    size_t length;
    Place *calls[]; /* the innermost first */
} Event;

typedef struct Record {
    struct Record *next; /* in its bucket */
    struct Record *newer; /* in the list of those that are kept */
    uintptr_t address; /* of the footer */
    size_t serial; /* in the order of the makings; 0: it was made before anybody tracked */
    Event *events; /* the newest first */
    size_t event_count;
    int is_kept; /* its block was freed, and is kept: as long as it is in the list, or for ever if it is given */
    int is_given; /* it is kept, and Python was given it since */
    int is_linked; /* it is kept, and awaits the drain: until that, value_ptr is the link */
    char payload_type[];
} Record;

/* The making of a block, and so many of the newest events. */
#define TRACK_EVENTS 64
#define TRACK_TOLD 6
#define TRACK_MISTAKES 1000
#define TRACK_STOLEN "dropped a reference that Python still owns"
#define TRACK_DROPPED "used a reference that it had dropped"
#define TRACK_TEXT 2000 /* bytes that are said at once: a pipe takes them as a whole, or not */

static struct {
    long lock; /* atomic */
    Place **places; /* buckets; as many as of records */
    Record **records;
    size_t buckets, place_count, record_count;
    size_t made;
    int is_on; /* whether records are made; while there is one, the watch is told of the end of its block */
    Record *oldest, *newest; /* that are kept */
    size_t kept, most_kept;
    char *mistakes[TRACK_MISTAKES]; /* the newest, by their number modulo that */
    size_t mistake_count, said_count;
} track;

static void track_lock(void)
{
    while (atomic_flag_swap(&track.lock, 1) != 0) {
#if !defined(_WIN32)
        sched_yield();
#endif
    }
}

static void track_unlock(void)
{
    atomic_flag_swap(&track.lock, 0);
}

static size_t track_read(const size_t *count)
{
    size_t value;
    track_lock();
    value = *count;
    track_unlock();
    return value;
}

/* In the child of a fork. If another thread had the lock then all that may be half made is forgotten: a fork that waited for
 * the lock would have it while it waits for locks of others in their hooks, whose owners may wait for this one. Nobody
 * forks who has the lock: no code runs in it. */
static void track_in_child(void)
{
    if (atomic_flag_load(&track.lock) != 0) {
        track.places = NULL;
        track.records = NULL;
        track.buckets = track.place_count = track.record_count = 0;
        track.oldest = track.newest = NULL;
        track.kept = 0;
        memset(track.mistakes, 0, sizeof(track.mistakes));
        track_unlock();
    }
}

/* 0 if it cannot be. */
static int track_at_forks(void)
{
#if defined(_WIN32)
    return 1;
#else
    return pthread_atfork(NULL, NULL, track_in_child) == 0;
#endif
}

/* --- Places and events --- */

static size_t track_hash(const char *text, size_t hash)
{
    for (; *text != 0; text++) {
        hash = (hash ^ (unsigned char)*text) * (size_t)0x100000001b3u;
    }
    return hash;
}

static size_t track_bucket(size_t hash)
{
    return (hash ^ hash >> 15) & (track.buckets - 1);
}

static size_t track_home(uintptr_t address)
{
    return track_bucket((size_t)(address >> 3) * (size_t)0x9E3779B1u);
}

/* Twice as many buckets, or as many as there were. The lock. */
static void track_grow(void)
{
    const size_t before = track.buckets, buckets = before != 0 ? 2 * before : 256;
    Place **places = (Place **)calloc(buckets, sizeof(Place *));
    Record **records = (Record **)calloc(buckets, sizeof(Record *));
    Place **old_places = track.places;
    Record **old_records = track.records;
    if (places == NULL || records == NULL) {
        free(places);
        free(records);
        return;
    }
    track.places = places;
    track.records = records;
    track.buckets = buckets;
    for (size_t i = 0; i < before; i++) {
        for (Place *place = old_places[i], *next; place != NULL; place = next) {
            Place **bucket = &places[track_bucket(place->hash)];
            next = place->next;
            place->next = *bucket;
            *bucket = place;
        }
        for (Record *record = old_records[i], *next; record != NULL; record = next) {
            Record **bucket = &records[track_home(record->address)];
            next = record->next;
            record->next = *bucket;
            *bucket = record;
        }
    }
    free(old_places);
    free(old_records);
}

/* Whether there is a bucket for one more. The lock. */
static int track_has_room(void)
{
    if (track.record_count + track.place_count >= track.buckets) {
        track_grow();
    }
    return track.buckets != 0;
}

/* The place, with a user more; NULL if memory is short. The lock. */
static Place *place_of(const char *file, const char *function, int line)
{
    const size_t size = strlen(file) + 1,
                 hash = track_hash(function, track_hash(file, (size_t)line * 31 + 1469598103u));
    Place **bucket, *place;
    if (!track_has_room()) {
        return NULL;
    }
    bucket = &track.places[track_bucket(hash)];
    for (place = *bucket; place != NULL; place = place->next) {
        if (place->hash == hash && place->line == line && strcmp(place->file, file) == 0 &&
            strcmp(place->function, function) == 0) {
            place->users++;
            return place;
        }
    }
    place = (Place *)malloc(sizeof(Place) + size + strlen(function) + 1);
    if (place == NULL) {
        return NULL;
    }
    memcpy(place->file, file, size);
    strcpy(place->file + size, function);
    place->function = place->file + size;
    place->users = 1;
    place->hash = hash;
    place->line = line;
    place->next = *bucket;
    *bucket = place;
    track.place_count++;
    return place;
}

/* The lock. */
static void place_let_go(Place *place)
{
    if (--place->users == 0 && track.buckets != 0) {
        Place **link = &track.places[track_bucket(place->hash)];
        while (*link != place) {
            if (*link == NULL) {
                return; /* not reached: a fork at the moment that another thread has the lock */
            }
            link = &(*link)->next;
        }
        *link = place->next;
        track.place_count--;
        free(place);
    }
}

/* An event without calls yet; NULL if memory is short. `what` is a constant. */
static Event *event_new(const char *what, size_t most)
{
    const size_t room = (SIZE_MAX - sizeof(Event)) / sizeof(Place *);
    Event *event = most <= room ? (Event *)malloc(sizeof(Event) + most * sizeof(Place *)) : NULL;
    if (event != NULL) {
        event->before = NULL;
        event->what = what;
        event->length = 0;
    }
    return event;
}

/* Adds the next outer call; whether that could be. */
static int event_add(Event *event, const char *file, const char *function, int line)
{
    Place *place;
    track_lock();
    place = place_of(file, function, line);
    if (place != NULL) {
        event->calls[event->length++] = place;
    }
    track_unlock();
    return place != NULL;
}

/* Gives back the room of calls that there are not. */
static Event *event_fit(Event *event)
{
    Event *fit = event != NULL ? (Event *)realloc(event, sizeof(Event) + event->length * sizeof(Place *)) : NULL;
    return fit != NULL ? fit : event;
}

/* NULL is ignored. The lock. */
static void event_free(Event *event)
{
    for (size_t i = 0; event != NULL && i < event->length; i++) {
        place_let_go(event->calls[i]);
    }
    free(event);
}

/* --- Records --- */

/* The lock. */
static Record **record_link(uintptr_t address)
{
    Record **link = track.buckets != 0 ? &track.records[track_home(address)] : NULL;
    while (link != NULL && *link != NULL && (*link)->address != address) {
        link = &(*link)->next;
    }
    return link;
}

/* NULL if there is none. The lock. */
static Record *record_of(uintptr_t address)
{
    Record **link = record_link(address);
    return link != NULL ? *link : NULL;
}

/* Takes the event. The lock. */
static void record_add(Record *record, Event *event)
{
    if (event == NULL) {
        return;
    }
    event->before = record->events;
    record->events = event;
    if (++record->event_count > TRACK_EVENTS) {
        Event *last = event;
        while (last->before->before != NULL) {
            last = last->before;
        }
        for (event = record->events; event->before != last; event = event->before) {
        }
        event->before = last->before; /* the making stays */
        event_free(last);
        record->event_count--;
    }
}

/* There is room: track_has_room(). The lock. */
static void record_insert(Record *record)
{
    Record **link = record_link(record->address);
    record->next = *link; /* NULL: the address was another's no more */
    *link = record;
    track.record_count++;
}

/* The lock. */
static void record_free(Record *record)
{
    while (record->events != NULL) {
        Event *event = record->events;
        record->events = event->before;
        event_free(event);
    }
    free(record);
}

/* Takes the record out of the table; NULL if there is none. The lock. */
static Record *record_take(uintptr_t address)
{
    Record **link = record_link(address);
    Record *record = link != NULL ? *link : NULL;
    if (record != NULL) {
        *link = record->next;
        track.record_count--;
    }
    return record;
}

static Record *record_new(uintptr_t address, const char *payload_type)
{
    Record *record = (Record *)calloc(1, sizeof(Record) + strlen(payload_type) + 1);
    if (record != NULL) {
        record->address = address;
        strcpy(record->payload_type, payload_type);
    }
    return record;
}

/* Takes the event, NULL if there is none. */
static void track_made(uintptr_t address, const char *payload_type, Event *event)
{
    Record *record = record_new(address, payload_type);
    track_lock();
    if (record == NULL || !track.is_on || !track_has_room()) {
        free(record);
        event_free(event);
    }
    else {
        record->serial = ++track.made;
        record_add(record, event);
        record_insert(record);
    }
    track_unlock();
}

/* Takes the event. */
static void track_happened(uintptr_t address, Event *event)
{
    Record *record;
    track_lock();
    record = record_of(address);
    if (record != NULL) {
        record_add(record, event);
    }
    else {
        event_free(event);
    }
    track_unlock();
}

/* --- Mistakes of compiled code --- */

static const char *track_own_folder = ""; /* calls in its files are the package's own */

/* Writes the life of a block: "Big made at app.py:7 in load, freed at app.py:9 in load"; of a long one how it began and
 * what came last. The lock. */
static void record_tell(const Record *record, char *text, size_t size)
{
    const Event *events[TRACK_TOLD], *event = record->events;
    const char *comma = "";
    size_t count = 0, length;
    for (; event != NULL && count < TRACK_TOLD - 1; event = event->before) {
        events[count++] = event;
    }
    for (; event != NULL; event = event->before) {
        events[TRACK_TOLD - 1] = event;
        count = TRACK_TOLD;
    }
    length = (size_t)snprintf(text, size, "%s", record->payload_type);
    if (record->serial == 0 && length < size) {
        length += (size_t)snprintf(text + length, size - length, " made before anybody tracked");
        comma = ",";
    }
    while (count != 0 && length < size) {
        size_t i = 0;
        event = events[--count];
        while (i < event->length && strncmp(event->calls[i]->file, track_own_folder, strlen(track_own_folder)) == 0) {
            i++;
        }
        length += (size_t)snprintf(text + length, size - length, "%s %s", comma, event->what);
        comma = ",";
        if (length < size) {
            length += i < event->length
                          ? (size_t)snprintf(text + length, size - length, " at %s:%d in %s", event->calls[i]->file,
                                             event->calls[i]->line, event->calls[i]->function)
                          : (size_t)snprintf(text + length, size - length, " outside of Python code");
        }
    }
}

/* Keeps a mistake, `times` of the same; track_say_all() is due. The lock. */
static void mistake_tell(const char *mistake, size_t times, const Record *record)
{
    char text[TRACK_TEXT], many[32] = "";
    size_t length;
    char *copy, **kept = &track.mistakes[track.mistake_count % TRACK_MISTAKES];
    if (times > 1) {
        snprintf(many, sizeof(many), " %zu times", times);
    }
    length = (size_t)snprintf(text, sizeof(text), "compiled code %s%s: ", mistake, many);
    record_tell(record, text + length, sizeof(text) - length);
    copy = (char *)malloc(strlen(text) + 1);
    if (copy != NULL) {
        strcpy(copy, text);
        free(*kept);
        *kept = copy;
        track.mistake_count++;
    }
}

/* Of a block of which nothing may be known. The lock. */
static void mistake_with(uintptr_t address, const char *mistake, size_t times)
{
    const Record *record = record_of(address);
    Record *unknown = record == NULL ? record_new(address, "object") : NULL;
    if (record != NULL || unknown != NULL) {
        mistake_tell(mistake, times, record != NULL ? record : unknown);
    }
    free(unknown);
}

/* The mistake of this number, from 0 on; whether it is kept. `text` has TRACK_TEXT bytes. */
static int track_mistake(size_t number, char *text)
{
    int is_kept;
    track_lock();
    is_kept = number < track.mistake_count && number + TRACK_MISTAKES >= track.mistake_count &&
              track.mistakes[number % TRACK_MISTAKES] != NULL;
    if (is_kept) {
        strcpy(text, track.mistakes[number % TRACK_MISTAKES]);
    }
    track_unlock();
    return is_kept;
}

/* On stderr, unless nobody reads what is there already: that may be for a thread of ours to do, which waits for the GIL. */
static void track_say(const char *text)
{
    char line[TRACK_TEXT + 32];
    const int length = snprintf(line, sizeof(line), "externref: %s\n", text);
#if defined(_WIN32)
    fwrite(line, 1, (size_t)length, stderr);
    fflush(stderr);
#else
    static long is_full; /* atomic: it was, so nobody waits for it again */
    struct pollfd there = {STDERR_FILENO, POLLOUT, 0};
    const int is_ready = poll(&there, 1, atomic_flag_load(&is_full) ? 0 : 100) == 1 && there.revents & POLLOUT;
    atomic_flag_swap(&is_full, !is_ready);
    if (is_ready) {
        const ssize_t written = write(STDERR_FILENO, line, (size_t)length);
        (void)written; /* it is kept, too */
    }
#endif
}

/* Says what nobody has said yet of what is known by now, each once, as far as it is kept. */
static void track_say_all(void)
{
    char text[TRACK_TEXT];
    size_t number, end;
    track_lock();
    end = track.mistake_count;
    track_unlock();
    do {
        track_lock();
        if (track.mistake_count > track.said_count + TRACK_MISTAKES) {
            track.said_count = track.mistake_count - TRACK_MISTAKES;
        }
        number = track.said_count;
        track.said_count += number < end;
        track_unlock();
        if (number < end && track_mistake(number, text)) {
            track_say(text);
        }
    } while (number < end);
}

/* --- Freed blocks that are kept --- */

static void track_dropped(void *raw);

static const VMExternVTable track_vtable = {NULL, sizeof(void *), sizeof(void *), "freed reference", track_dropped};

static inline Cell *track_cell(uintptr_t address)
{
    return (Cell *)(address - offsetof(Cell, footer));
}

/* The lock. */
static void track_disguise(Record *record)
{
    Cell *cell = track_cell(record->address);
    cell->payload = record;
    cell->footer.ref_count = 1;
    if (!record->is_linked) {
        cell->footer.value_ptr = cell;
    }
    cell->footer.vtable = &track_vtable;
    cell->footer.handles = cell->footer.state = 0;
}

/* The vtable's drop_slow: any thread, without the GIL or with it. */
static void track_dropped(void *raw)
{
    VMExternData *data = (VMExternData *)raw;
    track_lock();
    if (data->vtable == &track_vtable) { /* else it was let go meanwhile */
        /* Others may have taken more since it was 0. */
        const size_t before = atomic_count_swap(&data->ref_count, data->handles != 0 ? data->handles : 1);
        mistake_with((uintptr_t)raw, "dropped a freed reference", before > PTRDIFF_MAX ? 1 - before : 1);
    }
    track_unlock();
    track_say_all();
}

/* Tells what a kept block shows, and puts it right. The lock. */
static void record_look(Record *record)
{
    Cell *cell = track_cell(record->address);
    VMExternData *data = &cell->footer;
    const size_t count = EXTERNREF_ACQUIRE(&data->ref_count);
    /* A function of compiled code returned it, say; `state`: and it was lent or moved out again. */
    if (data->handles != 0 || data->state != 0 || record->is_given) {
        if (!record->is_given) {
            record->is_given = 1;
            mistake_tell("gave Python a freed reference", 1, record);
        }
    }
    else if (cell->payload != record || (data->value_ptr != cell && !record->is_linked) ||
             data->vtable != &track_vtable) {
        track_disguise(record);
        mistake_tell("wrote to a freed reference", 1, record);
    }
    else if (count > 1 && count <= PTRDIFF_MAX) { /* 0: a drop is about to come to track_dropped() */
        atomic_count_add(&data->ref_count, 1 - count);
        mistake_tell("cloned a freed reference", count - 1, record);
    }
}

/* Looks at all that are kept. */
static void track_look(void)
{
    track_lock();
    for (Record *record = track.kept != 0 ? track.oldest : NULL; record != NULL; record = record->newer) {
        record_look(record);
    }
    track_unlock();
    track_say_all();
}

/* Lets go of the oldest while there are too many. What gives a cell back runs no code. */
static void track_keep(void)
{
    track_lock();
    while (track.kept > track.most_kept) {
        Record *record = track.oldest;
        record_look(record);
        track.oldest = record->newer;
        track.kept--;
        if (record->is_given || record->is_linked) { /* Python may use it, or the drain: it stays for ever */
            continue;
        }
        record_take(record->address);
        track_cell(record->address)->footer.vtable = NULL;
        block_release(track_cell(record->address));
        record_free(record);
    }
    track_unlock();
    track_say_all();
}

/* A drop took the count of a block that handles have to zero: one of theirs, then. If freed blocks are kept it gives that
 * back, and the caller says so, by track_stolen(); whether the handles keep the block. There is a count already if
 * take_only_count() left it, or compiled code made one since. Any thread: if the handles ended meanwhile, by drops that
 * were not the last since it was zero, the caller's is, and it is to be freed. */
#if defined(__GNUC__)
__attribute__((noinline)) /* inlined, clone+drop takes 515 instructions in place of 503 */
#endif
static int track_give_back(VMExternData *data)
{
    if (atomic_count_load(&track.most_kept) == 0) {
        return 0;
    }
    while (*(volatile uint32_t *)&data->handles != 0) { /* with a GIL it may be another's at this moment */
        if (EXTERNREF_ACQUIRE(&data->ref_count) - 1 < PTRDIFF_MAX ||
            atomic_count_add(&data->ref_count, 1) <= PTRDIFF_MAX) { /* else more were taken than are given back yet */
            return 1;
        }
    }
    return 0; /* not reached: the handles end at this moment */
}

/* Says that a drop took a handle's count. */
static void track_stolen(VMExternData *data)
{
    track_lock();
    mistake_with((uintptr_t)data, TRACK_STOLEN, 1);
    track_unlock();
    track_say_all();
}

/* A block is freed; takes the event. Whether it is kept, and its cell with it: never a native one, which is in none. */
static int track_freed(VMExternData *data, int is_native, Event *event)
{
    const size_t count = EXTERNREF_ACQUIRE(&data->ref_count);
    const char *mistake = NULL;
    Record *record;
    int is_kept = 0;
    /* No operation of the package leaves the count so. */
    if (count > PTRDIFF_MAX) {
        mistake = "dropped a reference more often than there were owners";
    }
    else if (count == 0 && data->handles != 0) {
        mistake = TRACK_STOLEN;
    }
    else if (pending_is_linked(data)) {
        mistake = TRACK_DROPPED;
    }
    track_lock();
    record = record_take((uintptr_t)data);
    if (record == NULL && (mistake != NULL || track.most_kept != 0)) {
        record = record_new((uintptr_t)data, "object");
    }
    if (record != NULL) {
        record_add(record, event);
        event = NULL;
        if (mistake != NULL) {
            mistake_tell(mistake, 1, record);
        }
        is_kept = track.most_kept != 0 && !is_native && track_has_room();
        if (is_kept) {
            record->is_linked = pending_is_linked(data);
            track_disguise(record);
            record_insert(record);
            record->is_kept = 1;
            record->newer = NULL;
            *(track.kept != 0 ? &track.newest->newer : &track.oldest) = record;
            track.newest = record;
            track.kept++;
        }
        else {
            record_free(record);
        }
    }
    event_free(event);
    track_unlock();
    track_keep();
    return is_kept;
}

/* Whether a native block awaits the drain, which frees it then: compiled code had dropped it before Python got it. It stays in
 * the set of those that were handed out, so that its next drop is not done where it is. */
static int track_leave_to_drain(VMExternData *data)
{
    if (!pending_is_linked(data)) {
        return 0;
    }
    track_lock();
    mistake_with((uintptr_t)data, TRACK_DROPPED, 1);
    track_unlock();
    track_say_all();
    return 1;
}

/* A block is dropped through the package's own functions; whether it was freed before, and is kept. */
static int track_freed_again(VMExternData *data)
{
    Record *record;
    int is_drained;
    if (data->vtable != &track_vtable) {
        return 0;
    }
    track_lock();
    record = record_of((uintptr_t)data);
    is_drained = record != NULL && record->is_linked;
    if (is_drained) {
        record->is_linked = 0;
    }
    track_unlock();
    if (!is_drained) {
        track_dropped(data);
    }
    data->state = 0; /* Python gave up what it was given: it is in no set, and not lent */
    return 1;
}

/* --- Copies, for Python --- */

/* What a footer said at one time. */
typedef struct {
    uintptr_t address;
    const VMExternVTable *vtable;
    size_t count;
    uint32_t handles, state;
} Look;

/* What keeps the block meanwhile is the caller's affair. Takes the block's lock. */
static void look_at(VMExternData *data, Look *look)
{
    look->address = (uintptr_t)data;
    look->vtable = data->vtable;
    block_lock(data);
    look->count = externref_strong_count(data);
    look->handles = data->handles;
    look->state = state_load(data);
    block_unlock(data);
}

typedef struct {
    Record *record; /* the copy's owner's; without `newer` and `next` */
    Look look;
} Copy;

/* 0 if memory is short. The lock. */
static int record_copy(const Record *record, Copy *copy)
{
    Event **link;
    look_at((VMExternData *)record->address, &copy->look);
    copy->record = record_new(record->address, record->payload_type);
    if (copy->record == NULL) {
        return 0;
    }
    copy->record->serial = record->serial;
    link = &copy->record->events;
    for (const Event *event = record->events; event != NULL; event = event->before) {
        *link = event_new(event->what, event->length);
        if (*link == NULL) {
            break;
        }
        for (size_t i = 0; i < event->length; i++) {
            event->calls[i]->users++;
            (*link)->calls[i] = event->calls[i];
        }
        (*link)->length = event->length;
        link = &(*link)->before;
    }
    return 1;
}

static void copy_free(Copy *copy)
{
    track_lock();
    record_free(copy->record);
    track_unlock();
}

/* A copy of the record with this address; whether there is one. */
static int track_copy(uintptr_t address, Copy *copy)
{
    const Record *record;
    int is_there;
    track_lock();
    record = record_of(address);
    is_there = record != NULL && record_copy(record, copy);
    track_unlock();
    return is_there;
}

static int compare_serials(const void *left, const void *right)
{
    const size_t one = ((const Copy *)left)->record->serial, other = ((const Copy *)right)->record->serial;
    return (one > other) - (one < other);
}

/* Copies of the records of blocks that live, the oldest first, to be freed; how many, or -1 if memory is short. */
static ptrdiff_t track_copies(Copy **copies)
{
    ptrdiff_t length = 0;
    track_lock();
    *copies = (Copy *)malloc((track.record_count + 1) * sizeof(Copy));
    for (size_t i = 0; *copies != NULL && i < track.buckets; i++) {
        for (Record *record = track.records[i]; record != NULL; record = record->next) {
            length += !record->is_kept && record_copy(record, &(*copies)[length]);
        }
    }
    track_unlock();
    if (*copies == NULL) {
        return -1;
    }
    qsort(*copies, (size_t)length, sizeof(Copy), compare_serials);
    return length;
}

/* Forgets all records of blocks that live. The lock. */
static void track_forget(void)
{
    for (size_t i = 0; i < track.buckets; i++) {
        Record **link = &track.records[i];
        while (*link != NULL) {
            Record *record = *link;
            if (record->is_kept) {
                link = &record->next;
                continue;
            }
            *link = record->next;
            record_free(record);
            track.record_count--;
        }
    }
}

#endif /* EXTERNREF_TRACK_H */
