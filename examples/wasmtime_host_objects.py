# needs: wasmtime._ffi
"""Wasm code that works on Python objects: a store of wasmtime-py's, bound at native speed.

The module knows files and lists only as references. It calls `append` on one, keeps it in its
table, and gives it back; when it lets go of it, the object is released.

    python examples/wasmtime_host_objects.py
"""

import weakref

import wasmtime
from wasmtime import FuncType, ValType

import externref
import externref.wasmtime

WAT = """(module
    (import "host" "append" (func $append (param externref i32)))
    (table (export "kept") 1 externref)
    (func (export "collect") (param $list externref) (param $n i32) (result externref)
        (table.set (i32.const 0) (local.get $list))
        (loop $again
            (call $append (local.get $list) (local.get $n))
            (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (local.get $list)))"""


class Numbers(list):
    """A list that a weak reference can watch."""


with wasmtime.Store() as store:
    append = externref.wasmtime.func(store, FuncType([ValType.externref(), ValType.i32()], []), Numbers.append)
    linker = wasmtime.Linker(store.engine)
    linker.define(store, "host", "append", append)
    instance = linker.instantiate(store, wasmtime.Module(store.engine, WAT))
    exports = externref.wasmtime.bind(store, instance.exports(store))
    collect, kept = exports["collect"], exports["kept"]

    numbers = Numbers()
    print("the same list back:", collect(numbers, 5) is numbers)
    print("what Wasm put in:  ", list(numbers))

    alive = weakref.ref(numbers)
    del numbers
    print("kept by its table: ", alive() is kept[0])
    kept[0] = None
    store.gc()          # wasmtime's collector drops the reference by native code ...
    externref.drain()   # ... and the object is released here, at the latest
    print("released:          ", alive() is None)
