"""The pictures: one for all, of what a user would ask first, and one for each question.

Their ground is transparent and their colours are legible on white and on black.
"""

from collections import defaultdict
from pathlib import Path

import report

# Names of answers that are ways of our own, and no rival, begin so.
OURS = ("VMExternRef", "wasm2c", "Function of a word", "made before", "GIL released", "value_as", "is_instance")
TEXT, CHEAPER, DEARER = "#7d848c", "#2f9e77", "#d0694d"

# Of the picture for all: group, rival, what is said of them. What costs more is there as well as what costs less.
HEADLINE = [
    ("make+drop", "object()", "make and drop / object()"),
    ("clone+drop", "object()", "clone and drop / object()"),
    ("deref", "weakref.ref", "get at the object / weakref()"),
    ("out-and-back", "cffi handle, compiled", "out and back as an int / cffi handle"),
    ("out-and-back", "dict of handles", "out and back as an int / dict of ids"),
    ("through C", "apache-tvm-ffi", "through a C function / apache-tvm-ffi"),
    ("an object in and out", "wasmtime-py", "through wasmtime / wasmtime-py"),
    ("numba: in and out", "intp", "through @njit / an int"),
    ("native: clone+drop", "Rust Arc", "cloned and dropped by C / Rust's Arc"),
    ("dropped by C, drained: one thread", "object(), no thread", "made, dropped by C, released later / object()"),
    ("dropped by C, drained: one thread", "PyO3's way, in Rust", "made, dropped by C, released later / PyO3's way"),
    ("drop: 1,000,000 live", "object()", "drop one of a million / object()"),
]


def rivals(group):
    return [answer for answer in group["answers"] if "ratio" in answer and not answer["name"].startswith(OURS)]


def write_all(data, folder):
    """Writes headline.svg and a picture for each question that has rivals, named after its file: {question: path}."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ratios = {(group["name"], answer["name"]): answer["ratio"] for group in data["groups"] for answer in rivals(group)}
    headline = [(label, ratios[group, rival]) for group, rival, label in HEADLINE if (group, rival) in ratios]
    if headline:
        draw(headline, folder / "headline.svg")
    bars, pictures = defaultdict(list), {}
    for group in filter(rivals, data["groups"]):
        bars[group["question"]].append((group["name"], None))
        bars[group["question"]] += [(answer["name"], answer["ratio"]) for answer in rivals(group)]
        pictures[group["question"]] = folder / f"{Path(group['file']).stem.removeprefix('bench_')}.svg"
    for question, path in pictures.items():
        draw(bars[question], path)
    return pictures


def draw(bars, path):
    """(label, ratio and its quartiles), or (heading, None), from top to bottom."""
    import matplotlib
    from matplotlib.figure import Figure

    # Text stays text, and the same figures give the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "externref", "font.size": 9,
                                **{f"{part}.color": TEXT for part in ("text", "xtick", "ytick")},
                                "axes.edgecolor": TEXT, "axes.labelcolor": TEXT}):
        figure = Figure(figsize=(7.6, 0.8 + 0.22 * len(bars)), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.axvline(1, color=TEXT, linewidth=0.8)
        for y, (_, spread) in enumerate(bars):
            if spread is None:
                continue
            low, median, high = (spread[key] for key in ("low", "median", "high"))
            # A bar starts at 1, where both cost the same.
            axes.barh(y, median - 1, left=1, height=0.75, color=CHEAPER if median <= 1 else DEARER,
                      xerr=[[median - low], [high - median]], error_kw={"elinewidth": 0.6, "ecolor": TEXT})
            axes.text(min(median, low) / 1.05 if median <= 1 else high * 1.05, y, report.ratio(median),
                      ha="right" if median <= 1 else "left", va="center")
        axes.set_yticks(range(len(bars)), [label for label, _ in bars])
        for tick, (_, spread) in zip(axes.get_yticklabels(), bars, strict=True):
            if spread is None:
                tick.set_fontweight("bold")
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.margins(x=0.14)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("ours / the rival's: left of 1 a reference is cheaper")
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
