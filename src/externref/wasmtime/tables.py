"""What type a table of wasmtime-py's is of."""

import ctypes

import wasmtime
from wasmtime import _ffi as ffi

from externref._types import TableType


def table_type(store: wasmtime.Store, table: wasmtime.Table, element: str) -> TableType:
    """Its TableType; the maximum is None if there is none, and for a table of 64-bit indices.

    element: the name of the elements' type. Takes 0.1 ms.
    """
    # The C API has the limits in 32 bits, and aborts the process where they are larger.
    limits = table.type(store).limits if is_32_bit(store, table, element) else wasmtime.Limits(0, None)
    return TableType(element, limits.min, limits.max)


def is_32_bit(store: wasmtime.Store, table: wasmtime.Table, element: str) -> bool:
    """Whether the table links where one of 32-bit indices is imported: there is no function that tells."""
    linker = wasmtime.Linker(store.engine)
    linker.define(store, "", "", table)
    module = wasmtime.Module(store.engine, f'(module (import "" "" (table 0 {element})))')
    linked = ctypes.POINTER(ffi.wasmtime_instance_pre_t)()
    error = ffi.wasmtime_linker_instantiate_pre(linker.ptr(), module.ptr(), ctypes.byref(linked))
    if error:
        wasmtime.WasmtimeError._from_ptr(error)     # which frees it
        return False
    ffi.wasmtime_instance_pre_delete(linked)
    return True
