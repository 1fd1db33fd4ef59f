"""What test files import: folders, helpers, and tables that several of them go through."""

import ctypes
import importlib.util
import math
import operator
import os
import platform
import subprocess
import sys
import sysconfig
import threading
import time
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from pathlib import Path

import pytest

import externref

TESTS = Path(__file__).parent

# Whether several threads run Python at once.
NO_GIL = not getattr(sys, "_is_gil_enabled", lambda: True)()

forks_beside_threads = pytest.mark.skipif(
    "ASAN_OPTIONS" in os.environ, reason="a child waits for AddressSanitizer's own lock, if a thread had it")


def one_after_the_other(*calls):
    """Makes the calls from C, for callables that are C: no pending call runs between them, however slow the machine."""
    return list(map(operator.call, calls))


def run_compiler(*args):
    """Runs a compiler, warnings being errors; its output is the failure's text."""
    command = [*map(str, args), "-Wall", "-Wextra", "-Werror", "-I", externref.get_include()]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, f"{command}\n{result.stderr}"


def build_extension(compiler, source, folder):
    """Compiles an extension module into the folder; gives its path."""
    path = folder / (source.stem + EXTENSION_SUFFIXES[0])
    run_compiler(compiler, "-O2", "-shared", "-fPIC", "-isystem", sysconfig.get_path("include"), source, "-o", path)
    return path


def load_extension(path):
    loader = ExtensionFileLoader(path.name.partition(".")[0], str(path))
    return importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))


def run_rust_tool(*command, cwd=None):
    """Runs rustc, or its like; gives the completed process. They crash under a sanitizer that is preloaded into Python."""
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return subprocess.run([*map(str, command)], capture_output=True, text=True, env=env, cwd=cwd)


def on_native_threads(*calls):
    """Runs C functions of one word, (address, word) each, at once: on threads that are not Python's, without the GIL."""
    libc = ctypes.CDLL(None)
    threads = (ctypes.c_ulong * len(calls))()
    for i, (address, word) in enumerate(calls):
        thread = ctypes.byref(threads, i * ctypes.sizeof(ctypes.c_ulong))
        assert libc.pthread_create(thread, None, ctypes.c_void_p(address), ctypes.c_void_p(word)) == 0
    for thread in threads:
        assert libc.pthread_join(ctypes.c_ulong(thread), None) == 0


# For an interpreter of its own, with $PYTHONMALLOC=debug, which spoils what is freed: a call that makes its caller let it go,
# the callable, what that is a method of, and arguments. The caller is an iterator, which ends when it is called again.
LET_GO = """
from functools import partial
class Anything:
    def __eq__(self, other): return True
class Number:
    def __init__(self, value): self.value = value
    def __index__(self):
        end()
        return self.value
def end():
    global ends
    if not ends:
        ends = True
        assert next(caller, "over") == "over"
def let_go(make):
    global caller, ends
    ends = False
    caller = iter(make(), Anything())       # nobody else has what is made
    try:
        result = next(caller, "over")
    except SystemError:                     # 3.11.2 compares with the sentinel that it has let go
        result = "over"
    assert ends
    return result
"""


# For an interpreter of its own: calls what make() gives, which nobody else has, and a collection lets it go in the middle,
# at each of the first allocations in turn. CPython 3.11 collects there; later ones between bytecodes.
LET_GO_AT_ALLOCATIONS = """
import gc
from collections import defaultdict
class Cycle:
    def __init__(self): self.itself = self
    def __del__(self):
        lender.default_factory = None
        junk.extend(bytes(size) for size in range(500) for _ in range(4))
        junk.extend([n] for n in range(300))
def let_go_at_allocations(make):
    global lender, junk
    for n in range(-20, 20):
        junk = []
        lender = defaultdict(make())
        gc.disable()
        gc.collect()        # empties the free lists
        Cycle()
        gc.set_threshold(gc.get_count()[0] + 22 + n)
        junk.append([(k,) for k in range(20)])      # and no tuple of the calls before is left in one
        gc.enable()
        try:
            result = lender["key"]
        except KeyError:        # before the call
            continue
        finally:
            gc.disable()
            gc.set_threshold(700)
        yield result
"""


