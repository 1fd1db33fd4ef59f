/* What of the package runs without Python, on any target: a block, slabs, the set of raw pointers, a memory of Wasm code. */
#include <stdio.h>
#include <string.h>

#include "externref.h"

#include "_activations/refset.h"
#include "_core/memory.h"
#include "_core/slab.h"
#if UINTPTR_MAX == UINT64_MAX
#  include "wasm2c/allocate.h"
#endif

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            printf("line %d: %s\n", __LINE__, #condition); \
            return 1; \
        } \
    } while (0)

static int released;

static void drop_slow(void *raw)
{
    VMExternData *data = (VMExternData *)raw;
    released++;
    externref_aligned_free(data->value_ptr);
}

static const VMExternVTable vtable = {NULL, sizeof(void *), sizeof(void *), "word", drop_slow};

static void *new_block(void)
{
    const size_t footer = externref_footer_offset(vtable.size);
    const size_t unit = 2 * sizeof(void *);
    char *block = externref_aligned_alloc(unit, (footer + sizeof(VMExternData) + unit - 1) / unit * unit);
    VMExternData *data = (VMExternData *)(block + footer);
    data->ref_count = 1;
    data->value_ptr = block;
    data->vtable = &vtable;
    data->handles = data->state = 0;
    return data;
}

static int check_block(void)
{
    void *raw = new_block();
    CHECK((uintptr_t)externref_value(raw) % (2 * sizeof(void *)) == 0);
    CHECK(externref_clone(raw) == raw && externref_strong_count(raw) == 2);
    externref_drop(raw);
    CHECK(externref_strong_count(raw) == 1 && released == 0);
    externref_drop(raw);
    CHECK(released == 1);
    externref_drop(externref_clone(NULL));
    return 0;
}

/* Each cell is nobody else's while it is in use, whatever the order in which they come and go. */
#define CELLS 10000

static Cell *cells[CELLS];
static unsigned dice = 1;

static int take_cell(size_t i)
{
    cells[i] = (Cell *)block_take(&cells[i]);
    CHECK(cells[i] != NULL && (uintptr_t)cells[i] % sizeof(void *) == 0);
    memset(cells[i], (int)(i % 251), sizeof(Cell));
    return 0;
}

static int give_cell(size_t i)
{
    for (size_t byte = 0; byte < sizeof(Cell); byte++) {
        CHECK(((const unsigned char *)cells[i])[byte] == i % 251);
    }
    block_give(cells[i]);
    cells[i] = NULL;
    return 0;
}

/* Who is told of each. It keeps every seventh. */
static size_t made, freed, wrongly_made;
static void *kept[CELLS * 8];
static size_t kept_count;

static void note_made(void *cell, void *payload)
{
    made++;
    wrongly_made += cell == NULL || payload < (void *)cells || payload >= (void *)(cells + CELLS);
}

static int note_freed(void *cell)
{
    if (++freed % 7 == 0) {
        kept[kept_count++] = cell;
        return 1;
    }
    return 0;
}

static const Watch note = {note_made, note_freed};

static int check_watch(void)
{
    size_t given = 0, taken = 0;
    for (int times = 0; times < 8 * CELLS; times++) {
        size_t i;
        if (times == CELLS) {
            block_set_watch(&note);
        }
        if (times == 7 * CELLS) {
            while (kept_count != 0) {
                block_release(kept[--kept_count]);
            }
            block_set_watch(NULL);
        }
        dice = dice * 1103515245u + 12345u;
        i = (dice >> 8) % CELLS;
        if (times >= CELLS && times < 7 * CELLS) {
            given += cells[i] != NULL;
            taken += cells[i] == NULL;
        }
        CHECK((cells[i] != NULL ? give_cell(i) : take_cell(i)) == 0);
    }
    CHECK(made == taken && freed == given && wrongly_made == 0 && given > 0 && taken > 0);
    return 0;
}

static int check_slabs(void)
{
    for (size_t i = 0; i < CELLS; i++) {
        CHECK(take_cell(i) == 0);
    }
    CHECK(check_watch() == 0);
    for (int times = 0; times < 20 * CELLS; times++) {
        size_t i;
        dice = dice * 1103515245u + 12345u;
        i = (dice >> 8) % CELLS;
        CHECK((cells[i] != NULL ? give_cell(i) : take_cell(i)) == 0);
    }
    for (size_t i = 0; i < CELLS; i++) {
        CHECK(cells[i] == NULL || give_cell(i) == 0);
    }
    /* All but one went back. */
    CHECK(block_slabs.list.next->used == 0 && block_slabs.list.next->next == &block_slabs.list);
    block_trim();
    block_trim();
    CHECK(block_slabs.list.next == &block_slabs.list && take_cell(0) == 0 && give_cell(0) == 0);
    block_trim();
    return 0;
}

/* Raw pointers are multiples of a word, not of eight: half of them are 4 mod 8 where a word has four bytes. */
static int check_set(void)
{
    RefSet set;
    uintptr_t i;
    const uintptr_t first = 0x10000, count = 1000;
    CHECK(refset_init(&set, 0) == 0 && refset_reserve(&set, count) == 0);
    for (i = 0; i < count; i++) {
        CHECK(refset_add(&set, first + i * sizeof(void *)));
    }
    for (i = 0; i < count; i++) {
        CHECK(refset_mark(&set, first + i * sizeof(void *)));
        CHECK(!refset_mark(&set, first + i * sizeof(void *) + 1));
        CHECK(refset_is_marked(*refset_find(&set, first + i * sizeof(void *))));
    }
    CHECK(set.count == count && !refset_mark(&set, first + count * sizeof(void *)));
    refset_free(&set);
    return 0;
}

#if UINTPTR_MAX == UINT64_MAX
static int check_memory(void)
{
    MemoryQuota quota = {{0, (size_t)1 << 30}, {0, SIZE_MAX}};
    Wasm2cMemory memory;
    CHECK(new_memory(&quota, &memory, 1, MOST_PAGES, 0, WASM_PAGE) == 0);
    uint8_t *const start = memory.data;
    CHECK(memory.size == WASM_PAGE && start[WASM_PAGE - 1] == 0);
    memset(start, 7, WASM_PAGE);
    CHECK(more_memory(&quota, &memory, 99) == 1 && memory.pages == 100);
    CHECK(memory.data == start && start[0] == 7 && start[100 * WASM_PAGE - 1] == 0);
    start[100 * WASM_PAGE - 1] = 1;
    CHECK(quota.bytes.used == 100 * WASM_PAGE && quota.room.used == (size_t)MOST_PAGES * WASM_PAGE);
    CHECK(more_memory(&quota, &memory, MOST_PAGES) == UINT64_MAX && memory.pages == 100);
    end_memory(&quota, &memory);
    CHECK(quota.bytes.used == 0 && quota.room.used == 0 && all_room.used == 0);
    return 0;
}
#else
static int check_memory(void)
{
    return 0;
}
#endif

int main(void)
{
    if (check_block() != 0 || check_slabs() != 0 || check_set() != 0 || check_memory() != 0) {
        return 1;
    }
    printf("words of %d bytes: good\n", (int)sizeof(void *));
    return 0;
}
