"""externref.wasmtime, as users write it."""

from typing import Any, assert_type

import wasmtime

from externref.wasmtime import Caller, Exports, Func, Memory, bind, func

engine = wasmtime.Engine()
store = wasmtime.Store(engine)
instance = wasmtime.Instance(store, wasmtime.Module(engine, "(module)"), [])
exports = instance.exports(store)
assert_type(bind(store, exports), Exports)
bind(store, exports["f"])        # whatever it is
export = exports["g"]
if isinstance(export, wasmtime.Func):
    assert_type(bind(store, export, release_gil=True), Func)
elif isinstance(export, wasmtime.Memory):
    assert_type(bind(store, export), Memory)


def host(caller: Caller, thing: Any) -> int:
    return 1


kind = wasmtime.FuncType([wasmtime.ValType.externref()], [wasmtime.ValType.i32()])
assert_type(func(store, kind, host, access_caller=True), wasmtime.Func)
