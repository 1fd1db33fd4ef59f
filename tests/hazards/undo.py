"""Shows that the tests of the tables of hazards would tell: each break is made in a copy of the tree, and one must fail.

undo.py [NAME...]: the rows, all of them by default. It needs the extra `test`, but not the package, which it builds.
A table of verdicts is printed; the exit status is 1 if a row survives, or its tests fail on the code as it is.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rows import TABLES, rows_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "src/externref"
SECONDS = 600       # for a break's tests: that they hang is no proof
SECONDS_OF_ALL = 3600   # for those of all rows, on the code as it is
FAILED = 1          # pytest's status for tests that ran and failed; others say that they did not run


def rows(names):
    rows = rows_of(*TABLES)
    if unknown := set(names) - {row["name"] for row in rows}:
        sys.exit(f"no such row: {', '.join(sorted(unknown))}")
    return [row for row in rows if not names or row["name"] in names]


def modules_of(tree, file):
    """The .pyx files to compile again for a change of the file: those whose part it is, or all that there are."""
    path, package = tree / file, tree / PACKAGE
    if path.suffix not in {".h", ".pxd", ".pxi", ".pyx"}:
        return set()
    if path.suffix == ".pyx":
        return {path}
    for folder in [path, *path.parents]:
        if folder == package:
            break
        if (module := folder.with_suffix(".pyx")).exists():
            return {module}
        if folder.is_dir() and (modules := set(folder.glob("*.pyx"))):
            return modules
    return set(package.rglob("*.pyx"))


def build(tree, python):
    """Compiles what is there in place; gives what was said if that fails."""
    result = subprocess.run([python, "-W", "ignore", "setup.py", "-q", "build_ext", "--inplace"], cwd=tree, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"CFLAGS": "-O1 -g0"})
    return result.stdout if result.returncode else None


def copied(tree, to):
    """A copy of a built tree, in which nothing but what is changed then is out of date."""
    shutil.copytree(tree, to, symlinks=True, ignore=shutil.ignore_patterns(
        ".git", "__pycache__", ".hypothesis", ".pytest_cache"))
    return to


def change(tree, breaking):
    """Makes the changes of a break, and leaves no other module to be compiled than those they concern."""
    concerned = {tree / f"{PACKAGE}/{name}.pyx" for name in breaking.get("modules", [])}
    for file, old, new in breaking["changes"]:
        text = (tree / file).read_text()
        if text.count(old) != 1:
            sys.exit(f"{file} has {text.count(old)} times what is to be changed: {old!r}")
        if not breaking.get("modules"):
            concerned |= modules_of(tree, file)
        (tree / file).write_text(text.replace(old, new))
    for module in (tree / PACKAGE).rglob("*.pyx"):
        if module not in concerned:
            module.unlink()
    return concerned


def test(tree, python, tests, seconds=SECONDS, **env):
    """Runs them up to the first that fails; the status, and what was said. No status if they hang."""
    # In a session of its own: what hangs may be a process that a test started.
    with subprocess.Popen(
            [python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests], cwd=tree, text=True,
            errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(tree / "src"), **env}) as process:
        try:
            said, _ = process.communicate(timeout=seconds)
            return process.returncode, said
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, process.communicate()[0]
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def verdict(status, said):
    """What a run shows of a break; whether that is a proof."""
    if status == FAILED:
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", said, re.MULTILINE)
        return f"caught by {failed[1]}" if failed else "caught, and the process ended", True
    if status is not None and status < 0:
        return f"caught: died of signal {-status}", True
    return {None: "HANGS", 0: "SURVIVES"}.get(status, f"NO PROOF, status {status}"), False


def show(name, file, text, seconds):
    print(f"{name:44} {file:44} {text}, {seconds:.0f} s", flush=True)


def without_gil():
    """A Python without a GIL, with what the core's tests need; None if there is none."""
    found = subprocess.run([ROOT / ".ci/freethreaded-python", "found"], capture_output=True, text=True)
    if found.returncode != 0:
        return None
    python = work / "without_gil/bin/python"
    subprocess.run([found.stdout.strip(), "-m", "venv", work / "without_gil"], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "--only-binary", ":all:", "setuptools>=77", "Cython>=3.3.1",
                    "hypothesis", "pytest"], check=True)
    return python


class Base:
    """The tree as it is, built once for a Python."""

    def __init__(self, name, python, modules=None, **env):
        self.python, self.env = python, env
        self.tree = copied(ROOT, work / name)
        for module in (self.tree / PACKAGE).rglob("*.pyx"):
            if modules is not None and module.stem not in modules:
                module.unlink()
        if said := build(self.tree, python):
            sys.exit(said)

    def require(self, name, tests):
        """Ends all if they do not pass."""
        start = time.monotonic()
        status, said = test(self.tree, self.python, dict.fromkeys(tests), SECONDS_OF_ALL, **self.env)
        show("(nothing is broken)", name, "all pass" if status == 0 else "THEY FAIL", time.monotonic() - start)
        if status != 0:
            sys.exit(said[-3000:])

    def prove(self, row, breaking):
        """Makes a break, and shows what the tests say; whether one failed."""
        start = time.monotonic()
        tree = copied(self.tree, work / "broken")
        said = build(tree, self.python) if change(tree, breaking) else None
        text, proved = "NO PROOF, it cannot be built", False
        if said is None:
            for _ in range(breaking.get("tries", 1)):
                status, said = test(tree, self.python, breaking.get("tests", row["tests"]), **self.env)
                text, proved = verdict(status, said)
                if proved:
                    break
        shutil.rmtree(tree)
        show(row["name"], breaking["changes"][0][0].removeprefix(PACKAGE + "/"), text, time.monotonic() - start)
        if not proved:
            print(said[-3000:])
        return proved


def main(names):
    """Whether all breaks were told."""
    chosen = rows(names)
    breaks = [(row, breaking) for row in chosen for breaking in row.get("break", [])]
    bases = {}
    base = bases[False] = Base("base", sys.executable)
    base.require("", [test for row in chosen for test in row["tests"]])
    if free := [row for row, breaking in breaks if breaking.get("without_gil")]:
        if python := without_gil():
            bases[True] = Base("free", python, {"_core", "_activations", "_function", "ctypes"}, PYTHON_GIL="0")
            bases[True].require("without a GIL", [test for row in free for test in row["tests"]])
    good = True
    for row, breaking in breaks:
        if base := bases.get(breaking.get("without_gil", False)):
            good &= base.prove(row, breaking)
        else:
            print(f"{row['name']:44} left out: no Python without a GIL is found")
    for row in chosen:
        if "why_no_break" in row:
            print(f"{row['name']:44} not broken: {row['why_no_break']}")
        if "as_in" in row:
            print(f"{row['name']:44} the break is of another row: {row['as_in']}")
    return good


signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))     # as an interrupt, nothing is left
work = Path(tempfile.mkdtemp())
try:
    sys.exit(not main(sys.argv[1:]))
finally:
    shutil.rmtree(work)
