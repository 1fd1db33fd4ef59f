/* What externref.wasm2c._runtime and the modules that wasm2c compiled have in common.
 *
 * A compiled module is a shared library: the C of wasm2c and glue around it, one translation unit,
 * or several if it is large, that include this file. It exports externref_wasm2c_module() alone, which
 * gets the host's side (Wasm2cHost) and gives the module's (Wasm2cModule). Values travel
 * in slots of 64 bits, each from its slot's first byte on; a funcref takes FUNCREF_SLOTS of them. */
#ifndef EXTERNREF_WASM2C_RUNTIME_H
#define EXTERNREF_WASM2C_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

/* Raised with every change below, and of the glue: compiled modules in the cache are of no
 * use then. */
#define WASM2C_GLUE_VERSION 4

/* Reasons to leave compiled code: one of wasm_rt_trap_t, and more. */
#define WASM2C_EXHAUSTED 10  /* WASM_RT_TRAP_EXHAUSTION */
#define WASM2C_RAISED 100    /* an imported function raised; the exception is set */
#define WASM2C_NO_MEMORY 101 /* no memory for a table or a linear memory */
#define WASM2C_TOO_MUCH 102  /* the store may not have so much of it */
#define WASM2C_INTERRUPTED 103 /* Store.interrupt(), or the time is over */

/* wasm_rt_funcref_t. A null one has no code. */
typedef struct {
    const char *type; /* FUNCTION_ID_SIZE bytes that identify the function type */
    void (*code)(void);
    void (*tail_call)(void **, void *, void *);
    void *instance; /* the code's first argument */
} Wasm2cFuncref;
#define FUNCREF_SLOTS 4 /* its four words, if they are of 64 bits; enough for smaller ones */
#define FUNCTION_ID_SIZE 32 /* wasm2c's 256 bits */

/* wasm_rt_externref_table_t and wasm_rt_funcref_table_t. */
typedef struct {
    void *data;
    uint32_t max_size; /* UINT32_MAX if there is none */
    uint32_t size;
} Wasm2cTable;

/* wasm_rt_memory_t. */
typedef struct {
    uint8_t *data;
    uint8_t *data_end;
    uint32_t page_size;
    uint64_t pages;
    uint64_t max_pages;
    uint64_t size; /* bytes */
    uint8_t is64;
} Wasm2cMemory;

/* One import of an instance. */
typedef struct {
    Wasm2cFuncref function;
    void *object; /* the table, global or memory */
} Wasm2cImport;

/* What compiled code looks at: of the store that it runs for, and so of one thread at a time. */
typedef struct {
    char *stack_limit; /* a frame must be at a higher address: below it the stack is for others */
    int64_t budget;    /* what compiled code may do, counted by the glue, until it asks go_on() */
} Wasm2cState;

/* No frame of compiled code is larger, in bytes: the compiler is told to refuse it. */
#define WASM2C_MAX_FRAME (128 * 1024)

typedef struct {
    /* Leaves the innermost call by the host; does not return. */
    void (*leave)(int reason);
    /* The same for wasm_rt_trap_t, in a function of this index, or -1. */
    void (*trap)(int reason, int function);
    /* Calls the imported function that `host` stands for: 0, or -1 with an exception set.
     * Arguments are in the slots, and results are put there. */
    int (*call_host)(void *host, uint64_t *slots);
    /* What is to be done now and then; whether there is stack left for the frame. May leave. */
    int (*go_on)(Wasm2cState *state, const char *frame);
    /* Memories and tables of the store that runs. If there cannot be one the innermost call is left; to grow gives
     * what wasm2c's runtime does. */
    void (*allocate_memory)(Wasm2cMemory *, uint64_t pages, uint64_t max_pages, int is64, uint32_t page_size);
    uint64_t (*grow_memory)(Wasm2cMemory *, uint64_t pages);
    void (*free_memory)(Wasm2cMemory *);
    void (*allocate_table)(Wasm2cTable *, uint32_t elements, uint32_t max_elements, size_t element_size);
    uint32_t (*grow_table)(Wasm2cTable *, uint32_t elements, const void *value, size_t element_size);
    void (*free_table)(Wasm2cTable *);
} Wasm2cHost;

/* Calls `code`, a function of some type, with the arguments in the slots; the results are
 * put there. */
typedef void (*Wasm2cCall)(void (*code)(void), void *instance, uint64_t *slots);

typedef struct {
    const char *id;          /* Wasm2cFuncref.type */
    Wasm2cCall call;
    void (*host_code)(void); /* a function of this type, whose instance is for call_host; NULL if none is imported */
} Wasm2cFunctionType;

/* Whose code it is, to name it. */
typedef struct {
    void (*code)(void);
    uint32_t index;
} Wasm2cFunction;

typedef struct {
    uint32_t version;        /* WASM2C_GLUE_VERSION */
    size_t instance_size;    /* bytes; zeroed by the host */
    size_t imports_offset;   /* of the Wasm2cImports in it */
    size_t state_offset;     /* of the pointer to the Wasm2cState in it */
    size_t function_count;
    const Wasm2cFunction *functions;    /* none that is imported; some have code twice */
    size_t type_count;
    const Wasm2cFunctionType *types;    /* by type index */
    void (*const *exports)(void);       /* code of each export that is a function, in order */
    void *(*item)(void *instance, size_t i);    /* tables, then memories, then globals, by index */
    Wasm2cCall instantiate;             /* instance: its address; the other arguments are not used */
    void (*release)(void *instance);    /* also of one that is zero, or half made */
} Wasm2cModule;

#endif /* EXTERNREF_WASM2C_RUNTIME_H */
