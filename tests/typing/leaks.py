"""externref.debug, as users write it."""

from traceback import StackSummary
from typing import assert_type

from externref import VMExternRef, debug

with debug.track(frames=4, guard=100) as tracker:
    assert_type(tracker, debug.Tracker)
    raw = VMExternRef([]).into_raw()
assert_type(tracker.leaks(), list[debug.Block])
assert_type(tracker.report(), str)
for block in debug.live():
    assert_type(block.raw_owners, int)
    assert_type(block.history[0].stack, StackSummary)
before = debug.snapshot()
difference = debug.snapshot() - before
assert_type(difference.changed, list[tuple[debug.Block, debug.Block]])
assert_type(debug.describe(VMExternRef(1)), str)
