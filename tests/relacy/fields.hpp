/* Accesses to memory, as the compiler reports them, become Relacy's: see model.hpp. */
#ifndef MODEL_FIELDS_HPP
#define MODEL_FIELDS_HPP

#include <relacy/relacy.hpp>
#undef new
#undef delete
#undef free
#undef assert

#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "shipped.h"

namespace model {

enum { THREADS = 5, FIELDS = 128 };

// --- Controls --------------------------------------------------------------------

static const char *control = "none";

static bool is_control(const char *name)
{
    return strcmp(control, name) == 0;
}

// Of an operation on a field, whose ordering it may weaken, given the one that is written there.
struct Weaker {
    const char *control, *field, *operation;
    rl::memory_order order;
};
static const Weaker WEAKER[] = {
    {"decrement-relaxed", "ref_count", "sub", rl::mo_relaxed},
    {"no-acquire-before-free", "ref_count", "load", rl::mo_relaxed},
    {"push-relaxed", "pending.head", "replace", rl::mo_relaxed},
    {"pop-relaxed", "pending.head", "swap", rl::mo_relaxed},
    {"push-hold-relaxed", "pending.holds", "replace", rl::mo_relaxed},
    {"state-set-acq-rel", "helper.state", "swap", rl::mo_acq_rel},
    {"state-looked-at-acquire", "helper.state", "load", rl::mo_acquire},
    {"list-looked-at-acquire", "pending.head", "load", rl::mo_acquire},
    {"closed-looked-at-acquire", "helper.closed", "load", rl::mo_acquire},
    {"forks-looked-at-acquire", "helper.forks", "load", rl::mo_acquire},
    {"unlock-relaxed", "pending.lock", "and", rl::mo_relaxed},
};

// Of a swap or store that comes later than it is written: after the thread's next operation of that kind on that field,
// or, without one, when it waits or its pending call ends.
struct Later {
    const char *control, *field;
    uint64_t value; // only of this one, or ANY
    const char *after, *operation;
};
static const uint64_t ANY = UINT64_MAX;
static const Later LATER[] = {
    {"sleeps-after-looking", "helper.state", 6 /* HELPER_ASLEEP */, NULL, NULL},
    {"flag-cleared-after-drain", "helper.requested", 0, NULL, NULL},
    {"marked-after-swap", "pending.batch", 1 /* PENDING_TAKEN */, "pending.head", "swap"},
    {"closes-after-looking", "helper.closed", 1, "helper.state", "load"},
};

// --- Fields ----------------------------------------------------------------------

enum Kind { READ, WRITE, ATOMIC_READ, ATOMIC_WRITE };

struct Field {
    const volatile char *address;
    size_t size;
    const void *memory;
    char name[40];
    bool freed;
    bool is_stored; // without being read at once, by some atomic operation
    rl::timestamp_t stamps[4][THREADS]; // of the last access of each kind by each thread
    alignas(rl::atomic<uint64_t>) char storage[sizeof(rl::atomic<uint64_t>)];

