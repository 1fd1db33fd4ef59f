"""What test_faults.py runs in an interpreter of its own, where tests/c/faults.c makes allocations of externref's modules fail."""

import gc
import itertools
from functools import partial

import pytest
from numba import njit

import externref
from externref import VMExternRef
from faults import OURS, attempt, faults
from support import one_after_the_other


def test_each_allocation_of_a_trip_fails_in_turn(identity):
    ref = VMExternRef(["value"])
    identity(ref)       # compiled
    failures = 0
    for n in itertools.count(1):
        gc.collect()        # nothing is kept for the next reference, or hold
        before = externref.stats(), ref.strong_count
        done, failed = attempt(lambda ref: identity(ref) == ref, ref, n, 0, OURS)
        gc.collect(0)
        externref.drain()
        assert (externref.stats(), ref.strong_count) == before and done == (not failed)
        failures += failed
        if not failed:
            break
    assert failures >= 1


def test_what_is_to_be_counted_for_stats_fails(copies):
    @njit(nogil=True)
    def drop_all(refs):
        while len(refs):
            refs.pop()

    ref = VMExternRef("value")
    drop_all(copies(ref, 1))        # compiled
    externref.drain()
    before, refs = externref.stats(), copies(ref, 3)
    # From C, so that no pending call drains between.
    with pytest.raises(MemoryError, match="to count what is pending"):
        one_after_the_other(partial(drop_all, refs), partial(faults.faults_arm, 1, OURS), externref.stats)
    assert faults.faults_disarm() == 1
    externref.drain()
    assert externref.stats() == before
