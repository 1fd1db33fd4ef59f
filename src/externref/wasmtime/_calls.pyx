# cython: language_level=3, binding=False, auto_pickle=False, autotestdict=False, freethreading_compatible=True
# cython: embedsignature=True, embedsignature.format=clinic
"""externref.wasmtime's calls: the C API of the library that wasmtime-py has loaded.

Ownership
---------
A raw pointer that goes into `wasmtime_externref_new` is the store's from then on, also
when that fails; its finalizer drops it. Compiled code copies and drops the store's own
references, never our count. What comes out is lent by the root it came through, and
cloned, or its object taken, before the root goes.

Order
-----
Making an externref may collect, and a collection invalidates references that are not
roots. So a call converts in this order, and no Python code runs in the middle part:

    make a root for each argument; roots to raw; call; raw results to roots; roots to objects

Threads and the GIL
-------------------
Everything needs the GIL; a call gives it up on request, a host function takes it. A
store is used by one thread at a time: StoreState refuses the second, and refuses a finalizer
or a signal handler that runs in the middle of wasmtime's own work.

Without a GIL (owner.h) the thread that uses a store owns what we know of it, by an atomic claim. What
threads ask before, or beside that, is one operation of a dict (the states; who counts an engine's epochs), or
changes once, in a critical section (which store a state is of, its watch, a Func's signature).

Rooms
-----
The parts of this module, each built on those above it::

    library.pxi      the library's functions and structs, compared with wasmtime-py's declarations
    store.pxi        StoreState: who may use a store now; how the calls into it fail
    values.pxi       the value types, and conversion: of an externref, a function, a number
    caller.pxi       Caller, of a host function that asks for it
    interrupts.pxi   interruptible(): Ctrl-C, interrupt() and a timeout, by a clock that counts epochs
    functions.pxi    Func: what a call does, in order; HostFunc and func(): the other direction
    items.pxi        Table and Global
    memory.pxi       Memory
    ../_items.pxi    what these and Func say and do as wasm2c's
    here, below      bind(), which makes a Func, Table, Global or Memory, or the Exports of an instance
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject
from libc.stdint cimport INT64_MAX, UINT64_MAX, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy, strlen

from externref._core cimport (
    VMExternRef, end_record, lend_value, new_record, object_of, raw_of_record)
from externref._numbers cimport (
    EXTERNREF, F32, F64, FUNCREF, I32, I64, NON_NULL, V128, V128_SIZE, Number, fits_address, get_number, limit_of,
    name_of_type, put_number, put_v128, refuse_kind, results_of, shown)
from externref._python cimport (
    PyThread_get_thread_ident, PyVectorcall_NARGS, call_by_vectorcall, get_from, has_keywords, hidden, items_of,
    let_all_go, let_others_run, make_secretly, name_publicly, own_all, require_maker, secret_maker, vectorcallfunc)

import _ctypes
import ctypes
import itertools
import os
import weakref

import wasmtime
from wasmtime import _ffi as ffi
from wasmtime import _func as wasmtime_func_module
from wasmtime._extern import wrap_extern
from wasmtime._instance import InstanceExports
from wasmtime._value import _unintern

from externref._signature import signature
from externref._slices import get_slice, set_slice
from externref._types import FuncType, GlobalType, MemoryType
from externref.wasmtime.epochs import looks_at_epochs
from externref.wasmtime.exports import Exports, Unbound
from externref.wasmtime.tables import table_type

# For resources.py, which may be imported again. A program has few numbers of its own, and counts them from 0.
resource_types = itertools.count(1 << 31)

# Only bind() gives it: a Func, Table, Global or Memory made otherwise would be bound to nothing.
cdef tuple MAKER = secret_maker()
cdef str MADE_OTHERWISE = "externref.wasmtime.bind() makes these"


include "library.pxi"
include "store.pxi"
include "values.pxi"
include "caller.pxi"
include "interrupts.pxi"
include "functions.pxi"
include "items.pxi"
include "memory.pxi"
include "../_items.pxi"

name_publicly(Caller, "externref.wasmtime.Caller")
name_publicly(Func, "externref.wasmtime.Func")
name_publicly(Table, "externref.wasmtime.Table")
name_publicly(Global, "externref.wasmtime.Global")
name_publicly(Memory, "externref.wasmtime.Memory")


cdef StoreState state_of_item(object item):
    if isinstance(item, Table):
        return (<Table>item).state
    return (<Global>item).state if isinstance(item, Global) else (<Memory>item).state


cdef object bind_item(object store, StoreState state, object item, bint release_gil, str name):
    if isinstance(item, Func):
        return bind_again(state, item, release_gil)
    if isinstance(item, wasmtime.Func):
        return bind_func(store, state, item, release_gil, name)
    if release_gil:
        raise TypeError("release_gil is for functions")
    if isinstance(item, (Table, Global, Memory)):
        require_same_state(state, state_of_item(item))
        return item
    if isinstance(item, wasmtime.Table):
        return bind_table(store, state, item)
    if isinstance(item, wasmtime.Global):
        return bind_global(store, state, item)
    if isinstance(item, wasmtime.Memory):
        return bind_memory(store, state, item)
    if isinstance(item, wasmtime.SharedMemory):
        raise TypeError("a shared memory is not bound: other threads write to it at any time")
    raise TypeError(f"expected a wasmtime.Func, Table, Global or Memory, not {type(item).__name__}")


cdef object bind_exports(object store, StoreState state, object exports, bint release_gil):
    cdef dict items = {}
    for name, item in exports.items():
        try:
            items[name] = bind_item(store, state, item, release_gil and isinstance(item, wasmtime.Func), name)
        except TypeError as error:
            items[name] = Unbound(str(error))
    return Exports(items)


def bind(store, item, /, *, release_gil=False):
    """A Func, Table, Global or Memory for an item of wasmtime-py's, with its conversions worked out; or Exports, all
    those of an instance.

    store: the wasmtime.Store that the item belongs to, or a Caller; it lives as long as what is returned.
    item: a wasmtime.Func, Table, Global or Memory, the InstanceExports that instance.exports(store) gives, or what was
        bound before.
    release_gil: for functions, let other threads run Python during its calls, as wasmtime-py
        always does; worth it for code that runs long, waits, or is to be interrupted by
        another thread (an epoch's). A call that keeps the GIL is cheaper, and cannot
        be held up by threads that compute.

    What of an instance's exports cannot be bound raises its TypeError when Exports is asked for it.

    Raises TypeError for anything else, a shared memory, and types other than i32, i64, f32, f64, v128, externref
    and funcref; ValueError for an item of another store, or a closed one; RuntimeError if
    another thread is using the store. Needs the GIL.
    """
    cdef StoreState state
    item = item     # own it: see _python.pxd
    store = store_of(store)
    state = state_of(store)
    state.enter()
    try:
        if isinstance(item, InstanceExports):
            return bind_exports(store, state, item, release_gil)
        return bind_item(store, state, item, release_gil, UNNAMED)
    finally:
        state.leave()
