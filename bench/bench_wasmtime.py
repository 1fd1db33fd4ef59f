"""What does a call into or out of wasmtime cost, bound and by wasmtime-py itself?

Both call the same functions of the same instance in the same process. In "ten host calls" a Wasm
loop, called the same way for both, calls the host function ten times.
"""

from harness import Statement

SETUP = """
import wasmtime
from wasmtime import FuncType, ValType
from externref import VMExternRef
from externref.wasmtime import bind, func

store = wasmtime.Store()
i32 = FuncType([ValType.i32()], [ValType.i32()])
extern = FuncType([ValType.externref()], [ValType.externref()])
def same(value):
    return value
hosts = [make(store, type, same) for type in (i32, extern) for make in (func, wasmtime.Func)]
loop = '''(func (export "%s") (param externref) (local i32) (local.set 1 (i32.const 10))
    (loop (drop (call %s)) (br_if 0 (local.tee 1 (i32.sub (local.get 1) (i32.const 1))))))'''
module = wasmtime.Module(store.engine, '''(module
    (import "" "" (func $ours (param i32) (result i32)))
    (import "" "" (func $theirs (param i32) (result i32)))
    (import "" "" (func $ours_ref (param externref) (result externref)))
    (import "" "" (func $theirs_ref (param externref) (result externref)))
    (table (export "table") 1 externref) (global (export "global") (mut externref) (ref.null extern))
    (func (export "i32") (param i32) (result i32) local.get 0)
    (func (export "ref") (param externref) (result externref) local.get 0)'''
    + loop % ("ours", "$ours (i32.const 1)") + loop % ("theirs", "$theirs (i32.const 1)")
    + loop % ("ours_ref", "$ours_ref (local.get 0)") + loop % ("theirs_ref", "$theirs_ref (local.get 0)") + ")")
exports = wasmtime.Instance(store, module, hosts).exports(store)
their_i32, their_ref, their_table, their_global = (exports[name] for name in ("i32", "ref", "table", "global"))
our_i32, our_ref, our_table, our_global = (
    bind(store, item) for item in (their_i32, their_ref, their_table, their_global))
released_i32, released_ref = (bind(store, item, release_gil=True) for item in (their_i32, their_ref))
ours, theirs, ours_ref, theirs_ref = (
    bind(store, exports[name]) for name in ("ours", "theirs", "ours_ref", "theirs_ref"))
x = object()
ref = VMExternRef(x)
"""

QUESTIONS = {
    "an object in and out": [
        Statement("VMExternRef", SETUP, "our_ref(x)"),
        Statement("made before", SETUP, "our_ref(ref)"),
        Statement("GIL released", SETUP, "released_ref(x)"),
        Statement("wasmtime-py", SETUP, "their_ref(store, x)"),
    ],
    "an i32 in and out": [
        Statement("VMExternRef", SETUP, "our_i32(1)"),
        Statement("GIL released", SETUP, "released_i32(1)"),
        Statement("wasmtime-py", SETUP, "their_i32(store, 1)"),
    ],
    "ten host calls, i32": [
        Statement("VMExternRef", SETUP, "ours(None)"),
        Statement("wasmtime-py", SETUP, "theirs(None)"),
    ],
    "ten host calls, externref": [
        Statement("VMExternRef", SETUP, "ours_ref(x)"),
        Statement("wasmtime-py", SETUP, "theirs_ref(x)"),
    ],
    "into a table": [
        Statement("VMExternRef", SETUP, "our_table[0] = x"),
        Statement("wasmtime-py", SETUP, "their_table.set(store, 0, x)"),
    ],
    "out of a global": [
        Statement("VMExternRef", SETUP, "our_global.value"),
        Statement("wasmtime-py", SETUP, "their_global.value(store)"),
    ],
}


def test_wasmtime(measure):
    measure()