# The same, and a finalizer in the first drain of the call lets it go.
LET_GO_IN_THE_DRAIN = """
from collections import defaultdict
from functools import partial
import externref
from externref import Function, VMExternRef, abi
class Lets:
    def __del__(self):
        lender.default_factory = None
        junk.extend([n] for n in range(300))
junk = []
externref.set_drain(lambda: None)       # nobody else drains
drop = Function(abi.drop_address, "m")
def let_go_in_the_drain(call):
    "The result of the call, in whose first drain nobody has what is called."
    global lender
    lender = defaultdict(call)
    del call
    drop(Lets())
    return lender["key"]
"""


# For an interpreter of its own, with _testcapi: every allocation of an operation fails in turn, and each time all is as it was.
FAIL_IN_TURN = """
import _testcapi, gc
gc.disable()
def fail_in_turn(operate, state):
    for n in range(50):
        before = state()
        _testcapi.set_nomemory(n, n + 1)
        try:
            result = operate()
            failed = False
        except MemoryError:
            failed = True
        finally:
            _testcapi.remove_mem_hooks()
        if not failed:
            return result
        assert state() == before, (n, state(), before)
    raise AssertionError("still out of memory")
"""


# How a program that ends is run: with these options, or by a program that embeds Python.
HOW_TO_EXIT = {"python": [], "dev": ["-X", "dev"], "embedded": None}

# Marks of tests whose processes begin with what follows.
with_address_space = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads how much a process has from /proc"),
    pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="AddressSanitizer needs the address space that this takes away"),
]

# leave(count): bytes that the process may still have, beside what it has; leave_all(): as many as before.
ADDRESS_SPACE = """
import os, resource, sys
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
def leave(count):
    with open("/proc/self/statm") as file: size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + count, hard))
def leave_all(): resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
def fails(function):
    try: function()
    except MemoryError: return True
"""


# Marks of tests that run_under_faults().
with_faults = [
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator that is preloaded stands before glibc's"),
    pytest.mark.skipif(NO_GIL, reason="CPython without a GIL has its own allocator alone"),
    pytest.mark.skipif("LD_PRELOAD" in os.environ or "ASAN_OPTIONS" in os.environ, reason="something else is preloaded"),
]


def run_under_faults(compiler, folder, tests):
    """Runs a file of tests in an interpreter of its own, with tests/c/faults.c, which the compiler builds in the folder."""
    library = folder / "faults.so"
    run_compiler(compiler, "-O2", "-shared", "-fPIC", TESTS / "c/faults.c", "-o", library)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS / tests],
        env={**os.environ, "LD_PRELOAD": str(library), "PYTHONMALLOC": "malloc"},
        capture_output=True, text=True, timeout=300)
    assert result.returncode == 0 and "skipped" not in result.stdout, result.stdout + result.stderr


def wait_until_drained(seconds=5):
    """Waits for threads that are still to drop their references."""
    end = time.monotonic() + seconds
    while externref.stats().live_blocks:
        assert time.monotonic() < end, externref.stats()
        time.sleep(0.001)
        externref.drain()


class Calling:
    """A number that runs code when it is asked for."""

    def __init__(self, run, number=1):
        self.run, self.number = run, number

    def __index__(self):
        self.run()
        return self.number


def in_thread(function):
    """What the function raised in a thread of its own, or None."""
    raised = []

    def run():
        try:
            function()
        except BaseException as exception:
            raised.append(exception)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    return raised[0] if raised else None


def at_once(*works):
    """Runs each on a thread of its own, from one moment on; what they return. Raises what the first failure was."""
    barrier = threading.Barrier(len(works))
    results = [None] * len(works)
    failures = []

    def run(i, work):
        barrier.wait()
        try:
            results[i] = work()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=item) for item in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return results


class Payload:
    """An object whose drops are counted: list.append is its only reference to a test."""

    def __init__(self, dropped=None, name=None):
        self.dropped = dropped
        self.name = name

    def __del__(self):
        if self.dropped is not None:
            self.dropped.append(self.name)


class EqualToAll:
    """Gets past a guard that compares, but not past one that asks for identity."""

    def __eq__(self, other):
        return True

    __hash__ = object.__hash__


# --- Numbers, as every runtime converts them

class Index:
    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value

    def __repr__(self):
        return f"Index({short(self.value)})"


