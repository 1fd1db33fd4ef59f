"""An interrupt anywhere loses nothing, drops nothing twice, and leaves the store usable. Promises P1, P2."""

import contextlib

import pytest

from on_wasmtime.operations import OPERATIONS, THEIRS, World
from safe_points import INTERRUPTS, interrupt_in_turn


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
            assert done or is_same or "grow" in name        # which stays
            return world if is_same else make_world()

        interrupt_in_turn(interrupting, INTERRUPTS[by], OPERATIONS[name], make_world(), World.state, check)