    rl::atomic<uint64_t> &atomic()
    {
        return *reinterpret_cast<rl::atomic<uint64_t> *>(storage);
    }
};

static Field fields[FIELDS];
static int field_count;
static bool are_begun; // before, one thread writes what the others find
static Field *slots[1024]; // by address

static Field **slot_of(const volatile void *address)
{
    size_t i = (uintptr_t)address / 4 * 2654435761u >> 12;
    while (slots[i % 1024] != NULL && slots[i % 1024]->address != address) {
        i++;
    }
    return &slots[i % 1024];
}

static Field *field_at(const volatile void *address)
{
    return *slot_of(address);
}

static void fail(const char *what, const char *name, rl::test_result_e result)
{
    static char text[128];
    snprintf(text, sizeof(text), "%s: %s", what, name);
    rl::ctx().fail_test(text, result, RL_INFO);
}

// A child has the thread that forked. The others end where they do something next.
static int process; // 1 in a child
static int born[THREADS]; // in which process
static jmp_buf ends[THREADS];

static void leave_if_gone()
{
    if (born[rl::thread_index()] != process) {
        longjmp(ends[rl::thread_index()], 1);
    }
}

// As rl::var does it, and for fields with accesses of both sorts.
static void note(Field &field, Kind kind)
{
    static const bool excludes[4][4] = {
        // of another thread's: READ, WRITE, ATOMIC_READ, ATOMIC_WRITE
        {false, true, false, true},
        {true, true, true, true},
        {false, true, false, false},
        {true, true, false, false},
    };
    rl::thread_info_base &thread = *rl::ctx().threadx_;
    if (field.freed) {
        fail("freed", field.name, rl::test_result_access_to_freed_memory);
    }
    for (int other = 0; other < 4; other++) {
        for (int i = 0; excludes[kind][other] && i < rl::ctx().get_thread_count(); i++) {
            if (thread.acq_rel_order_[i] < field.stamps[other][i]) {
                fail("race", field.name, rl::test_result_data_race);
            }
        }
    }
    if (kind == READ || kind == WRITE) { // of the others Relacy has counted
        thread.own_acq_rel_order_++;
    }
    field.stamps[kind][thread.index_] = thread.own_acq_rel_order_;
}

// One access may be to two fields, which the compiler reads at once.
static void note_plain(const volatile void *address, size_t size, Kind kind)
{
    const volatile char *const start = (const volatile char *)address;
    if (are_begun) {
        leave_if_gone();
    }
    for (size_t i = 0; are_begun && i < size; i += 4) {
        Field *field = field_at(start + i);
        if (field != NULL) {
            if (i + field->size > size) {
                fail("accessed in part", field->name, rl::test_result_inconsistent_test_suite);
            }
            note(*field, kind);
        }
    }
}

// --- Threads ---------------------------------------------------------------------

extern "C" char __start_model_thread[], __stop_model_thread[];

// While another fiber may run: it has other thread-locals.
struct Away {
    char locals[128];

    Away()
    {
        memcpy(locals, __start_model_thread, size());
    }

    ~Away()
    {
        memcpy(__start_model_thread, locals, size());
    }

    static size_t size()
    {
        return __stop_model_thread - __start_model_thread;
    }
};

struct Deferred {
    Field *field; // or NULL
    uint64_t value;
    rl::memory_order order;
    const Later *later;
};
static Deferred deferred[THREADS];

static void write_through(Field &field, uint64_t value)
{
    if (field.size == 4) {
        *(volatile uint32_t *)field.address = (uint32_t)value;
    }
    else {
        *(volatile uint64_t *)field.address = value;
    }
}

static void do_swap(Field &field, uint64_t value, rl::memory_order order, uint64_t *before)
{
    uint64_t old = field.atomic().exchange(value, order, RL_INFO);
    note(field, ATOMIC_WRITE);
    write_through(field, value);
    if (before != NULL) {
        *before = old;
    }
}

static void do_what_was_deferred()
{
    Deferred now = deferred[rl::thread_index()];
    if (now.field != NULL) {
        deferred[rl::thread_index()].field = NULL;
        Away away;
        do_swap(*now.field, now.value, now.order, NULL);
    }
}

static bool defers(Field &field, uint64_t value, rl::memory_order order)
{
    for (const Later &later : LATER) {
        if (is_control(later.control) && strcmp(field.name, later.field) == 0 &&
            (later.value == ANY || later.value == value)) {
            deferred[rl::thread_index()] = {&field, value, order, &later};
            return true;
        }
    }
    return false;
}

// Around an atomic operation.
struct Operation {
    Field &field;
    const char *name;
    rl::memory_order order;

    Operation(Field &field_, const char *name_, int written) : field(field_), name(name_), order(as_relacy(written))
    {
        leave_if_gone();
        if (deferred[rl::thread_index()].field == &field) {
            do_what_was_deferred();
        }
        for (const Weaker &weaker : WEAKER) {
            if (is_control(weaker.control) && ends_with(field.name, weaker.field) &&
                strcmp(name, weaker.operation) == 0) {
                order = weaker.order;
            }
        }
    }

