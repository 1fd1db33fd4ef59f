/* Memories and tables: the host has them, for compiled code and for Python, and counts them for the store.
 *
 * What could not be had is empty, all of it zero, and compiled code that uses it traps. A usual memory has the address space
 * for all that it may become from the start, so it never moves; the others, of 64-bit addresses, and tables do. */
#ifndef EXTERNREF_WASM2C_ALLOCATE_H
#define EXTERNREF_WASM2C_ALLOCATE_H

#include <stdlib.h>
#include <string.h>
#if defined(_WIN32)
#  include <windows.h>
#else
#  include <sys/mman.h>
#endif
#include "wasm2c/runtime.h"

#define WASM_PAGE 65536u
#define MOST_PAGES 65536u /* of a memory with 32-bit addresses */

/* What a store has of one kind, or all have. Code of several stores can run at once, and an instance can end on any thread. */
typedef struct {
    size_t used; /* atomic */
    size_t limit;
} Quota;

/* Bytes of address space that all memories together may have, 1/4 of what 47 bits have, and those of one store: a usual
 * memory of no size takes 4 GiB, and without any left nobody in the process gets memory. */
#if SIZE_MAX > UINT32_MAX
#  define MOST_ROOM ((size_t)1 << 45)
#  define MOST_ROOM_OF_STORE ((size_t)1 << 42)
#else
#  define MOST_ROOM ((size_t)1 << 31)
#  define MOST_ROOM_OF_STORE MOST_ROOM
#endif
static Quota all_room = {0, MOST_ROOM};

/* A store's, of memories. */
typedef struct {
    Quota bytes;
    Quota room;
} MemoryQuota;

