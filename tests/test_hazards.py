"""The table of hazards keeps up with the code: its tests are there, and what its breaks change. .ci/hazards makes them."""

import ast
import functools
import os
import tomllib
from pathlib import Path

import pytest

from support import TESTS

ROOT = TESTS.parent
pytestmark = pytest.mark.skipif(not (ROOT / "src/externref/_core.pyx").is_file(), reason="needs a checkout")
TABLE = tomllib.loads((TESTS / "hazards/hazards.toml").read_text(encoding="utf-8"))["hazard"]
KEYS = {"name", "happened", "tests", "break", "why_no_break"}
KEYS_OF_BREAK = {"changes", "tests", "modules", "without_gil", "tries"}


def named_in(tree, prefix=""):
    """The names of the tests in a parsed file, as pytest has them after the file's."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield prefix + node.name
        elif isinstance(node, ast.ClassDef):
            yield from named_in(node, f"{prefix}{node.name}::")
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute) and node.value.attr == "TestCase":
            yield node.targets[0].id    # of a state machine


@functools.cache
def known_in(file):
    return set(named_in(ast.parse((ROOT / file).read_text(encoding="utf-8"))))


def test_names_are_unique():
    names = [row["name"] for row in TABLE]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["name"])
def test_a_row_is_whole(row):
    assert set(row) <= KEYS and row["happened"] and ("break" in row) != ("why_no_break" in row)
    assert row["tests"] or "why_no_break" in row
    for test in row["tests"]:
        file, _, name = test.partition("::")
        assert name in known_in(file), test
    for breaking in row.get("break", []):
        assert set(breaking) <= KEYS_OF_BREAK and set(breaking.get("tests", ())) <= set(row["tests"])
        for module in breaking.get("modules", ()):
            assert (ROOT / f"src/externref/{module}.pyx").is_file()
        for file, old, new in breaking["changes"]:
            assert (ROOT / file).read_text(encoding="utf-8").count(old) == 1 and old != new, (file, old)


def test_every_hazard_that_was_asked_for_has_a_row():
    """The list is in the file beside the folder of the WebAssembly test suite."""
    folder = os.environ.get("EXTERNREF_SPEC_TESTS")
    listed = Path(folder).parent / "HAZARDS.md" if folder else None
    if listed is None or not listed.is_file():
        pytest.skip("EXTERNREF_SPEC_TESTS names no folder beside a HAZARDS.md")
    tables = [line for line in listed.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert len(TABLE) == len([line for line in tables if not line.startswith(("|---", "| what happened"))])


def test_the_page_says_how_many():
    breaks = sum(len(row.get("break", ())) for row in TABLE)
    assert f"has {len(TABLE)} rows, and {breaks} ways" in (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
