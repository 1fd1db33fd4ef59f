"""Stores of both runtimes on two threads at once, which share payloads; each is dropped once. Promises P1, P2, P5.

The programs are those of test_oracle.py, and what their hosts keep is kept for all of them: a payload of one store is soon
in another's tables, and on the other thread. The stores wait in a queue. A thread takes one, does the next operation of its
program and puts it back, so each store is on one thread at a time, but not always on the same. A third thread, that Python
has never heard of, drops raw references to what is kept. The order is left to chance, so what is seen is not compared.
"""

import gc
import itertools
import json
import os
import queue
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import externref
from externref import VMExternRef
from on_both.oracle import SLOTS, Common, CountDrops, Figures, Run, Wrong
from on_both.random_modules import programs
from on_both.runtimes import OnWasm2c, OnWasmtime

CORPUS = [Path(__file__).parent / f"corpus/{name}.json" for name in ("bursts", "functions", "segments", "two-instances")]
SECONDS = float(os.environ.get("EXTERNREF_ORACLE_SECONDS", 0))
THREADS = 2
END = object()

pytestmark = pytest.mark.usefixtures("both", "quick_switches")


class Sharing(Run):
    """A run beside others. What they hold, and how many references there are, nobody can tell while they go on."""

    def __init__(self, runtime, program, common, drop_on_thread):
        super().__init__(runtime, program | {"release_gil": True}, Figures(), common)
        self.drop_on_thread = drop_on_thread
        self.threads = set()    # that it was on
        self.had = set()        # payloads that were in its tables and globals

    def mine(self):
        return itertools.chain(self.permanent, *self.frames)

    def compare_drops(self, reachable):
        pass

    def call(self, function, registers, *more):
        """With what all have, of which one is from here. The third thread has an owner of each, which may be the last."""
        k = self.figures.calls % SLOTS
        self.slots[k] = registers[k]
        for r, kept in enumerate(self.slots):
            registers[r] = VMExternRef(kept) if isinstance(kept, CountDrops) else kept
            if kept is not None:
                assert self.drop_on_thread(registers[r].clone().into_raw()) == 0
        super().call(function, registers, *more)

    def steps(self):
        for _ in super().steps():
            held, _ = self.seen.pop()
            self.seen.clear()
            self.had.update(*held)
            self.threads.add(threading.get_ident())
            yield
        self.close_store()
        for owner in self.frames, self.permanent, self.anchors:
            owner.clear()


def play(descriptions, drop_on_thread):
    """All of them, on both runtimes: the runs, when they are over and everything was dropped."""
    before = externref.stats()
    common, errors = Common(), []
    runs = [Sharing(runtime, program, common, drop_on_thread) for program in descriptions for runtime in (OnWasm2c, OnWasmtime)]
    waiting = queue.SimpleQueue()
    for run in runs:
        waiting.put(run.steps())

    def work():
        try:
            start.wait(30)
            while not errors:
                steps = waiting.get_nowait()
                if next(steps, END) is not END:
                    waiting.put(steps)
        except queue.Empty:
            pass        # the other thread has the last one
        except BaseException as error:
            errors.append(error)

    start = threading.Barrier(THREADS)
    threads = [threading.Thread(target=work, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    if errors:
        raise errors[0]
    common.slots.clear()
    gc.collect()        # what an exception held
    externref.drain()
    common.compare_drops()
    if externref.stats() != before:
        raise Wrong(f"{externref.stats()}, and before {before}")
    return runs


def test_kept_modules(foreign):
    runs = play([json.loads(file.read_text()) for file in CORPUS] * 8, foreign.drop_on_thread)
    assert any(len(run.threads) == THREADS for run in runs)
    stores = Counter(itertools.chain.from_iterable(run.had - {None} for run in runs))
    assert sum(count > 1 for count in stores.values()) > 4
    assert sum(run.figures.collections for run in runs) > 100


@pytest.mark.skipif(not SECONDS, reason="EXTERNREF_ORACLE_SECONDS says for how long")
def test_random_modules_for_long(foreign):
    start, figures = time.monotonic(), Counter()

    def examine(number):
        @seed(number)
        @settings(max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(programs, min_size=2, max_size=3))
        def run(descriptions):
            if time.monotonic() < start + SECONDS:
                for each in play(descriptions, foreign.drop_on_thread):
                    figures.update(stores=1, payloads=each.figures.made, collections=each.figures.collections,
                                   calls=each.figures.calls, host_calls=each.figures.host_calls)

        run()

    while time.monotonic() < start + SECONDS:
        examine(random.getrandbits(64))
    print(f"\n{time.monotonic() - start:.0f} s: {dict(figures)}")


def test_a_count_that_nobody_drops(foreign):
    """What the third thread was to drop."""
    counts = []
    with pytest.raises(Wrong, match="payloads were not dropped once, but so often: {.*: 0}"):
        play([json.loads(CORPUS[0].read_text())], lambda raw: counts.append(raw) or 0)
    for raw in counts:
        assert foreign.drop_on_thread(raw) == 0
