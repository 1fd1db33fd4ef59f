"""The `run` command: calls an exported function of a WebAssembly file with Python objects."""

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from externref import wasm2c


class RunError(Exception):
    """The command line does not fit the module; the text says where."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a .wasm or .wat file")
    parser.add_argument("export", metavar="EXPORT", help="the function to call")
    parser.add_argument("arguments", metavar="ARG", nargs=argparse.REMAINDER, help=(
        "a number, by the parameter's type; for a reference null, str:TEXT for a string, or @PATH for an opened file")
    ).required = False


def argument(text: str, value_type: str, where: str, files: ExitStack) -> Any:
    """The Python value that an argument of the command line stands for."""
    try:
        if value_type in ("i32", "i64"):
            return int(text, 0)
        if value_type in ("f32", "f64"):
            return float(text)
    except ValueError:
        raise RunError(f"{where}: {text!r} is no {value_type}") from None
    if text == "null":
        return None
    if value_type == "externref" and text.startswith("str:"):
        return text.removeprefix("str:")
    if value_type == "externref" and text.startswith("@"):
        return files.enter_context(open(text.removeprefix("@"), "rb"))
    known = "null, str:TEXT or @PATH" if value_type == "externref" else "null"
    raise RunError(f"{where}: {text!r} is no {value_type}: use {known}")


def show(value: Any) -> str:
    return "null" if value is None else repr(value)


def run(options: argparse.Namespace) -> None:
    """Calls the function and prints its results, a line each.

    Raises RunError, CompileError, LinkError, Trap, OSError, OverflowError.
    """
    module = wasm2c.compile(Path(options.file))
    functions = {item.name: item.type for item in module.exports if isinstance(item.type, wasm2c.FuncType)}
    if options.export not in functions:
        names = ", ".join(sorted(functions)) or "none"
        raise RunError(f"{options.file} exports no function {options.export!r}; its functions: {names}")
    params, result_types = functions[options.export]
    given = len(options.arguments)
    if len(params) != given:
        raise RunError(f"{options.export} takes {len(params)} arguments ({', '.join(params)}), not {given}")
    with ExitStack() as files, wasm2c.Store() as store:
        values = [argument(text, params[i], f"argument {i + 1}", files) for i, text in enumerate(options.arguments)]
        result = module.instantiate(store).exports[options.export](*values)
        for value in {0: (), 1: (result,)}.get(len(result_types), result):
            print(show(value))
