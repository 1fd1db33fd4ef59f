"""Random programs against the plain model of random_programs.py. Promises P1, P2, P5, P10."""

import gc
import random
import sys
import threading
import time
from functools import partial

import pytest

from externref import wasm2c
from random_programs import PARTS, Model, ModelWithItems

STEPS = 12_000


@pytest.mark.parametrize("seed", range(3))
def test_random_programs(store, instantiate, seed):
    model = Model(store, instantiate, seed)
    model.run(STEPS)
    assert model.freeing > 200 and store.activations.collections > model.freeing


@pytest.mark.parametrize("seed", range(2))
def test_random_programs_with_items(instantiate, compile, seed):
    model = ModelWithItems(wasm2c.Store, instantiate, seed, compile(PARTS))
    model.run(STEPS // 2)
    assert model.freeing > 100 and model.refusals > 20


class LittleMemory(ModelWithItems):
    """Memories of 32 MiB and more, where there is not the address space for all that the store allows."""

    lacks = 0

    def did(self, function, *args):
        try:
            return super().did(function, *args)
        except MemoryError as error:
            self.failed = True
            self.lacks += "limit" not in str(error)
            return False

    def allows(self, units, elements):
        allowed = super().allows(units, elements)
        self.failed |= allowed      # it may be refused all the same
        return allowed


@pytest.mark.parametrize("seed", range(2))
def test_random_programs_with_little_memory(little_memory, instantiate, seed):
    """The address space ends before the store's limit does."""
    model = LittleMemory(wasm2c.Store, instantiate, seed, page=512)
    model.run(STEPS // 4)
    assert model.lacks > 10 and model.refusals > model.lacks


class Interrupted(ModelWithItems):
    """Somebody interrupts; what then traps has done nothing, but for what the host did meanwhile."""

    traps = 0

    def did(self, function, *args):
        try:
            return super().did(function, *args)
        except wasm2c.Trap as trap:
            assert trap.reason == "interrupted"
            self.traps += 1
            self.failed = True
            return False

    def from_wasm(self, ref, number):
        if self.random.randrange(10) == 0:
            self.store.interrupt()
        return super().from_wasm(ref, number)


@pytest.mark.parametrize("release_gil", [False, True])
def test_random_programs_on_threads(instantiate, run_in_threads, release_gil):
    """A store each, while a thread interrupts any of them and has Python's collector run."""
    models = [Interrupted(wasm2c.Store, partial(instantiate, release_gil=release_gil), seed) for seed in range(4)]
    waiting = list(models)
    ready = threading.Barrier(len(models) + 1)

    def disturb():
        rand = random.Random(4)
        ready.wait()
        while any(model.steps < STEPS for model in models) and not failed:
            rand.choice(models).store.interrupt()
            gc.collect()
            time.sleep(0.0005)

    def work():
        model = waiting.pop()
        ready.wait()
        try:
            model.run(STEPS)
        except BaseException:
            failed.append(model)
            raise

    failed = []
    disturber = threading.Thread(target=disturb)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        disturber.start()
        run_in_threads(work, len(models))
    finally:
        disturber.join()
        sys.setswitchinterval(interval)
    assert all(model.traps > 100 for model in models)
    for model in models:
        model.store.close()
