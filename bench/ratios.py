"""Prints what externref costs beside its rivals: `python bench/ratios.py`.

Each round times all statements of a group in random order, so that noise and changes of
the processor's clock meet all alike. A ratio is VMExternRef's time divided by the other's
in the same round. Shown are medians of the rounds, and quartiles; nothing is subtracted
for the loop, which costs what `local variable` shows.
"""

import importlib
import platform
import random
import statistics
from time import perf_counter_ns

import externref
from harness import OPERATIONS

FILES = ["bench_make_drop", "bench_clone_drop", "bench_deref", "bench_out_and_back", "bench_identity",
         "bench_function", "bench_numba"]
ROUNDS = 2000
WARMUP_ROUNDS = 20      # the interpreter specializes every copy of a statement


def measure(statements):
    """Times each statement in every round; {name: [ns of one operation]}."""
    functions = {}
    for statement in statements:
        try:
            functions[statement.name] = statement.repeated()
        except ImportError as missing:
            print(f"  {statement.name:28}skipped: {missing}")
    times = {name: [] for name in functions}
    for _ in range(WARMUP_ROUNDS + ROUNDS):
        for name in random.sample(list(functions), len(functions)):
            start = perf_counter_ns()
            functions[name]()
            times[name].append((perf_counter_ns() - start) / OPERATIONS)
    return {name: values[WARMUP_ROUNDS:] for name, values in times.items()}


def summary(values, digits):
    low, median, high = (f"{value:.{digits}f}" for value in statistics.quantiles(values, n=4))
    return f"{median:>8} {f'({low}-{high})':16}"


def main():
    print(f"externref {externref.__version__}, {platform.python_implementation()} {platform.python_version()}, "
          f"{platform.machine()}, {ROUNDS} rounds of {OPERATIONS} operations")
    for file in FILES:
        for group, statements in importlib.import_module(file).QUESTIONS.items():
            print(f"\n{group:28}{'ns':>8} {'':16}VMExternRef / this")
            times = measure(statements)
            ours = times["VMExternRef"]
            for name, theirs in times.items():
                ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
                print(f"  {name:26}{summary(theirs, 1)}{summary(ratios, 2)}".rstrip())


if __name__ == "__main__":
    main()
