"""What test_faults.py runs in an interpreter of its own, where tests/c/faults.c makes allocations fail.

Each allocation that an operation of the core makes fails in turn, and each pair of them: those of externref's modules alone,
then, in turn, those of Python too. Whatever fails, it is a MemoryError, and it was as if nothing had been done; what
compiled code dropped is dropped all the same.
"""

import gc
import itertools
import sys

import pytest

from externref import VMExternRef, debug
from faults import OURS, attempt, exhaust, faults, until_it_allocates
from operations import API, MOST_DROPS, OPERATIONS, WRITTEN_IN_PYTHON, World, is_value


def exhaust_all(world):
    """exhaust(), and what C code makes references of, and room in the set of addresses that were handed out."""
    gc.collect()        # what others left of that set
    world.full = exhaust(world.ref)
    until_it_allocates(lambda: world.full_raws.append(API["from_object"](world.value)))
    if not any(makes_the_set_grow(ref) for ref in world.full):
        raise AssertionError("it always had room")


def makes_the_set_grow(ref):
    """Hands out the address, unless that needs memory in the set of such addresses."""
    for n in itertools.count(1):
        faults.faults_arm_two(n, 0, None)
        try:
            ref.as_raw()
            return False
        except MemoryError as error:
            if "hand out" in str(error):
                return True
        finally:
            faults.faults_disarm()


def fail(name, only, pairs):
    """For each n the n-th allocation fails; with pairs for each m the m-th after it, too. How many did."""
    world = World()
    exhaust_all(world)
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
    world.release()
    return total


def test_the_first_records_fail():
    """Before all others: what they are in is made with the first, and stays."""
    value = ["value"]
    with debug.track() as tracker:
        for n in itertools.count(1):
            # The one after it fails, too, or it would be made there.
            done, failed = attempt(lambda value: VMExternRef(value).value is value, value, n, 1, OURS)
            assert done or failed
            if not failed:
                break
        assert tracker.live() == []


def test_what_is_told_of_the_tracked_fails():
    value = ["value"]
    with debug.track() as tracker:
        ref = VMExternRef(value)
        for tell in (lambda _: len(tracker.live()) == 1, lambda _: debug.describe(ref) != "", lambda _: VMExternRef(value).value is value):
            for n in itertools.count(1):
                done, failed = attempt(tell, None, n, 0, OURS)
                assert done or failed
                if not failed:
                    break
            assert done and n > 1


def test_what_counts_for_wrappers_fails():
    """Then they do not count, and there is nothing else to it."""
    world, threshold = World(), gc.get_threshold()
    exhaust_all(world)
    gc.set_threshold(1_000_000)
    del world.full[-20:]
    gc.collect()        # so that clones need no other memory: theirs is not kept for other references
    refs, failed = [], 0
    try:
        for _ in range(20):
            faults.faults_arm_two(1, 0, None)
            ref = world.ref.clone()
            failed += faults.faults_disarm()
            refs.append(ref)
    finally:
        faults.faults_disarm()
        gc.set_threshold(*threshold)
    assert failed >= 2      # one in eight
    world.release()


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
