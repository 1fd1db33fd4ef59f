"""An interrupt anywhere loses nothing, drops nothing twice, and leaves the store usable. Promises P1, P2."""

import contextlib
import itertools

import pytest
import wasmtime

from on_wasmtime.operations import OPERATIONS, THEIRS, World
from safe_points import INTERRUPTS, Interrupt, interrupt_in_turn, quiet


@pytest.mark.parametrize("by", INTERRUPTS)
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in THEIRS])
def test_an_interrupt_at_each_place(interrupting, name, by):
    with contextlib.ExitStack() as stores:
        def make_world():
            world = World()
            stores.enter_context(world.store)
            return world

        def check(world, state, done):
            is_same = world.state() == state
            assert world.e.id(world.object) is world.object
            assert is_same or "grow" in name, done      # which stays
            return world if is_same else make_world()

        interrupt_in_turn(interrupting, INTERRUPTS[by], OPERATIONS[name], make_world(), World.state, check)


@pytest.mark.parametrize("by", INTERRUPTS)
def test_a_store_can_be_closed_while_the_interrupt_is_held(interrupting, by):
    """Of a call by wasmtime-py: what has a generator's block interrupted keeps its frame, and that the block open."""
    world = World()
    module = wasmtime.Module(world.engine, "(module (func (export \"f\")))")
    for n in itertools.count(1):
        store = wasmtime.Store(world.engine)
        store.set_epoch_deadline(1)
        instance = wasmtime.Instance(store, module, [])
        f = instance.exports(store)["f"]
        with quiet():
            try:
                interrupting.safe_points_call(f, store, n, INTERRUPTS[by])
            except Interrupt:
                store.close()
        if not interrupting.safe_points_came():
            break
    world.store.close()
