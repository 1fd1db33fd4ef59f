"""Nopython code on many threads, without the GIL. Promises P1, P2."""

import threading
from functools import partial

import numpy as np
import pytest
from numba import njit, prange

import externref
import externref.numba as ern
from externref import VMExternRef
from support import one_after_the_other


@pytest.mark.filterwarnings("ignore:The TBB threading layer:numba.core.errors.NumbaWarning")
def test_prange(copies, ref):
    @njit(parallel=True)
    def count_equal(refs, ref):
        equal = 0
        for i in prange(len(refs)):
            local = refs[np.int64(i)]
            raw = ern.clone(local)
            equal += 1 if local == ref else 0
            ern.drop(raw)
        return equal

    assert count_equal(copies(ref, 100_000), ref) == 100_000


def test_threads_without_the_gil(copies, ref):
    @njit(nogil=True)
    def churn(refs, raw, count):
        for _ in range(count):
            kept = [refs[0]]        # counted by the meminfo that the threads share
            kept.append(refs[1])
            ern.drop(ern.clone(raw))
        return len(kept)

    refs = copies(ref, 2)
    churn(refs, ref.as_raw(), 1)
    threads = [threading.Thread(target=churn, args=(refs, ref.as_raw(), 100_000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ref.strong_count == 2


@njit(nogil=True)
def drop_all(refs):
    while len(refs):
        refs.pop()


def test_last_drop_without_the_gil(copies, make_payload):
    dropped = []
    refs = copies(VMExternRef(make_payload(dropped, "payload")), 10)
    thread = threading.Thread(target=drop_all, args=(refs,))
    thread.start()
    thread.join()
    externref.drain()
    assert dropped == ["payload"]


def test_stats_counts_a_block_whose_last_owners_were_dropped_without_the_gil(copies, ref):
    drop_all(copies(ref, 1))        # compiled, when what is counted is dropped
    externref.drain()
    before = externref.stats()
    refs = copies(VMExternRef("alone"), 10)
    refs.append(ref)
    # From C, so that no pending call drains between.
    _, stats = one_after_the_other(partial(drop_all, refs), externref.stats)
    assert stats.pending_drops == 1 and stats.live_blocks == before.live_blocks + 1
    externref.drain()
    assert externref.stats() == before