    ~Operation()
    {
        const Deferred &waits = deferred[rl::thread_index()];
        if (waits.field != NULL && waits.later->after != NULL && strcmp(field.name, waits.later->after) == 0 &&
            strcmp(name, waits.later->operation) == 0) {
            do_what_was_deferred();
        }
    }

    static bool ends_with(const char *text, const char *end)
    {
        return strlen(text) >= strlen(end) && strcmp(text + strlen(text) - strlen(end), end) == 0;
    }

    static rl::memory_order as_relacy(int order)
    {
        switch (order) {
        case __ATOMIC_RELAXED:
            return rl::mo_relaxed;
        case __ATOMIC_ACQUIRE:
            return rl::mo_acquire;
        case __ATOMIC_RELEASE:
            return rl::mo_release;
        case __ATOMIC_ACQ_REL:
            return rl::mo_acq_rel;
        default:
            return rl::mo_seq_cst;
        }
    }
};

template <typename Word> Word load(const volatile Word *address, int order)
{
    Field *field = field_at(address);
    if (field == NULL) {
        return *address;
    }
    Operation operation(*field, "load", order);
    Away away;
    uint64_t value = field->atomic().load(operation.order, RL_INFO);
    note(*field, ATOMIC_READ);
    return (Word)value;
}

template <typename Word> void store(volatile Word *address, Word value, int order)
{
    Field *field = field_at(address);
    if (field == NULL) {
        *address = value;
        return;
    }
    Operation operation(*field, "store", order);
    if (defers(*field, value, operation.order)) {
        return;
    }
    Away away;
    field->atomic().store(value, operation.order, RL_INFO);
    field->is_stored = true;
    note(*field, ATOMIC_WRITE);
    write_through(*field, value);
}

template <typename Word> Word swap(volatile Word *address, Word value, int order)
{
    Field *field = field_at(address);
    uint64_t before = *address;
    if (field == NULL) {
        *address = value;
        return (Word)before;
    }
    Operation operation(*field, "swap", order);
    if (!defers(*field, value, operation.order)) {
        Away away;
        do_swap(*field, value, operation.order, &before);
    }
    return (Word)before;
}

template <typename Word> int replace(volatile Word *address, Word *expected, Word value, int order, int failure_order)
{
    Field *field = field_at(address);
    if (field == NULL) {
        if (*address != *expected) {
            *expected = *address;
            return 0;
        }
        *address = value;
        return 1;
    }
    Operation operation(*field, "replace", order);
    uint64_t before = *expected;
    rl::memory_order otherwise =
        operation.order == rl::mo_relaxed ? rl::mo_relaxed : Operation::as_relacy(failure_order);
    Away away;
    bool replaced =
        field->atomic().compare_exchange_strong(before, value, operation.order, RL_INFO, otherwise, RL_INFO);
    note(*field, replaced ? ATOMIC_WRITE : ATOMIC_READ);
    if (replaced) {
        write_through(*field, value);
    }
    *expected = (Word)before;
    return replaced;
}

enum Arithmetic { ADD, SUB, OR, AND };

template <typename Word> Word change(volatile Word *address, Word n, int order, Arithmetic arithmetic)
{
    static const char *const names[] = {"add", "sub", "or", "and"};
    Field *field = field_at(address);
    uint64_t before = *address;
    if (field != NULL) {
        Operation operation(*field, names[arithmetic], order);
        Away away;
        rl::atomic<uint64_t> &atomic = field->atomic();
        before = arithmetic == ADD   ? atomic.fetch_add(n, operation.order, RL_INFO)
                 : arithmetic == SUB ? atomic.fetch_sub(n, operation.order, RL_INFO)
                 : arithmetic == OR  ? atomic.fetch_or(n, operation.order, RL_INFO)
                                     : atomic.fetch_and(n, operation.order, RL_INFO);
        note(*field, ATOMIC_WRITE);
    }
    const Word word = (Word)before;
    const Word after = arithmetic == ADD   ? word + n
                       : arithmetic == SUB ? word - n
                       : arithmetic == OR  ? word | n
                                           : word & n;
    if (field != NULL) {
        write_through(*field, after);
    }
    else {
        *address = after;
    }
    return word;
}

// A while has gone by: this thread will find no value that is older than now. It orders nothing.
static void see_newest()
{
    Away away;
    for (int i = 0; i < field_count; i++) {
        if (fields[i].is_stored) {
            fields[i].atomic().fetch_add(0, rl::mo_relaxed, RL_INFO);
        }
    }
}

// --- An iteration ----------------------------------------------------------------

// What the fields hold then was written before any thread began.
static void begin_fields()
{
    memset(deferred, 0, sizeof(deferred));
    for (int i = 0; i < field_count; i++) {
        Field &field = fields[i];
        uint64_t value =
            field.size == 4 ? *(const volatile uint32_t *)field.address : *(const volatile uint64_t *)field.address;
        field.freed &= process > 0; // what is freed stays so in a child
        field.is_stored = false;
        memset(field.stamps, 0, sizeof(field.stamps));
        new (field.storage) rl::atomic<uint64_t>(value);
    }
    are_begun = true;
}

static void end_fields()
{
    are_begun = false;
    for (int i = 0; i < field_count; i++) {
        fields[i].atomic().~atomic();
    }
}

} // namespace model

