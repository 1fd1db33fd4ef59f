"""What does a call into or out of wasmtime cost, bound and by wasmtime-py itself?

Both call the same functions of the same instance in the same process. In "ten host calls" a Wasm
loop, called the same way for both, calls the host function ten times. So it is in "ten WASI writes", whose host
function is WASI's fd_write: it reads two buffers from the memory of the instance that calls, and writes their size.
"""

from harness import Statement

SETUP = """
import collections, struct, wasmtime
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
sizes = struct.Struct("<II")
def our_write(caller, fd, buffers, count, written):
    memory, total = caller.memory, 0
    for start, size in sizes.iter_unpack(memory.read(buffers, buffers + 8 * count)):
        output(memory.read(start, start + size))
        total += size
    memory.write(total.to_bytes(4, "little"), written)
    return 0
def their_write(caller, fd, buffers, count, written):
    memory, total = caller["memory"], 0
    for start, size in sizes.iter_unpack(memory.read(caller, buffers, buffers + 8 * count)):
        output(memory.read(caller, start, start + size))
        total += size
    memory.write(caller, total.to_bytes(4, "little"), written)
    return 0
output = collections.deque(maxlen=2).append
fd_write = FuncType([ValType.i32()] * 4, [ValType.i32()])
writer = wasmtime.Module(store.engine, r'''(module
    (import "" "" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1) (data (i32.const 0) "\\20\\00\\00\\00\\06\\00\\00\\00\\30\\00\\00\\00\\07\\00\\00\\00")
    (func (export "write") (local i32) (local.set 0 (i32.const 10))
        (loop (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 16)))
            (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))''')
hosts = func(store, fd_write, our_write, access_caller=True), wasmtime.Func(store, fd_write, their_write, True)
ours_wasi, theirs_wasi = (
    bind(store, wasmtime.Instance(store, writer, [host]).exports(store)).write for host in hosts)
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
    "ten WASI writes": [
        Statement("VMExternRef", SETUP, "ours_wasi()"),
        Statement("wasmtime-py", SETUP, "theirs_wasi()"),
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
