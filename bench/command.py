"""`python -m externref bench`: measures, writes the figures, and shows them."""

import json
import os
import shutil
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import instructions
import machine
import plots
import questions
import report
from externref._cli.bench import BenchError
from harness import measure

ROUNDS, SECONDS = 2000, 10.0                # of each question: whichever comes first
QUICK_ROUNDS, QUICK_SECONDS = 100, 1.0


def run(options):
    """The whole command. Raises BenchError, OSError."""
    beside = read(options.beside) if options.beside else None
    if options.figures:
        data = read(options.figures)
    else:
        groups = chosen(options)
        for path in filter(None, (options.json, options.markdown)):
            open(path, "a").close()     # an error should not wait until all is measured
        data = measured(groups, options)
        Path(options.json).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    report.show(data, Console(), beside)
    pictures = {}
    if options.plot:
        if not any(plots.rivals(group) for group in data["groups"]):
            raise BenchError("no figure to draw: none of these questions has a rival that was measured")
        pictures = plots.write_all(data, options.plot)
    if options.markdown:
        path = Path(options.markdown)
        pictures = {question: os.path.relpath(picture, path.parent) for question, picture in pictures.items()}
        report.write_markdown(data, path, pictures, beside)


def read(path):
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        data["groups"], data["targets"], data["versions"], data["machine"]
    except (ValueError, KeyError, TypeError):
        raise BenchError(f"{path} has no figures that --json wrote") from None
    return data


def chosen(options):
    if options.instructions and not shutil.which("valgrind"):
        raise BenchError("--instructions needs valgrind: install it")
    groups = questions.load(options.quick)
    try:
        return questions.chosen(groups, options.only) if options.only else groups
    except KeyError as unknown:
        raise BenchError(unknown.args[0]) from None


def measured(groups, options):
    """Measures the groups, showing progress on standard error; the figures."""
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    seconds = QUICK_SECONDS if options.quick else SECONDS
    results = []
    columns = TextColumn("{task.description:<28}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        whole = progress.add_task("", total=len(groups))
        for index, group in enumerate(groups):
            progress.update(whole, description=group["name"])
            done, answers = measure(group["answers"], rounds, seconds,
                                    lambda share, index=index: progress.update(whole, completed=index + share))
            if options.instructions:
                for answer, result in zip(group["answers"], answers, strict=True):
                    if "value" in result and instructions.counted(group, answer):
                        result["instructions"] = instructions.count(answer)
            results.append({**group, "rounds": done, "answers": answers})
    return {
        "command": command(options),
        "versions": machine.versions(),
        "machine": machine.machine(),
        "targets": questions.against_targets(results),
        "groups": results,
    }


def command(options):
    """The command line, without the files that it names."""
    words = ["python -m externref bench"]
    words += [f"--rounds {options.rounds}"] if options.rounds else []
    words += ["--quick"] if options.quick else []
    words += ["--instructions"] if options.instructions else []
    words += ["--only", *(f'"{name}"' if " " in name else name for name in options.only)] if options.only else []
    return " ".join(words)
