# cython: language_level=3, binding=False, auto_pickle=False, autotestdict=False, freethreading_compatible=True
# cython: embedsignature=True, embedsignature.format=clinic
"""Stores, instances and what they export: the running half of externref.wasm2c.

In the C that wasm2c writes, an externref is a raw pointer that is copied without counting. The
store's activations table owns one count for each reference that Python passes in, by an
argument, a result of an imported function, or a write to a table or global; compiled code only
borrows. A collection drops the entries that nothing can reach: its roots are the externref
tables and globals of the live instances, which are known exactly, and while compiled code is
on the stack every word of the stack from where it was entered, and the registers.

Two rules keep a reference from being dropped on its way:
 - in: all arguments are converted, which can run any code, before the first is inserted, and
   from the first insertion until compiled code has them nothing runs;
 - out: each result gets an owner of its own before anything else runs.

The GIL keeps the rules, or without one the critical section of the store's table: each use of a store is in it,
and asks there whether this thread may use the store now. No Python code runs in it, nor anything that switches
greenlets: converting, dropping and compiled code are outside. While compiled code runs, the section is over and the
store refuses other threads.

Leaving compiled code, by a trap or because an imported function raised, is a longjmp from
C to enter(). It crosses frames of compiled code only: Python's return first.

Which part to open::

    types.pxi       what a module's functions take and give, and the library that was loaded
    store.pxi       Store: who may use it now, collections and their roots, entering compiled code
    values.pxi      Python values into slots and back: both rules are kept here
    functions.pxi   Func, called from Python; HostFunc, called from compiled code
    owners.pxi      who has tables, memories and globals, and the roots they are
    items.pxi       Table, Global, Memory
    ../_items.pxi   what they and Func say and do as wasmtime's
    instances.pxi   Instance: its imports and exports
    enter.h         the way in and out in C, the stack's limit, the scan of the stack
    allocate.h      the room of memories and tables, counted for the store's limits
    runtime.h       what this module and a compiled one know of each other; glue.py writes the other side
"""

cimport cython
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject
from libc.stdint cimport SIZE_MAX, UINT32_MAX, UINT64_MAX, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset, strlen

from externref._activations cimport (
    RefSet, VMExternRefActivations, VMExternRefActivationsTable, held_word, refset_mark, refset_mark_words)
from externref._core cimport drain_pending, end_hold, hold, hold_lent, lend_value, take_held
from externref._numbers cimport (
    EXTERNREF, F32, F64, FUNCREF, I32, I64, NON_NULL, V128, V128_SIZE, Number, fits_address, get_number, limit_of,
    name_of_type, put_number, put_v128, refuse_kind, results_of, shown)
from externref._python cimport (
    PyObject_GC_Track, PyThreadState, PyVectorcall_NARGS, TypeSlots, call_by_vectorcall,
    has_keywords, hidden, items_of, let_all_go, make_secretly, name_publicly, own_all, own_reference, reraise,
    require_maker, secret_maker, vectorcallfunc)

import os

from externref._exports import Exports
from externref._signature import signature
from externref._slices import get_slice, set_slice
from externref._types import GlobalType, MemoryType, TableType
from externref.wasm2c.binary import KINDS
from externref.wasm2c.in_frame import in_frame
from externref.wasm2c.names import Frame, Names

cdef extern from "wasm2c/runtime.h":
    const uint32_t WASM2C_GLUE_VERSION
    enum: FUNCREF_SLOTS
    enum: FUNCTION_ID_SIZE
    ctypedef struct Wasm2cFuncref:
        const char *type
        void *code
        void *tail_call
        void *instance
    ctypedef struct Wasm2cTable:
        void *data
        uint32_t max_size
        uint32_t size
    ctypedef struct Wasm2cMemory:
        uint8_t *data
        uint32_t page_size
        uint64_t pages
        uint64_t max_pages
        uint64_t size
        uint8_t is64
    ctypedef struct Wasm2cState:
        int64_t budget
    ctypedef struct Wasm2cHost:
        void (*leave)(int) noexcept
        void (*trap)(int, int) noexcept
        int (*call_host)(void *, uint64_t *) noexcept
        int (*go_on)(Wasm2cState *, const char *) noexcept
        void (*allocate_memory)(Wasm2cMemory *, uint64_t, uint64_t, int, uint32_t) noexcept
        uint64_t (*grow_memory)(Wasm2cMemory *, uint64_t) noexcept
        void (*free_memory)(Wasm2cMemory *) noexcept
        void (*allocate_table)(Wasm2cTable *, uint32_t, uint32_t, size_t) noexcept
        uint32_t (*grow_table)(Wasm2cTable *, uint32_t, const void *, size_t) noexcept
        void (*free_table)(Wasm2cTable *) noexcept
    ctypedef void (*Wasm2cCall)(void *, void *, uint64_t *) noexcept
    ctypedef struct Wasm2cFunctionType:
        const char *id
        Wasm2cCall call
        void *host_code
    ctypedef struct Wasm2cFunction:
        void *code
        uint32_t index
    ctypedef struct Wasm2cModule:
        uint32_t version
        size_t instance_size
        size_t imports_offset
        size_t state_offset
        size_t function_count
        const Wasm2cFunction *functions
        size_t type_count
        const Wasm2cFunctionType *types
        void **exports
        void *(*item)(void *, size_t) noexcept
        Wasm2cCall instantiate
        void (*release)(void *) noexcept

cdef extern from "wasm2c/enter.h":
    Wasm2cHost host

GLUE_VERSION = WASM2C_GLUE_VERSION


class Trap(Exception):
    """WebAssembly code trapped, or was interrupted.

    reason: the name that wasm2c's runtime has for it, or "interrupted". frames: a tuple of Frame, the functions that
    ran in the innermost call from Python, the innermost function first and at most 32; the compiler puts small
    functions into those that call them, which may be named then. The text is the reason, and for a trap the first
    frame.

    The instance stays usable, with what the call had changed until then.
    """

    __module__ = "externref.wasm2c"
    reason = ""
    frames = ()


cdef object new_trap(str reason, tuple frames):
    trap = Trap(f"{reason}, in {frames[0]}" if frames and reason != INTERRUPTED else reason)
    trap.reason = reason
    trap.frames = frames
    return trap


class LinkError(Exception):
    """An import is missing or is not of the type that the module declares; the text says which."""

    __module__ = "externref.wasm2c"


# Who has it may make a Func, Table, Global or Memory: one made from Python would have nothing behind it.
cdef tuple MAKER = secret_maker()


cdef extern from "Python.h":
    PyThreadState *PyThreadState_Get() noexcept
    Py_ssize_t Py_REFCNT(PyObject *) noexcept


include "types.pxi"
include "owners.pxi"
include "store.pxi"
include "values.pxi"
include "functions.pxi"
include "items.pxi"
include "../_items.pxi"
include "instances.pxi"

name_publicly(Store, "externref.wasm2c.Store")
name_publicly(Instance, "externref.wasm2c.Instance")
name_publicly(Func, "externref.wasm2c.Func")
name_publicly(Table, "externref.wasm2c.Table")
name_publicly(Global, "externref.wasm2c.Global")
name_publicly(Memory, "externref.wasm2c.Memory")
