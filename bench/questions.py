"""All questions, in the order in which they are shown, and the targets."""

import importlib
from dataclasses import dataclass

FILES = [
    "bench_make_drop", "bench_clone_drop", "bench_deref", "bench_out_and_back", "bench_identity", "bench_function",
    "bench_memory", "bench_scale", "bench_collect", "bench_release", "bench_activations", "bench_native",
    "bench_wasm2c", "bench_kernels", "bench_gil", "bench_wasmtime", "bench_numba",
]


@dataclass(frozen=True)
class Target:
    """What the first answer of a group may cost, as a ratio to a rival or, without one, in its unit."""

    group: str
    rival: str | None
    at_most: float
    aim: float


TARGETS = [
    Target("make+drop", "object()", 0.75, 0.60),
    Target("make+drop", "cffi new_handle, compiled", 0.58, 0.40),
    Target("clone+drop", "object()", 0.90, 0.60),
    Target("deref", "weakref.ref", 0.95, 0.8),
    Target("out-and-back", "cffi handle, compiled", 0.33, 0.20),
    Target("identity: equal", "object()", 1.05, 0.9),
    Target("identity: different", "object()", 1.05, 0.9),
    Target("identity: hash", "object()", 1.05, 0.9),
    Target("memory", None, 92, 88),
    Target("make: 10,000 live", "object()", 2.0, 1.5),
    Target("make: 1,000,000 live", "object()", 1.6, 1.3),
    Target("drop: 10,000 live", "object()", 4.0, 2.5),
    Target("drop: 1,000,000 live", "object()", 2.5, 1.8),
    Target("native: new+drop", "Rust VMExternRef", 1.5, 1.0),
    Target("dropped by C, drained: one thread", "object(), no thread", 2.0, 1.5),
    Target("gc.collect()", "plain instances", 1.0, 0.5),
    Target("wasm: an object in and out", "cffi API mode, a handle each time", 0.55, 0.4),
    Target("kernel: sha256", "native C", 1.15, 1.0),
    Target("kernel: sha256", "wasm2c, not interruptible", 1.03, 1.0),
    Target("kernel: nbody", "native C", 1.15, 1.0),
    Target("kernel: nbody", "wasm2c, not interruptible", 1.03, 1.0),
    Target("two at a time", "two processes", 1.1, 1.0),
    Target("ten WASI writes", "wasmtime-py", 0.1, 0.07),
]


def load(quick=False):
    """Of each group: its name, the file and the question that this answers, and its answers."""
    groups = []
    for file in FILES:
        module = importlib.import_module(file)
        question = module.__doc__.partition("\n")[0]
        for name, answers in module.QUESTIONS.items():
            if not (quick and name in getattr(module, "LONG", ())):
                groups.append({"name": name, "file": f"{file}.py", "question": question, "answers": answers})
    return groups


def chosen(groups, names):
    """The groups of these names; a name stands for all that begin with it and a colon. KeyError."""
    for name in names:
        if not any(is_named(group, name) for group in groups):
            raise KeyError(f"no question {name!r}; there are: {', '.join(group['name'] for group in groups)}")
    return [group for group in groups if any(is_named(group, name) for name in names)]


def is_named(group, name):
    return group["name"] == name or group["name"].startswith(f"{name}:")


def against_targets(groups):
    """Of each target whose figures were measured, what it says and what was measured."""
    found = []
    for target in TARGETS:
        answers = next((group["answers"] for group in groups if group["name"] == target.group), [])
        for index, answer in enumerate(answers):
            if answer["name"] == target.rival or (target.rival is None and index == 0):
                figure = answer.get("value" if target.rival is None else "ratio")
                if figure is not None:
                    found.append({**vars(target), "unit": answer["unit"] if target.rival is None else "ratio",
                                  "measured": figure["median"]})
    return found