static int take(Quota *quota, uint64_t amount)
{
    size_t used = __atomic_load_n(&quota->used, __ATOMIC_RELAXED);
    do {
        if (used > quota->limit || amount > quota->limit - used) {
            return 0;
        }
    } while (!__atomic_compare_exchange_n(&quota->used, &used, used + (size_t)amount, 1, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    return 1;
}

static int refusal(const Quota *quota)
{
    return quota->limit == SIZE_MAX ? WASM2C_NO_MEMORY : WASM2C_TOO_MUCH;
}

static void give_back(Quota *quota, uint64_t amount)
{
    __atomic_sub_fetch(&quota->used, (size_t)amount, __ATOMIC_RELAXED);
}

static uint64_t bytes_of(uint64_t pages, uint32_t page_size)
{
    return pages > SIZE_MAX / page_size ? SIZE_MAX : pages * page_size; /* SIZE_MAX bytes cannot be had */
}

/* Whether it has address space of its own. */
static int is_usual(const Wasm2cMemory *memory)
{
    return memory->page_size == WASM_PAGE && !memory->is64;
}

/* --- Address space of the system's: reserved, without access; made usable from the front, all zero --- */

#if defined(_WIN32)
static void *reserve_space(size_t bytes)
{
    return VirtualAlloc(NULL, bytes, MEM_RESERVE, PAGE_NOACCESS);
}

static int use_space(void *start, size_t bytes)
{
    return VirtualAlloc(start, bytes, MEM_COMMIT, PAGE_READWRITE) != NULL;
}

static void release_space(void *start, size_t bytes)
{
    (void)bytes;
    VirtualFree(start, 0, MEM_RELEASE);
}
#else
static void *reserve_space(size_t bytes)
{
    void *start = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return start == MAP_FAILED ? NULL : start;
}

static int use_space(void *start, size_t bytes)
{
    return mprotect(start, bytes, PROT_READ | PROT_WRITE) == 0;
}

static void release_space(void *start, size_t bytes)
{
    munmap(start, bytes);
}
#endif

static int take_room(MemoryQuota *quota, size_t room)
{
    if (!take(&quota->room, room)) {
        return 0;
    }
    if (!take(&all_room, room)) {
        give_back(&quota->room, room);
        return 0;
    }
    return 1;
}

static void give_back_room(MemoryQuota *quota, size_t room)
{
    give_back(&quota->room, room);
    give_back(&all_room, room);
}

static int reserve(MemoryQuota *quota, Wasm2cMemory *memory)
{
    /* At least one page, so that there is an address. */
    const size_t room = memory->max_pages == 0 ? WASM_PAGE : (size_t)memory->max_pages * WASM_PAGE;
    void *data;
    if (memory->max_pages > MOST_PAGES || !take_room(quota, room)) {
        return 0;
    }
    data = reserve_space(room);
    if (data == NULL) {
        give_back_room(quota, room);
        return 0;
    }
    memory->data = data;
    memory->data_end = memory->data + room;
    return 1;
}

static void release_memory(MemoryQuota *quota, Wasm2cMemory *memory)
{
    if (is_usual(memory) && memory->data != NULL) {
        const size_t room = (size_t)(memory->data_end - memory->data);
        release_space(memory->data, room);
        give_back_room(quota, room);
    }
    else {
        free(memory->data);
    }
}

/* Makes the memory `bytes` large; the new ones are zero. */
static int resize(Wasm2cMemory *memory, uint64_t bytes)
{
    const size_t before = (size_t)memory->size, more = (size_t)bytes - before;
    uint8_t *data;
    if (more == 0) {
        return 1;
    }
    if (is_usual(memory)) {
        return use_space(memory->data + before, more);
    }
    data = before == 0 ? calloc(more, 1) : realloc(memory->data, (size_t)bytes);
    if (data == NULL) {
        return 0;
    }
    if (before != 0) {
        memset(data + before, 0, more);
    }
    memory->data = data;
    memory->data_end = data + bytes;
    return 1;
}

/* 0, or why there is no memory. */
static int new_memory(MemoryQuota *quota, Wasm2cMemory *memory, uint64_t pages, uint64_t max_pages, int is64,
                      uint32_t page_size)
{
    const uint64_t bytes = bytes_of(pages, page_size);
    const Wasm2cMemory empty = {.page_size = page_size, .max_pages = max_pages, .is64 = (uint8_t)is64};
    memset(memory, 0, sizeof *memory);
    if (!take(&quota->bytes, bytes)) {
        return refusal(&quota->bytes);
    }
    *memory = empty;
    if (pages > max_pages || (is_usual(memory) && !reserve(quota, memory)) || !resize(memory, bytes)) {
        release_memory(quota, memory);
        memset(memory, 0, sizeof *memory);
        give_back(&quota->bytes, bytes);
        return WASM2C_NO_MEMORY;
    }
    memory->pages = pages;
    memory->size = bytes;
    return 0;
}

/* How many pages there were; -1 if there cannot be so many more. */
static uint64_t more_memory(MemoryQuota *quota, Wasm2cMemory *memory, uint64_t pages)
{
    const uint64_t before = memory->pages;
    uint64_t bytes;
    if (pages == 0) {
        return before;
    }
    if (memory->page_size == 0 || pages > memory->max_pages - before) { /* the first: it is empty */
        return UINT64_MAX;
    }
    bytes = bytes_of(before + pages, memory->page_size);
    if (!take(&quota->bytes, bytes - memory->size)) {
        return UINT64_MAX;
    }
    if (!resize(memory, bytes)) {
        give_back(&quota->bytes, bytes - memory->size);
        return UINT64_MAX;
    }
    memory->pages += pages;
    memory->size = bytes;
    return before;
}

static void end_memory(MemoryQuota *quota, Wasm2cMemory *memory)
{
    release_memory(quota, memory);
    give_back(&quota->bytes, memory->size);
    memset(memory, 0, sizeof *memory);
}

/* 0, or why there is no table of so many elements of so many bytes. */
static int new_table_of(Quota *quota, Wasm2cTable *table, uint32_t elements, uint32_t max_elements, size_t element_size)
{
    memset(table, 0, sizeof *table);
    if (!take(quota, elements)) {
        return refusal(quota);
    }
    if (elements != 0) {
        table->data = calloc(elements, element_size);
        if (table->data == NULL) {
            give_back(quota, elements);
            return WASM2C_NO_MEMORY;
        }
    }
    table->size = elements;
    table->max_size = max_elements;
    return 0;
}

/* How many elements there were; -1 if there cannot be so many more. The new ones have the value. */
static uint32_t more_table(Quota *quota, Wasm2cTable *table, uint32_t elements, const void *value, size_t element_size)
{
    const uint32_t before = table->size;
    uint32_t i;
    char *data;
    if (elements == 0) {
        return before;
    }
    if (elements > table->max_size - before || before + (size_t)elements > SIZE_MAX / element_size ||
        !take(quota, elements)) {
        return UINT32_MAX;
    }
    data = realloc(table->data, (before + (size_t)elements) * element_size);
    if (data == NULL) {
        give_back(quota, elements);
        return UINT32_MAX;
    }
    for (i = 0; i < elements; i++) {
        memcpy(data + (before + (size_t)i) * element_size, value, element_size);
    }
    table->data = data;
    table->size = before + elements;
    return before;
}

static void end_table(Quota *quota, Wasm2cTable *table)
{
    free(table->data);
    give_back(quota, table->size);
    memset(table, 0, sizeof *table);
}

#endif /* EXTERNREF_WASM2C_ALLOCATE_H */
