from externref.wasmtime._calls import Caller as Caller
from externref.wasmtime._calls import Func as Func
from externref.wasmtime._calls import Global as Global
from externref.wasmtime._calls import Memory as Memory
from externref.wasmtime._calls import Table as Table
from externref.wasmtime._calls import bind as bind
from externref.wasmtime._calls import func as func
from externref.wasmtime._calls import interrupt as interrupt
from externref.wasmtime._calls import interruptible as interruptible
from externref.wasmtime.exports import Exports as Exports

__all__ = ["Caller", "Exports", "Func", "Global", "Memory", "Table", "bind", "func", "interrupt", "interruptible"]
