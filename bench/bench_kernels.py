"""What does code that computes cost as WebAssembly?

kernels.c natively (`cc -O2`), and as WebAssembly by wasm2c and by wasmtime-py. sha256 and nbody compute;
fib and sieve are the worst cases, calls and loops that do next to nothing. An operation is a block of 64
bytes, a step, fib(20) or fib(21), and all primes below 65,536.
"""

import ctypes
from pathlib import Path

from bench_native import C, load
from harness import Loop

TEXT = Path(__file__).with_name("kernels.wat")
OPERATIONS = {"sha256": 10_000, "nbody": 20_000, "fib": 50, "sieve": 10}    # a few milliseconds


def native(name):
    function = getattr(load("kernels.c", C, "-O2", "-shared", "-fPIC"), name)
    function.argtypes, function.restype = [ctypes.c_uint32], ctypes.c_double if name == "nbody" else ctypes.c_int32
    return function


def wasm2c(name, interruptible=True):
    from externref import wasm2c
    try:
        module = wasm2c.compile(TEXT, interruptible=interruptible)
    except wasm2c.CompileError as error:
        raise ImportError(str(error)) from None
    return module.instantiate(wasm2c.Store()).exports[name]


def wasmtime(name):
    import wasmtime
    store = wasmtime.Store()
    function = wasmtime.Instance(store, wasmtime.Module(store.engine, TEXT.read_text()), []).exports(store)[name]
    return lambda operations: function(store, operations)


def answers(name):
    builds = {
        "wasm2c": lambda: wasm2c(name),
        "wasm2c, not interruptible": lambda: wasm2c(name, interruptible=False),
        "native C": lambda: native(name),
        "wasmtime-py": lambda: wasmtime(name),
    }
    return [Loop(answer, build, OPERATIONS[name]) for answer, build in builds.items()]


QUESTIONS = {f"kernel: {name}": answers(name) for name in OPERATIONS}


def test_kernels(show):
    show()
