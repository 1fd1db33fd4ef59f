"""A coverage-guided fuzzer over core.py or modules.py: python tests/fuzz core|modules, and libFuzzer's arguments."""

import importlib
import sys

import atheris

with atheris.instrument_imports(include=["externref"]):
    target = importlib.import_module(sys.argv[1])

mutate = {}
if hasattr(target, "mutate"):
    mutate["custom_mutator"] = lambda data, size, seed: target.mutate(data, size, seed, atheris.Mutate)
atheris.Setup(sys.argv[1:], target.run, **mutate)
atheris.Fuzz()
