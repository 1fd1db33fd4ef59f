"""What do threads take from each other when each has references of its own? For a Python without a GIL.

    python bench/threads_apart.py

Two threads make, clone and drop references of their own; two processes do the same, which share nothing. The ratio of
their times is what the package's counters, lists and locks cost, and object()'s what the interpreter's do. Rounds of
both alternate, and the median of the ratios counts; that of processor time says the same on a machine that others use.
"""

import statistics
import subprocess
import sys
import threading
import time

ROUNDS = 15
REPEATS = 100_000

WORKS = {
    "VMExternRef": "ref = VMExternRef(value); ref.clone()",
    "object()": "object(); object()",
}

PROGRAM = """
import sys, time
from externref import VMExternRef

def work(value, repeats):
    for _ in range(repeats):
        {work}

def child(repeats):
    work([], 1000)
    for line in sys.stdin:
        start, used = time.perf_counter(), time.thread_time()
        work([], repeats)
        print(time.perf_counter() - start, time.thread_time() - used, flush=True)
"""


def in_threads(work, repeats):
    """Seconds that the slower of two threads takes, and of processor time that both use."""
    barrier, times = threading.Barrier(2), []

    def run():
        value = []
        barrier.wait()
        start, used = time.perf_counter(), time.thread_time()
        work(value, repeats)
        times.append((time.perf_counter() - start, time.thread_time() - used))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return summary(times)


def summary(times):
    wall, used = zip(*times, strict=True)
    return max(wall), sum(used)


def in_processes(children):
    """The same of two processes."""
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    return summary([map(float, child.stdout.readline().split()) for child in children])


def measure(code):
    program = PROGRAM.format(work=code)
    names = {}
    exec(program, names)
    names["work"]([], 1000)
    children = [subprocess.Popen([sys.executable, "-c", f"{program}\nchild({REPEATS})"], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        return [(in_threads(names["work"], REPEATS), in_processes(children)) for _ in range(ROUNDS)]
    finally:
        for child in children:
            child.stdin.close()
            child.wait()


def main():
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        sys.exit("this Python has a GIL: there is nothing to measure")
    for name, code in WORKS.items():
        rounds = measure(code)
        ratios = [[threads[i] / processes[i] for threads, processes in rounds] for i in range(2)]
        used = statistics.median(threads[1] for threads, _ in rounds) / 2 / REPEATS * 1e9
        wall, processor = map(statistics.median, ratios)
        print(f"{name:12} {used:5.0f} ns of processor time; threads to processes: time {wall:.2f}, "
              f"processor time {processor:.2f}")


if __name__ == "__main__":
    main()
