"""Interrupts at each place where CPython looks for one, by tests/c/safe_points.c: what the files test_safe_points.py share.

An interrupt is an exception that comes from nowhere: a signal's handler raises it, or another thread sets it. It may come when
a function begins, after each call of C code, and at each turn of a loop, of the package's own Python code, of what it calls, and
of what calls it.
"""

import contextlib
import ctypes
import gc
import itertools
import os
import signal
import sys
import sysconfig

from support import TESTS, run_compiler


class Interrupt(BaseException):
    """What no code expects."""


def raise_interrupt(*_):
    raise Interrupt


# What interrupts, by name.
INTERRUPTS = {"a signal": signal.SIGINT, "another thread": Interrupt}


@contextlib.contextmanager
def load(compiler, folder):
    """The library, compiled in the folder; as long as it is used, the signal's handler raises."""
    path = folder / "safe_points.so"
    run_compiler(compiler, "-O2", "-shared", "-fPIC", "-isystem", sysconfig.get_path("include"), TESTS / "c/safe_points.c",
                 "-o", path)
    library = ctypes.PyDLL(str(path))
    library.safe_points_call.argtypes = [ctypes.py_object, ctypes.py_object, ctypes.c_long, ctypes.py_object]
    library.safe_points_call.restype = ctypes.py_object
    before = signal.signal(signal.SIGINT, raise_interrupt)
    yield library
    signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def quiet():
    """What a finalizer raises is not reported: an interrupt in one ends there. No collection is part of it by chance."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        sys.unraisablehook = hook


# Of an operation with more of them, a loop's, every so many of the rest: its turns are alike.
EACH, STEP = 200, 1 if os.environ.get("EXTERNREF_ALL_SAFE_POINTS") else 97


def interrupt_in_turn(library, by, operation, world, prepare, check):
    """For each n the operation is interrupted at the n-th place, until it has no more of them. Before each prepare(world) gives
    a state; after it check(world, state, done) gives the world to go on with. How many places there are."""
    for n in itertools.chain(range(1, EACH), itertools.count(EACH, STEP)):
        state = prepare(world)
        with quiet():
            try:
                done = library.safe_points_call(operation, world, n, by)
            except Interrupt:
                done = None
            came = library.safe_points_came()
        assert came or done, f"not done at {n}"
        world = check(world, state, done)
        if not came:
            return n
