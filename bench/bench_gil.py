"""Do two threads that let the GIL go take as long as two processes?

Both compute the sha256 kernel at the same time, with a store each. Threads that keep the GIL take turns.
"""

import concurrent.futures
import threading
import time

from harness import Program

BLOCKS = 500_000    # for each of the two: a tenth of a second
worker = threading.local()


def prepare(release_gil):
    """Gives a worker, a thread or a process, a store of its own."""
    from bench_kernels import TEXT
    from externref import wasm2c
    worker.exports = wasm2c.compile(TEXT).instantiate(wasm2c.Store(), release_gil=release_gil).exports


def compute(blocks):
    return worker.exports["sha256"](blocks)


def milliseconds(executor, release_gil):
    with getattr(concurrent.futures, executor)(2, initializer=prepare, initargs=(release_gil,)) as pool:
        list(pool.map(compute, [BLOCKS] * 2))   # both workers exist, and have compiled
        start = time.perf_counter()
        list(pool.map(compute, [BLOCKS] * 2))
        return (time.perf_counter() - start) * 1e3


QUESTIONS = {
    "two at a time": [
        Program("wasm2c, threads without the GIL", "ms", milliseconds, ("ThreadPoolExecutor", True)),
        Program("two processes", "ms", milliseconds, ("ProcessPoolExecutor", False)),
        Program("wasm2c, threads with the GIL", "ms", milliseconds, ("ThreadPoolExecutor", False)),
    ],
}


def test_gil(show):
    show()