// --- What the compiler calls, and shipped.c ---------------------------------------

extern "C" {

void model_see(void *address, size_t size, const void *memory, const char *name)
{
    model::Field &field = model::fields[model::field_count++];
    field.address = (char *)address;
    field.size = size;
    field.memory = memory;
    snprintf(field.name, sizeof(field.name), "%s", name);
    *model::slot_of(address) = &field;
}

// A write to all of it, after which no access may come.
void model_freed(const void *memory)
{
    for (int i = 0; i < model::field_count; i++) {
        if (model::fields[i].memory == memory) {
            model::note(model::fields[i], model::WRITE);
            model::fields[i].freed = true;
        }
    }
}

void __tsan_init()
{
}

void __tsan_func_entry(void *)
{
}

void __tsan_func_exit()
{
}

// Of a structure: none of a field that threads share.
void __tsan_read_range(void *, size_t)
{
}

void __tsan_write_range(void *, size_t)
{
}

#define PLAIN(bytes) \
    void __tsan_read##bytes(void *address) \
    { \
        model::note_plain(address, bytes, model::READ); \
    } \
    void __tsan_write##bytes(void *address) \
    { \
        model::note_plain(address, bytes, model::WRITE); \
    }
PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

#define ATOMIC(bits, Word) \
    Word __tsan_atomic##bits##_load(const volatile Word *address, int order) \
    { \
        return model::load(address, order); \
    } \
    void __tsan_atomic##bits##_store(volatile Word *address, Word value, int order) \
    { \
        model::store(address, value, order); \
    } \
    Word __tsan_atomic##bits##_exchange(volatile Word *address, Word value, int order) \
    { \
        return model::swap(address, value, order); \
    } \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile Word *address, Word *expected, Word value, int order, \
                                                      int failure_order) \
    { \
        return model::replace(address, expected, value, order, failure_order); \
    } \
    Word __tsan_atomic##bits##_fetch_add(volatile Word *address, Word n, int order) \
    { \
        return model::change(address, n, order, model::ADD); \
    } \
    Word __tsan_atomic##bits##_fetch_sub(volatile Word *address, Word n, int order) \
    { \
        return model::change(address, n, order, model::SUB); \
    } \
    Word __tsan_atomic##bits##_fetch_or(volatile Word *address, Word n, int order) \
    { \
        return model::change(address, n, order, model::OR); \
    } \
    Word __tsan_atomic##bits##_fetch_and(volatile Word *address, Word n, int order) \
    { \
        return model::change(address, n, order, model::AND); \
    }
ATOMIC(32, uint32_t)
ATOMIC(64, uint64_t)

} // extern "C"

#endif // MODEL_FIELDS_HPP
