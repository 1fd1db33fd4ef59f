from externref._wasmtime import Func as Func
from externref._wasmtime import Global as Global
from externref._wasmtime import Table as Table
from externref._wasmtime import bind as bind
from externref._wasmtime import func as func

__all__ = ["Func", "Global", "Table", "bind", "func"]
