"""Makes a pytest-benchmark group of each question in the files here.

Tables are in nanoseconds for one operation. In saved data the times are for OPERATIONS
of them, and extra_info has `ns`, the median for one, and `ratio`, VMExternRef's `ns`
divided by this one. `python -m externref bench` has the better ratios: it measures rivals
in turns. Questions of which a measurement is no repeated statement are measured by it here.
"""

import sys
from pathlib import Path

import pytest

import externref

sys.path.insert(0, str(Path(__file__).parent))  # the files import each other in any import mode

from harness import OPERATIONS
from harness import measure as measure_in_turns

ROUNDS = 300
WARMUP_ROUNDS = 20      # the interpreter specializes every copy of a statement

ours = {}   # group: ns of VMExternRef


def pytest_configure(config):
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError('these need pytest-benchmark: python -m pip install -e ".[bench]"')


def pytest_report_header():
    return f"externref {externref.__version__}"


def pytest_generate_tests(metafunc):
    if "measure" in metafunc.fixturenames:
        cases = {f"{group}: {statement.name}": (group, statement)
                 for group, statements in metafunc.module.QUESTIONS.items() for statement in statements}
        metafunc.parametrize("measure", cases.values(), ids=cases, indirect=True)


@pytest.fixture
def measure(request, benchmark):
    group, statement = request.param

    def run():
        try:
            function = statement.repeated()
        except ImportError as missing:
            pytest.skip(str(missing))
        benchmark.group = group
        benchmark.pedantic(function, rounds=ROUNDS, warmup_rounds=WARMUP_ROUNDS)
        if benchmark.disabled:
            return
        ns = benchmark.stats.stats.median / OPERATIONS * 1e9
        if statement.name == "VMExternRef":
            ours[group] = ns
        benchmark.extra_info["ns"] = ns
        if group in ours:   # not if it was deselected
            benchmark.extra_info["ratio"] = ours[group] / ns

    return run


@pytest.fixture
def show(request, capsys):
    """Measures the file's questions in a second or so each, and prints the tables."""
    report = pytest.importorskip("report", reason="rich is not installed", exc_type=ImportError)
    from rich.console import Console

    def run():
        for name, answers in request.module.QUESTIONS.items():
            if name not in getattr(request.module, "LONG", ()):
                group = {"name": name, "answers": measure_in_turns(answers, ROUNDS, seconds=1)[1]}
                with capsys.disabled():
                    Console().print(report.table(report.head(group), report.rows(group)))

    return run


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_scale_unit(unit):
    if unit == "seconds":
        return "n", 1e9 / OPERATIONS
    return "M", 1e-6 * OPERATIONS