class Float:
    def __init__(self, value):
        self.value = value

    def __float__(self):
        return self.value

    def __repr__(self):
        return f"Float({self.value!r})"


class Raising:
    """No number: its conversions raise."""

    def __index__(self):
        raise KeyError("bad index")

    def __float__(self):
        raise KeyError("bad float")


def short(value):
    """A value for a test's id: Python refuses to write out an int of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"{value.bit_length()} bits"
    return value.__name__ if isinstance(value, type) else repr(value)


def by_type(rows):
    return [(name, *row) for name, rows in rows.items() for row in rows]


# (type, what is given, what comes back)
NUMBERS = by_type({
    "i32": [(0, 0), (-1, -1), (2**31 - 1, 2**31 - 1), (-2**31, -2**31), (2**31, -2**31), (2**32 - 1, -1),
            (True, 1), (Index(7), 7), (Index(2**32 - 1), -1)],
    "i64": [(0, 0), (-2**63, -2**63), (2**63 - 1, 2**63 - 1), (2**63, -2**63), (2**64 - 1, -1),
            (False, 0), (Index(-7), -7), (Index(2**64 - 1), -1)],
    "f32": [(0.5, 0.5), (1.5, 1.5), (0.1, 0.10000000149011612), (math.inf, math.inf), (1, 1.0), (3, 3.0),
            (Float(1.5), 1.5), (Index(3), 3.0), (2.0**-149, 2.0**-149), (1e-60, 0.0)],
    "f64": [(0.1, 0.1), (1e300, 1e300), (-math.inf, -math.inf), (2**53, float(2**53)), (10**300, 1e300),
            (Float(0.1), 0.1), (Index(3), 3.0)],
})

# (type, what is given, error, word of its text)
MISFITS = by_type({
    "i32": [(2**32, OverflowError, "4294967296 does not fit"), (-2**31 - 1, OverflowError, "does not fit"),
            (2**70, OverflowError, "does not fit"), (10**400, OverflowError, "does not fit"),
            (10**5000, OverflowError, "does not fit"), (-10**5000, OverflowError, "does not fit"),
            (Index(10**5000), OverflowError, "does not fit"),
            (1.0, TypeError, "float"), (1.5, TypeError, "float"), ("1", TypeError, "str"), (None, TypeError, "NoneType"),
            (Float(1.0), TypeError, "Float")],
    "i64": [(2**64, OverflowError, "does not fit"), (-2**63 - 1, OverflowError, "does not fit"),
            (10**400, OverflowError, "does not fit"), (10**5000, OverflowError, "does not fit"),
            (-10**5000, OverflowError, "does not fit"), (Index(2**64), OverflowError, "does not fit"),
            (1.0, TypeError, "float"), ("1", TypeError, "str"), (b"1", TypeError, "bytes"), (None, TypeError, "NoneType")],
    "f32": [(1e300, OverflowError, "does not fit"), (-1e39, OverflowError, "does not fit"),
            (10**39, OverflowError, "does not fit"), (10**400, OverflowError, "does not fit"),
            (10**5000, OverflowError, "does not fit"), (Index(10**400), OverflowError, "does not fit"),
            ("1", TypeError, "str"), (None, TypeError, "NoneType"), (1j, TypeError, "complex")],
    "f64": [(10**400, OverflowError, "does not fit"), (-10**400, OverflowError, "does not fit"),
            (10**5000, OverflowError, "does not fit"), (Index(10**400), OverflowError, "does not fit"),
            ("1", TypeError, "str"), (None, TypeError, "NoneType"), (1j, TypeError, "complex")],
})


# --- The exports `id`, `t` and `g` of a module, in a runtime

def uses(module):
    """Everything that can be done with what is bound to a store."""
    return {
        "call": lambda: module.id(1),
        "refs": lambda: module.id.refs(1),
        "len": lambda: len(module.t),
        "get": lambda: module.t[0],
        "ref": lambda: module.t.ref(0),
        "set": lambda: module.t.__setitem__(0, 1),
        "grow": lambda: module.t.grow(1),
        "fill": lambda: module.t.fill(0, 1, 1),
        "value": lambda: module.g.value,
        "global ref": lambda: module.g.ref,
        "set value": lambda: setattr(module.g, "value", 1),
    }


USES = list(uses(None))
