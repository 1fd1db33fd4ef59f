"""What test_faults.py runs in an interpreter of its own, where tests/c/faults.c makes allocations fail.

Each allocation of an operation fails in turn, until none is left to fail: those of externref's modules alone, then those
of Python too. Those of wasmtime do not: it ends the process. Whatever fails, it is a MemoryError, and it was as if nothing had
been done: the counts, and what tables and globals hold, are what they were.
"""

import contextlib
import ctypes
import itertools
import operator
import os
import sys

import pytest

from externref.wasmtime import _calls
from faults import OURS, attempt
from on_wasmtime.operations import OPERATIONS, THEIRS, World

# Of an operation with more allocations, which is Python code of wasmtime-py's, every so many of the rest.
EACH, STEP = 200, 1 if os.environ.get("EXTERNREF_ALL_FAULTS") else 37

NO_FRAMES = "CPython crashes where it has no memory for the frames of Python code"


@pytest.mark.parametrize("only", [OURS, None], ids=["ours", "all"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_allocation_fails_in_turn(name, only, monkeypatch):
    if name in THEIRS and only is None:
        pytest.xfail("wasmtime-py loses what it is about to give to wasmtime")
    if only is None and sys.version_info >= (3, 12):
        pytest.xfail(NO_FRAMES)
    monkeypatch.setattr(sys, "unraisablehook", id)      # of wasmtime-py's finalizers; pytest would keep what they have
    with contextlib.ExitStack() as stores:
        world = World()
        stores.enter_context(world.store)
        for n in itertools.chain(range(1, EACH), itertools.count(EACH, STEP)):
            state = world.state()
            done, failed = attempt(OPERATIONS[name], world, n, 0, only)
            if not failed:
                assert done
                break
            is_same = world.state() == state
            assert is_same or "grow" in name, (n, done)
            assert world.e.id(world.object) is world.object
            if not is_same:     # what has grown stays so
                world = World()
                stores.enter_context(world.store)


def test_what_wasmtime_py_is_about_to_give():
    """The data of its externrefs, an int: what it has no memory for is no reference."""
    if sys.version_info >= (3, 12):
        pytest.xfail(NO_FRAMES)
    world = World()
    given = [None]
    finalize = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_calls.finalizer_address)
    for n in itertools.count(1):
        state = world.state()
        attempt(lambda world: operator.setitem(given, 0, _calls.intern(world.object)), world, n, 0, None)
        if given[0] is not None:
            break
        assert world.state() == state, n
    finalize(given[0])
    assert world.state() == state and n > 1
    world.store.close()
