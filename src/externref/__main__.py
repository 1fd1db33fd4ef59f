"""The command line: `externref demo`, `run FILE EXPORT [ARG ...]`, `bench`, `info`; as `python -m externref`, too."""

import argparse
import io
import os
import sys

import externref
from externref import wasm2c
from externref._cli import bench, demo, info, run

# name: its module, and a line of help
COMMANDS = {
    "demo": (demo, "send a file object through WebAssembly and back, step by step"),
    "run": (run, "call an exported function of a WebAssembly file"),
    "bench": (bench, "measure references beside their rivals, in a checkout"),
    "info": (info, "show what is installed, and how to get the rest"),
}
ERRORS = (wasm2c.CompileError, wasm2c.LinkError, wasm2c.Trap, run.RunError, bench.BenchError, OverflowError, OSError)


def make_parser() -> argparse.ArgumentParser:
    is_script = os.path.basename(sys.argv[0]).partition(".")[0] == "externref"
    parser = argparse.ArgumentParser(prog="externref" if is_script else "python -m externref",
                                     description="Python objects in compiled code.")
    parser.add_argument("--version", action="version", version=f"externref {externref.__version__}")
    commands = parser.add_subparsers(metavar="command")
    for name, (command, summary) in COMMANDS.items():
        command_parser = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        command_parser.set_defaults(run=command.run)
        command.add_arguments(command_parser)
    return parser


def told(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)       # of a tool: its own lines


def main() -> int:
    """Runs the command that sys.argv names, or shows the help; the exit status, 2 for an error."""
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")   # objects and names have any characters
    parser = make_parser()
    options = parser.parse_args()
    try:
        if "run" in options:
            options.run(options)
        else:
            parser.print_help()
        print(end="", flush=True)
    except BrokenPipeError:
        # Whoever read the output has enough of it, like `head`. The flush at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ERRORS as error:
        print(f"{parser.prog}: error: {told(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
