"""What does a full gc.collect() cost with a million references alive?

All hold one value. The cycle collector looks at a reference only if it tracks the value; an
instance it looks at always.
"""

import gc
from time import perf_counter_ns

from harness import Program
from rivals import EXTERNREF, EXTERNREF_TRACKED

LIVE = 1_000_000

INSTANCES = """
class Plain:
    def __init__(self, value):
        self.value = value

x = []
"""


def milliseconds(setup, code):
    """Of one collection that finds no garbage."""
    scope = {}
    exec(setup, scope)
    make = eval(f"lambda: {code}", scope)
    live = [make() for _ in range(LIVE)]
    gc.collect()    # moves all to the oldest generation
    start = perf_counter_ns()
    gc.collect()
    end = perf_counter_ns()
    assert len(live) == LIVE
    return (end - start) / 1e6


QUESTIONS = {
    "gc.collect()": [
        Program("VMExternRef, tracked value", "ms", milliseconds, (EXTERNREF_TRACKED, "VMExternRef(x)")),
        Program("VMExternRef", "ms", milliseconds, (EXTERNREF, "VMExternRef(x)")),
        Program("plain instances", "ms", milliseconds, (INSTANCES, "Plain(x)")),
    ],
}


def test_collect(show):
    show()
