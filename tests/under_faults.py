"""What test_faults.py runs in an interpreter of its own, where tests/c/faults.c makes allocations fail.

Each allocation that an operation of the core makes fails in turn, and each pair of them: those of externref's modules alone,
then, in turn, those of Python too. Whatever fails, it is a MemoryError, and it was as if nothing had been done; what
compiled code dropped is dropped all the same.
"""

import itertools
import sys

import pytest

from faults import OURS, attempt, exhaust
from operations import MOST_DROPS, OPERATIONS, WRITTEN_IN_PYTHON, World, held_drop, is_value


def fail(name, only, pairs):
    """For each n the n-th allocation fails; with pairs for each m the m-th after it, too. How many did."""
    world = World()
    world.full = exhaust(world.ref)
    total = 0
    for first in itertools.count(1):
        for second in itertools.count(1) if pairs else [0]:
            state = world.state()
            done, failed = attempt(OPERATIONS[name], world, first, second, only)
            total += failed
            if not failed:
                assert done
            after = world.state()
            assert after[-1] - state[-1] <= MOST_DROPS
            assert after[:-1] == state[:-1], (first, second, done, after, state)
            assert is_value(world, world.identity(world.ref))       # the next one works
            if failed < 1 + pairs:
                break
        if not failed:
            break
    held_drop(world.raw)
    return total


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_allocation_fails_in_turn(name):
    fail(name, OURS, pairs=False)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")      # of the collector's own, in track
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_allocation_of_pythons_fails_in_turn(name):
    if name == "call by ctypes":
        pytest.xfail("ctypes loses what was returned if it has no memory for the int")
    if name in WRITTEN_IN_PYTHON and sys.version_info >= (3, 12):
        pytest.xfail("CPython crashes where it has no memory for the frames of Python code")
    fail(name, None, pairs=False)


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_pair_of_allocations_fails(name):
    fail(name, OURS, pairs=True)


def test_there_are_allocations_to_fail():
    """Or all of the above would have shown nothing."""
    failed = {name: fail(name, OURS, pairs=True) for name in OPERATIONS}
    assert sum(n > 0 for n in failed.values()) > 10 and failed["insert_with_gc"] > 5 and failed["track"] > 50, failed
