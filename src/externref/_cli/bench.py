"""The `bench` command. The questions are a checkout's, in its bench/ folder; they are not installed."""

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path


class BenchError(Exception):
    """What keeps the benchmarks from being run; the text says how to mend it."""


def rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rounds: at least 3")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", metavar="N", type=rounds, help="measure every answer at most so often")
    parser.add_argument("--only", metavar="QUESTION", nargs="+", help="measure these questions: make+drop, native, ...")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and no ten million references")
    parser.add_argument("--instructions", action="store_true", help="count instructions too, with valgrind: slow")
    parser.add_argument("--json", metavar="FILE", default="bench.json", help="write the figures here: bench.json")
    parser.add_argument("--plot", metavar="FOLDER", help="draw the ratios: SVG files, in this folder")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables into a Markdown file")
    parser.add_argument("--from", metavar="FILE", dest="figures",
                        help="measure nothing: show the figures that --json wrote")
    parser.add_argument("--beside", metavar="FILE", help="show these figures, of another run, beside them")


def run(options: argparse.Namespace) -> None:
    """Measures, writes and shows. Raises BenchError, OSError."""
    folder = find_questions()       # first: what is missing beside it would not help
    for module, needed in (("rich", True), ("matplotlib", options.plot)):
        if needed and importlib.util.find_spec(module) is None:
            raise BenchError(f'{module} is not installed: python -m pip install ".[bench]"')
    sys.path.insert(0, str(folder))     # its files import each other
    importlib.import_module("command").run(options)


def find_questions() -> Path:
    """The bench/ folder of the checkout that the current directory or this package is in."""
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).parents[3]):
        if (folder / "bench" / "bench_make_drop.py").is_file():
            return folder / "bench"
    raise BenchError("no bench folder here: what is measured is in a checkout of externref, not in its wheel")
