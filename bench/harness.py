"""The kinds of answers to a question, and how each is measured.

The answers of one question are measured in turns, in random order in each round, so that
noise and changes of the processor's clock meet all alike. The first answer is ours. A
ratio is ours divided by another's *in the same round*; shown are the medians of the
rounds, and the quartiles.

The garbage collector stays on, as it is in a program.
"""

import builtins
import json
import random
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import ClassVar

OPERATIONS = 1000   # in one call of a repeated statement
COPIES = 100        # of it written out, so that the loop around them costs next to nothing
LEAST_ROUNDS = 3    # of a question, however long one takes


@dataclass(frozen=True)
class Statement:
    """A line of Python.

    A function called once per operation would cost more than the operation. So the line is
    repeated in the body of one function, where every name it uses is a local variable: no
    rival pays for a look-up that another is spared. Nothing is subtracted for the loop.
    """

    name: str
    setup: str      # run once, before; raises ImportError if the rival is not installed
    code: str       # what is timed
    unit: ClassVar = "ns"
    warmup: ClassVar = 20   # rounds; the interpreter specializes every copy of a statement

    def repeated(self) -> Callable[[], None]:
        """A function that runs the code OPERATIONS times."""
        return function(self.setup, self.code, "", [
            f"for _ in range({OPERATIONS // COPIES}):", *[f"  {self.code}"] * COPIES])

    def sampler(self) -> Callable[[], float]:
        """A function that measures one round."""
        return timed(self.repeated(), OPERATIONS)


@dataclass(frozen=True)
class Loop:
    """A loop in machine code."""

    name: str
    build: Callable[[], Callable[[int], object]]    # of a function that takes how often; raises ImportError
    operations: int = 20_000
    unit: ClassVar = "ns"
    warmup: ClassVar = 5

    def sampler(self) -> Callable[[], float]:
        run = self.build()
        return timed(lambda: run(self.operations), self.operations)


@dataclass(frozen=True)
class Program:
    """A function that returns a number, called in a fresh interpreter in each round."""

    name: str
    unit: str
    function: Callable[..., float]  # of a file here
    arguments: tuple[str | int, ...]
    warmup: ClassVar = 1

    def sampler(self) -> Callable[[], float]:
        name, module = self.function.__name__, Path(sys.modules[self.function.__module__].__file__)
        code = (f"import json, sys\nfrom {module.stem} import {name}\n"
                f"try: print({name}(*json.loads(sys.argv[1])))\nexcept ImportError as missing: sys.exit(str(missing))")
        command = [sys.executable, "-c", code, json.dumps(self.arguments)]

        def sample():
            result = subprocess.run(command, cwd=module.parent, capture_output=True, text=True)
            if result.returncode:
                raise ImportError((result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1])
            return float(result.stdout)

        return sample


def function(setup, code, parameters, lines):
    """A function of these lines, in which the names that the code uses are local variables."""
    scope = {**vars(builtins)}
    exec(setup, scope)
    names = [name for name in compile(code, "statement", "exec").co_names if name in scope]
    head = f"def run({', '.join(filter(None, [parameters, *(f'{name}={name}' for name in names)]))}):"
    exec("\n".join([head, *(f"  {line}" for line in lines)]), scope)
    return scope["run"]


def timed(run, operations):
    """A function that measures the nanoseconds of one of the operations that run() does."""
    def sample():
        start = perf_counter_ns()
        run()
        return (perf_counter_ns() - start) / operations

    return sample


def spread(values):
    low, median, high = statistics.quantiles(values, n=4)
    return {"low": low, "median": median, "high": high}


def measure(answers, rounds, seconds, progress=lambda share: None):
    """Measures answers until there are `rounds` rounds, or until `seconds` have passed.

    Gives the number of rounds and, of each answer, a dict of name and unit and either
    `skipped`, the reason, or `value` and, if ours could be measured, `ratio`.
    """
    results, samplers = [], {}
    for answer in answers:
        result = {"name": answer.name, "unit": answer.unit}
        results.append(result)
        try:
            sample = answer.sampler()
            for _ in range(answer.warmup):
                sample()
            samplers[answer.name] = sample
        except ImportError as missing:
            result["skipped"] = " ".join(str(missing).split())
    values = {name: [] for name in samplers}
    start = perf_counter()
    done = 0
    while samplers and done < rounds and (done < LEAST_ROUNDS or perf_counter() - start < seconds):
        for name in random.sample(list(samplers), len(samplers)):
            values[name].append(samplers[name]())
        done += 1
        progress(max(done / rounds, min(1, (perf_counter() - start) / seconds)))
    ours = values.get(answers[0].name)
    for result in results:
        theirs = values.get(result["name"])
        if theirs:
            result["value"] = spread(theirs)
        if theirs and ours:
            result["ratio"] = spread([mine / other for mine, other in zip(ours, theirs, strict=True)])
    return done, results
