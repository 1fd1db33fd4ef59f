"""What does a reference cost in machine code? Beside Rust: `python bench/bench_native.py`.

The rivals (native.rs) are Rust's Arc, and VMExternRef as wasmtime wrote it in Rust. All are
loops in compiled code, called in random order in each round. A ratio is ours divided by
Rust's in the same round; shown are medians of the rounds, and quartiles. Needs a C compiler,
and rustc for the rivals.
"""

import ctypes
import os
import random
import shutil
import statistics
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns

import externref

HERE = Path(__file__).parent
ROUNDS = 201
OPERATIONS = 20_000     # in each call of a loop


def find(*programs):
    """The first of the programs that there is."""
    return next(filter(None, map(shutil.which, programs)), None)


def build_ours(folder):
    compiler = find(os.environ.get("CC", "cc"), "gcc", "clang")
    if compiler is None:
        sys.exit("skipped: no C compiler found; install gcc or clang")
    library = folder / "ours.so"
    subprocess.run([compiler, "-O3", "-shared", "-fPIC", "-I", externref.get_include(),
                    "-isystem", sysconfig.get_path("include"), HERE / "native.c", "-o", library], check=True)
    ours = ctypes.PyDLL(str(library))       # the loops hold the GIL
    ours.prepare.restype = ctypes.py_object
    ours.prepare()
    return ours


def build_rust(folder):
    """Rust's loops; None, saying so, where there is no rustc."""
    rustc = find("rustc", str(Path.home() / ".cargo/bin/rustc"))
    if rustc is None:
        print("rivals skipped: no rustc found")
        return None
    library = folder / "rust.so"
    subprocess.run([rustc, "--edition=2021", "-Copt-level=3", "-Cpanic=abort", "--crate-type=cdylib",
                    HERE / "native.rs", "-o", library], check=True)
    return ctypes.PyDLL(str(library))


def measure(loops):
    """Times each loop in every round; {name: [ns of one operation]}."""
    times = {name: [] for name in loops}
    for _ in range(ROUNDS):
        for name in random.sample(list(loops), len(loops)):
            loop, *arguments = loops[name]
            start = perf_counter_ns()
            loop(*arguments, ctypes.c_size_t(OPERATIONS))
            times[name].append((perf_counter_ns() - start) / OPERATIONS)
    return times


def summary(values, digits):
    low, median, high = (f"{value:.{digits}f}" for value in statistics.quantiles(values, n=4))
    return f"{median:>8} {f'({low}-{high})':16}"


def report(title, loops, rival):
    """Prints the loops' times, and their ratios to the rival's, which is the name of one."""
    print(f"\n{title:28}{'ns':>8}" + (f" {'':16}this / {rival}" if rival in loops else ""))
    times = measure(loops)
    for name, values in times.items():
        ratios = [mine / other for mine, other in zip(values, times[rival], strict=True)] if rival in loops else []
        print(f"  {name:26}{summary(values, 1)}{summary(ratios, 2) if ratios else ''}".rstrip())


def main():
    with TemporaryDirectory() as name:
        ours, rust = build_ours(Path(name)), build_rust(Path(name))
        print(f"externref {externref.__version__}, {ROUNDS} rounds of {OPERATIONS} operations")
        raw = ctypes.c_void_p(externref.VMExternRef(None).into_raw())

        clone_drop = {"externref.h": (ours.clone_drop, raw)}
        new_drop = {"release": (ours.new_release,), "drop, drained later": (ours.new_drop,)}
        if rust is not None:
            clone_drop["Rust Arc"] = (rust.clone_drop,)
            new_drop["Rust VMExternRef"] = (rust.new_drop,)
        report("clone+drop", clone_drop, "Rust Arc")
        report("native payload, new+drop", new_drop, "Rust VMExternRef")

        externref.VMExternRef.from_raw(raw.value).drop()
        externref.drain()
        assert ours.drops() == 2 * ROUNDS * OPERATIONS
        assert externref.stats() == (0, 0, 0, 0)


if __name__ == "__main__":
    main()
