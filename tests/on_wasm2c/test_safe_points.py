"""An interrupt anywhere loses nothing, drops nothing twice, and leaves the store usable. Promises P1, P2, P10."""

import contextlib

import pytest

from on_wasm2c.operations import OPERATIONS, PREPARE, STAY, World
from safe_points import INTERRUPTS, interrupt_in_turn


@pytest.mark.parametrize("by", INTERRUPTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_interrupt_at_each_place(compile, interrupting, name, by):
    with contextlib.ExitStack() as stores:
        def make_world():
            world = World(compile)
            stores.enter_context(world.store)
            return world

        def prepare(world):
            state = world.state()
            if name in PREPARE:
                PREPARE[name](world)
            return state

        def check(world, state, done):
            has_run = world.has_started()
            is_same = world.state() == state
            assert world.e.id(world.object) is world.object
            # What has grown stays so, and an instance that has run stays until its store ends.
            stays = "grow" in name or (name in STAY and has_run)
            assert is_same or stays, done
            if not (name in STAY and has_run):
                world.check_limits()
            return world if is_same else make_world()

        interrupt_in_turn(interrupting, INTERRUPTS[by], OPERATIONS[name], make_world(), prepare, check)
