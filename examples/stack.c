/* A C container of references. It includes externref.h alone: no Python.h, no GIL. */
#include <stdlib.h>

#include "externref.h"

struct stack {
    size_t size, capacity;
    void **items; /* each owns a count; NULL is None */
};

struct stack *stack_new(void)
{
    return (struct stack *)calloc(1, sizeof(struct stack));
}

/* Keeps a clone of `ref`, which stays the caller's. 0, or -1 if there is no memory. */
int stack_push(struct stack *stack, void *ref)
{
    if (stack->size == stack->capacity) {
        size_t capacity = 2 * stack->capacity + 8;
        void **items = (void **)realloc(stack->items, capacity * sizeof(void *));
        if (items == NULL) {
            return -1;
        }
        stack->items = items;
        stack->capacity = capacity;
    }
    stack->items[stack->size++] = externref_clone(ref);
    return 0;
}

/* Moves the newest out: its count is the caller's now. NULL if there is none. */
void *stack_pop(struct stack *stack)
{
    return stack->size > 0 ? stack->items[--stack->size] : NULL;
}

size_t stack_size(const struct stack *stack)
{
    return stack->size;
}

void stack_free(struct stack *stack)
{
    while (stack->size > 0) {
        externref_drop(stack_pop(stack));
    }
    free(stack->items);
    free(stack);
}
