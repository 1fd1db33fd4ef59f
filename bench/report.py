"""What is made of the figures: the table in the terminal, the table in Markdown, the plot."""

from rich import box
from rich.table import Table

START, END = "<!-- figures: written by --markdown -->", "<!-- end of figures -->"
OURS = "VMExternRef"    # names of answers that are no rival's begin so
COLORS = {True: "#2a7f62", False: "#b5523b"}    # whether we are cheaper


def number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def ratio(value):
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def cells(spread, text):
    """The cells of a median and of its quartiles."""
    return [text(spread["median"]), f"{text(spread['low'])} to {text(spread['high'])}"] if spread else ["", ""]


def head(group):
    return [group["name"], group["answers"][0]["unit"], "quartiles", "ratio", "quartiles", "instructions"]


def rows(group):
    for answer in group["answers"]:
        if "skipped" in answer:
            yield [answer["name"], "skipped", answer["skipped"], "", "", ""]
        else:
            count = answer.get("instructions")
            yield [answer["name"], *cells(answer["value"], number), *cells(answer.get("ratio"), ratio),
                   "" if count is None else f"{count:.0f}"]


TARGET_HEAD = ["target", "measured", "at most", "aim", ""]


def target_rows(targets):
    for target in targets:
        rival, text = target["rival"], number if target["rival"] is None else ratio
        name = f"{target['group']} / {rival}" if rival else f"{target['group']}, {target['unit']}"
        yield [name, *(text(target[key]) for key in ("measured", "at_most", "aim")), verdict(target)]


def verdict(target):
    if target["measured"] > target["at_most"]:
        return "missed"
    return "aim reached" if target["measured"] <= target["aim"] else "met"


def facts(data):
    """Lines about what was measured, and on what."""
    for key in ("versions", "machine"):
        yield ", ".join(f"{name}: {['no', 'yes'][value] if isinstance(value, bool) else value}"
                        for name, value in data[key].items())
    if "without" in data["machine"].get("Python optimised", ""):
        yield ("This Python was built without all optimisations: object() and its like are slower than in those "
               "that users have, and ratios to them flatter VMExternRef.")


def show(data, console):
    """Prints the tables."""
    for line in facts(data):
        console.print(line, highlight=False, markup=False)
    console.print("A ratio is VMExternRef's figure divided by this one's, in the same round.", highlight=False)
    for group in data["groups"]:
        console.print(table(head(group), rows(group)))
    if data["targets"]:
        console.print(table(TARGET_HEAD, target_rows(data["targets"])))


def table(head, rows):
    rows = list(rows)
    used = [index for index in range(len(head)) if index < 2 or any(row[index] for row in rows)]
    made = Table(box=box.SIMPLE_HEAD)
    for index in used:
        made.add_column(head[index], justify="right" if index else "left", no_wrap=index == 0)
    for row in rows:
        made.add_row(*(row[index] for index in used))
    return made


def markdown(data):
    """The tables, between START and END."""
    parts = [START, f"Made by `{data['command']}`.", *facts(data)]
    if data["targets"]:
        parts += ["### Targets", markdown_table(TARGET_HEAD, target_rows(data["targets"]))]
    question = None
    for group in data["groups"]:
        if group["question"] != question:
            question = group["question"]
            parts += [f"### {question}"]
        parts += [f"{group['rounds']} rounds.", markdown_table(head(group), rows(group))]
    return "\n\n".join([*parts, END]) + "\n"


def markdown_table(head, rows):
    rows = list(rows)
    used = [index for index in range(len(head)) if index < 2 or any(row[index] for row in rows)]
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line[index] for index in used)} |" for line in lines)


def write_markdown(data, path):
    """Puts the tables into a file, in place of those between START and END if it has them."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(f"{END}\n")
    path.write_text(before + markdown(data) + after if start and end else text + markdown(data), encoding="utf-8")


def rivals(group):
    return [answer for answer in group["answers"] if "ratio" in answer and not answer["name"].startswith(OURS)]


def plot(data, path):
    """Draws the ratio to each rival, a bar each."""
    import matplotlib
    from matplotlib.figure import Figure

    groups = [group for group in data["groups"] if rivals(group)]
    labels, bars = [], []
    y = 0.0
    for group in groups:
        y += 1      # the group's title
        labels.append((y, group["name"]))
        for answer in rivals(group):
            y += 1
            bars.append((y, answer["name"], answer["ratio"]))
        y += 0.6
    # Text stays text, and the same figures give the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "externref", "font.size": 8}):
        figure = Figure(figsize=(8, 1.2 + 0.17 * y), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.axvline(1, color="black", linewidth=0.8)
        for y, _, spread in bars:
            low, median, high = (spread[key] for key in ("low", "median", "high"))
            # A bar starts at 1, where both cost the same.
            axes.barh(y, median - 1, left=1, height=0.8, color=COLORS[median <= 1],
                      xerr=[[median - low], [high - median]], error_kw={"elinewidth": 0.6})
            axes.text(min(median, low) / 1.05 if median <= 1 else high * 1.05, y, ratio(median),
                      ha="right" if median <= 1 else "left", va="center")
        axes.set_yticks([y for y, *_ in labels + bars], [name for _, name, *_ in labels + bars])
        for tick in axes.get_yticklabels()[:len(labels)]:
            tick.set_fontweight("bold")
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.margins(x=0.12, y=0.01)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("cost of VMExternRef / cost of the rival: left of 1, VMExternRef is cheaper")
        axes.set_title(f"externref {data['versions']['externref']}, {data['machine']['processor']}")
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        figure.savefig(path, format="svg", metadata={"Date": None})
