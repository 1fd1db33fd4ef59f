/* abi.h: the structs of wasmtime's C API that externref.wasmtime uses; library.pxi has the functions.
 *
 * The library is the one that wasmtime-py has loaded, found at run time, so there is nothing
 * to link to and no header of wasmtime's to build with. These layouts are those of wasmtime
 * 45 to 50; at import they are compared with wasmtime-py's own ctypes declarations, which
 * its authors generate from the headers. */
#ifndef EXTERNREF_WASMTIME_ABI_H
#define EXTERNREF_WASMTIME_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct wasmtime_context wasmtime_context_t;
typedef struct wasmtime_caller wasmtime_caller_t;
typedef struct wasmtime_error wasmtime_error_t;
typedef struct wasm_trap_t wasm_trap_t;
typedef struct wasm_functype_t wasm_functype_t;
typedef struct wasm_tabletype_t wasm_tabletype_t;
typedef struct wasm_globaltype_t wasm_globaltype_t;
typedef struct wasm_valtype_t wasm_valtype_t;

typedef struct {
    size_t size;
    wasm_valtype_t **data;
} wasm_valtype_vec_t;

/* Every item names its store first; the rest is wasmtime's. store_id 0: a null reference. */
typedef struct {
    uint64_t store_id;
    void *internal;
} wasmtime_func_t;

typedef struct {
    uint64_t store_id;
    uint32_t internal;
} wasmtime_item_t;

typedef struct {
    wasmtime_item_t item;
    uint32_t internal;
} wasmtime_table_t;

typedef struct {
    wasmtime_item_t item;
    uint32_t internal;
} wasmtime_memory_t;

typedef struct {
    uint64_t store_id;
    uint32_t internal[3];
} wasmtime_global_t;

typedef union {
    wasmtime_func_t func;
    wasmtime_table_t table;
    wasmtime_global_t global;
    wasmtime_memory_t memory;
} wasmtime_extern_union_t;

typedef struct {
    uint8_t kind;
    wasmtime_extern_union_t of;
} wasmtime_extern_t;

/* A root: the referent is not collected until it is unrooted. */
typedef struct {
    uint64_t store_id;
    uint32_t internal1;
    uint32_t internal2;
    void *internal3;
} wasmtime_externref_t;

/* A value as compiled code has it. References in it are not roots: a collection invalidates
 * them, so they exist only between the last allocation and the call, and between the call and
 * the first thing done after it. */
typedef union {
    int32_t i32;
    int64_t i64;
    float f32;
    double f64;
    uint8_t v128[16];
    uint32_t externref;
    void *funcref;
} wasmtime_val_raw_t;

typedef union {
    wasmtime_val_raw_t number; /* only the numeric fields of it, and v128 */
    wasmtime_externref_t externref;
    wasmtime_func_t funcref;
} wasmtime_valunion_t;

typedef struct {
    uint8_t kind;
    wasmtime_valunion_t of;
} wasmtime_val_t;

/* The data of an externref is the address of a hold's record with the top bit set. No user-space address of
 * x86-64 or AArch64 has it, and no index of wasmtime-py's slab, so it tells ours from theirs
 * without a look at what it points to. */
#define EXTERNREF_WASMTIME_TAG ((uintptr_t)1 << 63)

#endif /* EXTERNREF_WASMTIME_ABI_H */
