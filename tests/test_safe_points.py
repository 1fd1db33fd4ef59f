"""An interrupt anywhere loses nothing, and drops nothing twice. Promises P1, P2."""

import pytest

from operations import MOST_DROPS, OPERATIONS, World, is_value
from safe_points import INTERRUPTS, interrupt_in_turn


@pytest.mark.parametrize("by", INTERRUPTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_interrupt_at_each_place(interrupting, name, by):
    def check(world, before, done):
        after = world.state()
        assert after[-1] - before[-1] <= MOST_DROPS
        assert after[:-1] == before[:-1], done
        assert is_value(world, world.identity(world.ref))
        return world

    world = World()
    assert interrupt_in_turn(interrupting, INTERRUPTS[by], OPERATIONS[name], world, World.state, check) > 3
    world.release()
