"""Does a reference cost the same when millions are alive?

Nanoseconds for each of so many, all alive at once in a list that was allocated before. They
box one value, so that what is measured is the references'.
"""

from time import perf_counter_ns

from harness import Program, function
from rivals import EXTERNREF, PLAIN

MANY = [10_000, 1_000_000, 10_000_000]
ANSWERS = {
    "VMExternRef": (EXTERNREF, "VMExternRef(x)"),
    "object()": (PLAIN, "object()"),
    "slots class": (PLAIN, "Slots(x)"),
}


def making(setup, code, many):
    return make_and_drop(setup, code, many)[0]


def dropping(setup, code, many):
    return make_and_drop(setup, code, many)[1]


def make_and_drop(setup, code, many):
    """Nanoseconds for making and for dropping each."""
    fill = function(setup, code, "live", ["for i in range(len(live)):", f"  live[i] = {code}"])
    live = [None] * many
    start = perf_counter_ns()
    fill(live)
    made = perf_counter_ns()
    live.clear()
    dropped = perf_counter_ns()
    return (made - start) / many, (dropped - made) / many


QUESTIONS = {
    f"{verb}: {many:,} live": [
        Program(name, "ns", half, (*answer, many)) for name, answer in ANSWERS.items()
    ]
    for verb, half in (("make", making), ("drop", dropping)) for many in MANY
}
LONG = [group for group in QUESTIONS if group.endswith(f" {MANY[-1]:,} live")]


def test_scale(show):
    show()
