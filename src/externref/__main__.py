"""The command line: `python -m externref demo`, `run FILE EXPORT [ARG ...]`, `bench` and `info`."""

import argparse
import io
import os
import sys
from typing import NoReturn

from externref import wasm2c
from externref._cli import bench, demo, info, run


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, without the usage."""

    def error(self, message: object) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {' '.join(str(message).split())}\n")


def main() -> int:
    """Runs the command that sys.argv names; its exit status. An error exits with status 2."""
    parser = Parser(prog="python -m externref", description="Python objects in compiled code.")
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, command, summary in (
        ("demo", demo, "send a file object through WebAssembly and back, step by step"),
        ("run", run, "call an exported function of a WebAssembly file"),
        ("bench", bench, "measure references beside their rivals, in a checkout"),
        ("info", info, "show versions, the ABI, the C compiler and the runtimes found"),
    ):
        command_parser = commands.add_parser(name, help=summary, description=summary)
        command_parser.set_defaults(run=command.run)
        command.add_arguments(command_parser)
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")   # objects and names have any characters
    options = parser.parse_args()
    try:
        options.run(options)
        print(end="", flush=True)
    except BrokenPipeError:
        # Whoever read the output has enough of it, like `head`. The flush at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (wasm2c.CompileError, wasm2c.LinkError, wasm2c.Trap, run.RunError, bench.BenchError,
            OverflowError, OSError) as error:
        parser.error(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
