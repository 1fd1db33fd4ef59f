"""What does a Python object's trip through WebAssembly cost? Also: `python bench/bench_wasm2c.py`.

id(obj) of a module that wasm2c compiled, beside the same trip by cffi in API mode with a kept
handle, and by wasmtime-py where it is installed; all in one run, interleaved. The file alone prints
also what a sweep costs, an entry, for tables of 1,000 to 1,000,000.
"""

import statistics
import time

from harness import OPERATIONS, Statement

WASM2C = """
from externref import VMExternRef, wasm2c
TEXT = '(module (func (export "id") (param externref) (result externref) (local.get 0)))'
store = wasm2c.Store()
ident = wasm2c.compile(TEXT).instantiate(store).exports["id"]
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
ident, from_handle = module.lib.ident, module.ffi.from_handle
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
        Statement("cffi API mode, kept handle", CFFI, "from_handle(ident(handle))"),
        Statement("wasmtime-py", WASMTIME, "ident(store, x)"),
    ],
}


def test_wasm2c(measure):
    measure()


def sweep_cost(count: int) -> tuple[float, float]:
    """Nanoseconds an entry, of a collection that keeps `count` entries and one that drops them."""
    from externref import wasm2c

    with wasm2c.Store() as store:
        module = wasm2c.compile(f'(module (table (export "t") {count} externref))')
        table = module.instantiate(store).exports["t"]
        x = object()
        for i in range(count):
            table[i] = x
        start = time.perf_counter_ns()
        store.gc()
        kept = time.perf_counter_ns()
        table.fill(0, None, count)
        emptied = time.perf_counter_ns()
        assert store.gc() == count
        return (kept - start) / count, (time.perf_counter_ns() - emptied) / count


def main(rounds: int = 30) -> None:
    runs = {}
    for statement in QUESTIONS["wasm: an object in and out"]:
        try:
            runs[statement.name] = statement.repeated()
        except ImportError:
            print(f"{statement.name}: not installed")
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter_ns()
            for _ in range(20 if "wasmtime" not in name else 1):
                run()
            times[name].append((time.perf_counter_ns() - start) / OPERATIONS / (20 if "wasmtime" not in name else 1))
    cffi = statistics.median(times["cffi API mode, kept handle"])
    for name, values in times.items():
        print(f"{name:<28} {statistics.median(values):8.1f} ns   {statistics.median(values) / cffi:6.2f} of cffi's")
    for count in (1_000, 10_000, 100_000, 1_000_000):
        keep, drop = map(min, zip(*(sweep_cost(count) for _ in range(5))))
        print(f"sweep of {count:>9,} entries: {keep:5.1f} ns each to keep them, {drop:5.1f} ns to drop them")


if __name__ == "__main__":
    main()
