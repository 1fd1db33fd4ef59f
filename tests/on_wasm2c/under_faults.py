"""What test_faults.py runs in an interpreter of its own, where tests/c/faults.c makes allocations fail.

Each allocation of an operation fails in turn, until none is left to fail: those of externref's modules alone,
and each pair of them, then those of Python too. Whatever fails, it is a MemoryError or what the operation says of it, and it
was as if nothing had been done: the counts, what tables and globals hold, and what the store's limits leave are what they were.
"""

import contextlib
import itertools
import threading

import pytest

from externref import wasm2c
from faults import OURS, attempt, exhaust, faults
from on_wasm2c.operations import OPERATIONS, PREPARE, STAY, World
from random_programs import PARTS as RANDOM_PARTS
from random_programs import ModelWithItems


def fail(make_world, name, only, seconds):
    """For each n the n-th allocation fails; for each m of `seconds` the m-th after it, too. How often two did."""
    world = make_world()
    twice = 0
    for first in itertools.count(1):
        for second in seconds:
            state = world.state()
            if name in PREPARE:
                PREPARE[name](world)
            done, failed = attempt(OPERATIONS[name], world, first, second, only)
            twice += failed == 2
            if not failed:
                assert done
                world.check_limits()
                return twice
            if world.has_started() and name in STAY:
                world = make_world()        # an instance that has run stays until its store ends
            else:
                if not done and name != "instance with both":
                    assert world.state() == state, (first, second)
                world.check_limits()
                assert world.e.id(world.object) is world.object
            if failed == 1:     # there is no m-th
                break


@pytest.fixture
def make_world(compile):
    with contextlib.ExitStack() as stores:
        def make_world():
            world = World(compile)
            world.full = exhaust(world.ref)
            stores.enter_context(world.store)
            return world

        yield make_world


@pytest.mark.parametrize("only", [OURS, None], ids=["ours", "all"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_allocation_fails_in_turn(make_world, name, only):
    fail(make_world, name, only, [0])


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_pair_of_allocations_fails(make_world, name):
    fail(make_world, name, OURS, range(1, 10**6))


def test_a_stack_that_was_not_found_out_is_asked_for_again(compile):
    exports = compile("""(module (global $depth (mut i32) (i32.const 0))
      (func (export "depth") (result i32) (global.get $depth)) (func (export "nothing"))
      (func $down (export "down") (global.set $depth (i32.add (global.get $depth) (i32.const 1))) (call $down)
        (global.set $depth (i32.add (global.get $depth) (i32.const 0)))))""").instantiate(wasm2c.Store()).exports
    depths = []

    def work(n):
        faults.faults_arm(n, OURS)
        exports.nothing()
        assert faults.faults_disarm() == n      # nothing else is allocated
        before = exports.depth()
        with pytest.raises(wasm2c.Trap, match="Call stack exhausted"):
            exports.down()
        depths.append(exports.depth() - before)

    before = threading.stack_size(8 << 20)
    try:
        for n in (0, 1):
            thread = threading.Thread(target=work, args=[n])
            thread.start()
            thread.join()
    finally:
        threading.stack_size(before)
    assert depths[1] > depths[0] * 0.9 > 0


class Faulty(ModelWithItems):
    """In most operations an allocation fails, if there are so many."""

    faults = 0

    def arm(self):
        faults.faults_arm(self.random.choice([0, 0, 1, 1, 1, 2, 3, self.random.randrange(1, 12)]), OURS)

    def did(self, function, *args):
        self.arm()
        try:
            happened = super().did(function, *args)
        except MemoryError:
            happened = False
        finally:
            self.failed = bool(faults.faults_disarm())
        self.faults += self.failed
        if not happened and not self.failed:
            raise MemoryError       # for another reason
        return happened

    def from_wasm(self, ref, number):
        self.faults += faults.faults_disarm()
        result = super().from_wasm(ref, number)
        self.arm()
        return result

    def check(self):
        self.did(self.store.gc)
        super().check()


@pytest.mark.parametrize("seed", range(3))
def test_random_programs(instantiate, compile, seed):
    model = Faulty(wasm2c.Store, instantiate, seed, compile(RANDOM_PARTS))
    model.run(10_000)
    model.store.close()
    # Blocks come from slabs, so that few of their allocations are there to fail: tests/test_memory.py has those.
    assert model.faults > 500 and model.refusals > 100 and model.freeing > 50
