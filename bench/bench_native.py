"""What does a reference cost in machine code?

The rivals are Rust's Arc and Rc, C++'s shared_ptr, and VMExternRef as wasmtime wrote it in
Rust: native.rs and native.cpp. All are loops in compiled code. Needs a C compiler, and rustc
and a C++ compiler for the rivals.
"""

import ctypes
import os
import shutil
import subprocess
import sysconfig
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import externref
from harness import Loop, Statement
from rivals import PLAIN

HERE = Path(__file__).parent
C = (os.environ.get("CC", "cc"), "gcc", "clang")
CXX = (os.environ.get("CXX", "c++"), "g++", "clang++")
RUST = ("rustc", str(Path.home() / ".cargo/bin/rustc"))


def find(programs):
    """The first of the programs that there is, or None."""
    return next(filter(None, map(shutil.which, programs)), None)


@cache
def load(source, programs, *options):
    """Compiles a file and loads it; ImportError if that fails. Its loops hold the GIL."""
    compiler = find(programs)
    if compiler is None:
        raise ImportError(f"no {programs[0]} found")
    with TemporaryDirectory() as folder:
        library = f"{folder}/{source}.so"
        result = subprocess.run([compiler, HERE / source, *options, "-o", library], capture_output=True, text=True)
        if result.returncode:
            raise ImportError(f"{programs[0]} fails: {(result.stderr.strip().splitlines() or [''])[0]}")
        return ctypes.PyDLL(library)


def ours(name):
    library = load("native.c", C, "-O3", "-shared", "-fPIC", "-pthread", "-I", externref.get_include(),
                   "-isystem", sysconfig.get_path("include"))
    library.prepare.restype = ctypes.py_object
    library.prepare()
    return loop(library, name)


def cpp(name):
    library = load("native.cpp", CXX, "-O3", "-shared", "-fPIC", "-pthread")
    library.prepare()
    return loop(library, name)


def rust(name):
    options = "--edition=2021", "-Copt-level=3", "-Cpanic=abort", "--crate-type=cdylib"
    return loop(load("native.rs", RUST, *options), name)


def loop(library, name):
    function = getattr(library, name)
    function.argtypes, function.restype = [ctypes.c_size_t], None
    return function


def with_threads(function, threads, *more):
    """The loop of a function that takes how often, on how many threads, and what else it is given here."""
    function.argtypes = [ctypes.c_size_t, ctypes.c_size_t, *map(type, more)]
    return lambda times: function(times, threads, *more)


def tvm(threads):
    import tvm_ffi
    library, core = ctypes.PyDLL(tvm_ffi.libinfo.find_libtvm_ffi()), ctypes.PyDLL(tvm_ffi.core.__file__)
    functions = library.TVMFFIObjectCreateOpaque, library.TVMFFIObjectDecRef, core.TVMFFIPyObjectDeleter
    addresses = (ctypes.cast(function, ctypes.c_void_p) for function in functions)
    return with_threads(ours("tvm_drop_on_threads"), threads, OBJECT, *addresses)


OBJECT = ctypes.py_object(object())
MANY = 200_000      # threads take their time to begin


QUESTIONS = {
    "native: clone+drop": [
        Loop("VMExternRef", lambda: ours("clone_drop")),
        Loop("Rust Arc", lambda: rust("arc_clone_drop")),
        Loop("Rust Rc, not atomic", lambda: rust("rc_clone_drop")),
        Loop("C++ shared_ptr", lambda: cpp("clone_drop")),
    ],
    "native: new+drop": [
        Loop("VMExternRef", lambda: ours("new_drop_anywhere")),
        Loop("VMExternRef, released with the GIL", lambda: ours("new_release")),
        Loop("VMExternRef, drained later", lambda: ours("new_drop")),
        Loop("Rust VMExternRef", lambda: rust("new_drop")),
        Loop("Rust Arc", lambda: rust("arc_new_drop")),
        Loop("C++ shared_ptr", lambda: cpp("new_drop")),
    ],
    "native: new+drop on two threads": [
        Loop("VMExternRef", lambda: with_threads(ours("new_drop_on_threads"), 2), MANY),
        Loop("Rust VMExternRef", lambda: with_threads(rust("new_drop_on_threads"), 2), MANY),
        Loop("Rust Arc", lambda: with_threads(rust("arc_new_drop_on_threads"), 2), MANY),
        Loop("C++ shared_ptr", lambda: with_threads(cpp("new_drop_on_threads"), 2), MANY),
    ],
    # Python objects, but for Arc and shared_ptr: made by who has the GIL, dropped without it, released with it.
    **{
        f"dropped by C, drained: {name}": [
            Loop("VMExternRef", lambda n=n: with_threads(ours("object_drop_on_threads"), n, OBJECT), MANY),
            Statement("object(), no thread", PLAIN, "object()"),
            Loop("PyO3's way, in Rust", lambda n=n: with_threads(rust("pyo3_drop_on_threads"), n, OBJECT), MANY),
            Loop("apache-tvm-ffi", lambda n=n: tvm(n), MANY),
            Loop("Rust Arc, not Python's", lambda n=n: with_threads(rust("arc_drop_on_threads"), n), MANY),
            Loop("C++ shared_ptr, not Python's", lambda n=n: with_threads(cpp("drop_on_threads"), n), MANY),
        ] for n, name in ((1, "one thread"), (2, "two threads"))
    },
}


def test_native(show):
    show()
