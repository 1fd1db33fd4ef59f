"""What does a Python object's trip through WebAssembly cost?

id(obj) of a module that wasm2c compiled, beside the same trip by cffi in API mode, with a handle
made for it or a kept one, and by wasmtime-py.
"""

from harness import Statement

WASM2C = """
from externref import VMExternRef, wasm2c
TEXT = '(module (func (export "id") (param externref) (result externref) (local.get 0)))'
store = wasm2c.Store()
module = wasm2c.compile(TEXT)
ident = module.instantiate(store).exports["id"]
released = module.instantiate(store, release_gil=True).exports["id"]
x = object()
ref = VMExternRef(x)
"""

CFFI = """
import atexit, importlib, shutil, sys, tempfile
import cffi
folder = tempfile.mkdtemp(prefix="externref-")
atexit.register(shutil.rmtree, folder, ignore_errors=True)
builder = cffi.FFI()
builder.cdef("void *ident(void *);")
builder.set_source("_externref_bench_ident", "void *ident(void *x) { return x; }")
builder.compile(tmpdir=folder)
sys.path.insert(0, folder)
module = importlib.import_module("_externref_bench_ident")
x = object()
handle = module.ffi.new_handle(x)
ident, new_handle, from_handle = module.lib.ident, module.ffi.new_handle, module.ffi.from_handle
"""

WASMTIME = """
import wasmtime
store = wasmtime.Store()
instance = wasmtime.Instance(store, wasmtime.Module(store.engine,
    '(module (func (export "id") (param externref) (result externref) (local.get 0)))'), [])
ident = instance.exports(store)["id"]
x = object()
"""

QUESTIONS = {
    "wasm: an object in and out": [
        Statement("wasm2c", WASM2C, "ident(x)"),
        Statement("wasm2c, a VMExternRef in", WASM2C, "ident(ref)"),
        Statement("wasm2c, a VMExternRef out", WASM2C, "ident.refs(x)"),
        Statement("cffi API mode, a handle each time", CFFI, "h = new_handle(x); from_handle(ident(h))"),
        Statement("cffi API mode, kept handle", CFFI, "from_handle(ident(handle))"),
    ],
    "wasm: without the GIL": [
        Statement("wasm2c, GIL released", WASM2C, "released(x)"),
        Statement("wasm2c", WASM2C, "ident(x)"),
    ],
    # By itself: it takes so long in its turn that it leaves cold caches to whoever is next.
    "wasm: beside wasmtime-py": [
        Statement("wasm2c", WASM2C, "ident(x)"),
        Statement("wasmtime-py", WASMTIME, "ident(store, x)"),
    ],
}


def test_wasm2c(measure):
    measure()
