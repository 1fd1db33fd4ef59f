"""Fixtures: native clone and drop, a C library, and the balance of every test.

The promises that the files' docstrings name, P1 to P11, are the table of docs/architecture.md.
"""

import ctypes
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from types import SimpleNamespace

import pytest

import externref
import safe_points
from externref import abi
from support import HOW_TO_EXIT, NO_GIL, TESTS, Payload, run_compiler

# Their assertions are the tests'.
pytest.register_assert_rewrite("model", "random_programs", "operations", "on_both.operations",
                              "on_wasm2c.operations", "on_wasmtime.operations")


if NO_GIL and sys.version_info < (3, 14):
    # There every function and class that is made after the first thread was started is immortal, and with it what the
    # tests wait for to go. CPython's own tests do this.
    try:
        from _testinternalcapi import suppress_immortalization
    except ImportError:
        pass
    else:
        suppress_immortalization(True)


def pytest_sessionfinish():
    # A module that does not say that it can do without it, imported by a test, turns the GIL on for all that follow.
    assert NO_GIL != getattr(sys, "_is_gil_enabled", lambda: True)(), "the GIL came back during the tests"


# A shell's background job ignores it, and some tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def balanced():
    """Every block and handle that a test made is gone when it ends."""
    gc.freeze()     # collections need not look at what was there before, which is much
    externref.set_drain("main")     # tests say when and where finalizers run; test_drain.py is about the others
    yield
    externref.drain()
    if externref.stats() != (0, 0, 0, 0):
        gc.collect()
        externref.drain()
    gc.unfreeze()
    assert externref.stats() == (0, 0, 0, 0)


@pytest.fixture(scope="module")
def quick_switches():
    """Threads switch after a microsecond."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture(scope="session")
def native():
    """Compiled code's clone and drop, by address; ctypes releases the GIL around them."""
    return SimpleNamespace(
        clone=ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(abi.clone_address),
        drop=ctypes.CFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address),
    )


@pytest.fixture(scope="session")
def compilers():
    """The C compilers found, gcc and clang or whatever cc is."""
    found = [path for path in map(shutil.which, ("gcc", "clang")) if path]
    found = found or [path for path in [shutil.which(os.environ.get("CC", "cc"))] if path]
    if not found:
        pytest.skip("no C compiler found: install gcc")
    return found


@pytest.fixture(scope="session")
def foreign(compilers, tmp_path_factory):
    """tests/c/foreign.c, compiled and loaded."""
    library = tmp_path_factory.mktemp("foreign") / "foreign.so"
    run_compiler(compilers[0], "-O2", "-shared", "-fPIC", "-pthread", TESTS / "c/foreign.c", "-o", library)
    lib = ctypes.CDLL(str(library))
    for name in ("drop_on_thread", "drop_detached", "keep", "strong_count", "start_hammering"):
        getattr(lib, name).argtypes = [ctypes.c_void_p]
    lib.strong_count.restype = ctypes.c_size_t
    lib.hammer.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    lib.take.restype = lib.identity.restype = ctypes.c_void_p
    lib.identity.argtypes = [ctypes.c_void_p]
    lib.payload.argtypes, lib.payload.restype = [ctypes.c_void_p], ctypes.c_void_p
    return lib


@pytest.fixture(scope="module")
def interrupting(compilers, tmp_path_factory):
    """tests/c/safe_points.c, compiled and loaded."""
    with safe_points.load(compilers[0], tmp_path_factory.mktemp("safe_points")) as library:
        yield library


@pytest.fixture
def said_by_others():
    """A pattern of what a program may say on standard error that none of ours is to blame for: nothing."""
    return re.compile(r"(?!)")


@pytest.fixture
def run_python(said_by_others):
    """Runs code in its own interpreter; gives its standard output.

    It must end with return code 0 and say nothing on standard error.
    """

    def run(code, *args, env=None, timeout=120):
        result = subprocess.run(
            [sys.executable, "-c", code, *map(str, args)],
            capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})},
        )
        assert (result.returncode, said_by_others.sub("", result.stderr)) == (0, ""), result
        return result.stdout

    return run


@pytest.fixture(scope="session")
def build_embedding(compilers, tmp_path_factory):
    """Compiles a program of tests/c that embeds this Python, with these options; gives its path and its environment."""
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        pytest.skip("this Python has no shared library to embed")

    def build(source, *options):
        libdir = sysconfig.get_config_var("LIBDIR")
        program = tmp_path_factory.mktemp("embedding") / "program"
        run_compiler(compilers[0], *options, "-I", sysconfig.get_path("include"), TESTS / "c" / source, "-o", program,
                     "-pthread", "-L", libdir, f"-Wl,-rpath,{libdir}", f"-lpython{sysconfig.get_config_var('LDVERSION')}")
        # Else it takes a virtual environment whose `python` is on PATH for its own, and from 3.15 on says what that lacks.
        return program, {**os.environ, "PYTHONHOME": f"{sys.base_prefix}:{sys.base_exec_prefix}"}

    return build


@pytest.fixture(scope="session")
def build_script(build_embedding):
    """tests/c/script.c, compiled; its path and its environment."""
    program, env = build_embedding("script.c")
    return program, {**env, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path[1:]])}


@pytest.fixture
def run_script(request, said_by_others):
    """Runs a script of tests/ in one of HOW_TO_EXIT; gives the completed process."""

    def run(how, script, *args):
        options, env = HOW_TO_EXIT[how], None
        if options is None:
            program, env = request.getfixturevalue("build_script")
        command = [program] if options is None else [sys.executable, *options]
        ended = subprocess.run([*command, TESTS / script, *args], capture_output=True, text=True, errors="replace",
                               timeout=600, env=env)
        ended.stderr = said_by_others.sub("", ended.stderr)
        return ended

    return run


@pytest.fixture
def make_payload():
    return Payload


@pytest.fixture
def counted(make_payload):
    """counted(): a new object; counted.dropped(): how many are gone."""
    dropped = []

    def counted():
        return make_payload(dropped)

    counted.dropped = lambda: len(dropped)
    return counted
