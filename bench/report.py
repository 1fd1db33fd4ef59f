"""What is made of the figures: the table in the terminal, the table in Markdown. plots.py has the pictures."""

from rich import box
from rich.table import Table

START, END = "<!-- figures: written by --markdown -->", "<!-- end of figures -->"


def number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def ratio(value):
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def cells(spread, text):
    """The cells of a median and of its quartiles."""
    return [text(spread["median"]), f"{text(spread['low'])} to {text(spread['high'])}"] if spread else ["", ""]


def head(group, beside):
    return [group["name"], group["answers"][0]["unit"], "quartiles", "ratio", "quartiles", "instructions",
            *(f"{python(beside)}, {text}" for text in (group["answers"][0]["unit"], "ratio"))]


def python(data):
    """The version that figures were measured on, for the head of a column, which is left out where there are none."""
    return data["versions"].get("CPython", "the other") if data else ""


def rows(group, beside):
    others = answers_of(group, beside)
    for answer in group["answers"]:
        there = medians(others.get(answer["name"], {}))
        if "skipped" in answer:
            yield [answer["name"], "skipped", answer["skipped"], "", "", "", *there]
        else:
            count = answer.get("instructions")
            yield [answer["name"], *cells(answer["value"], number), *cells(answer.get("ratio"), ratio),
                   "" if count is None else f"{count:.0f}", *there]


def medians(answer):
    """The cells of an answer's medians, empty if it was skipped."""
    return [cells(answer.get(key), text)[0] for key, text in (("value", number), ("ratio", ratio))]


def answers_of(group, data):
    """The answers by name that the same group has in the figures of another run."""
    groups = data["groups"] if data else []
    return {answer["name"]: answer for other in groups if other["name"] == group["name"] for answer in other["answers"]}


def target_head(beside):
    return ["target", "measured", "at most", "aim", "", python(beside), ""]


def target_rows(targets, beside):
    theirs = {(target["group"], target["rival"]): target for target in (beside["targets"] if beside else [])}
    for target in targets:
        rival, text = target["rival"], number if target["rival"] is None else ratio
        name = f"{target['group']} / {rival}" if rival else f"{target['group']}, {target['unit']}"
        other = theirs.get((target["group"], rival))
        yield [name, *(text(target[key]) for key in ("measured", "at_most", "aim")), verdict(target),
               *([text(other["measured"]), verdict({**target, "measured": other["measured"]})] if other else ["", ""])]


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


def show(data, console, beside=None):
    """Prints the tables, with the figures of another run beside them."""
    for line in [*facts(data), *(facts(beside) if beside else ())]:
        console.print(line, highlight=False, markup=False)
    console.print("A ratio is VMExternRef's figure divided by this one's, in the same round.", highlight=False)
    for group in data["groups"]:
        console.print(table(head(group, beside), rows(group, beside), console))
    if data["targets"]:
        console.print(table(target_head(beside), target_rows(data["targets"], beside), console))


NARROW = 24                             # a name wraps to this, no figure does
FEWER = ["quartiles", "aim", "at most"]     # what a narrow terminal shows without, in this order


def table(head, rows, console):
    """For a terminal."""
    rows = list(rows)
    used = used_columns(head, rows)
    widths = [max(len(row[index]) for row in [head, *rows]) for index in range(len(head))]
    widths[0] = min(widths[0], NARROW)
    for unneeded in FEWER:
        if sum(widths[index] + 3 for index in used) < console.width:
            break
        used = [index for index in used if head[index] != unneeded]
    made = Table(box=box.SIMPLE_HEAD)
    for index in used:
        made.add_column(head[index], justify="right" if index else "left", no_wrap=index > 0)
    for row in rows:
        made.add_row(*(row[index] for index in used))
    return made


def used_columns(head, rows):
    return [index for index in range(len(head)) if index < 2 or any(row[index] for row in rows)]


def markdown(data, pictures, beside):
    """The tables, between START and END, below the pictures that there are: {question: path}."""
    parts = [START]
    for run in filter(None, (data, beside)):
        parts += [f"{'Made' if run is data else 'Beside it, made'} by `{run['command']}`.", *facts(run)]
    if data["targets"]:
        parts += ["### Targets", markdown_table(target_head(beside), target_rows(data["targets"], beside))]
    question = None
    for group in data["groups"]:
        if group["question"] != question:
            question = group["question"]
            parts += [f"### {question}"]
            if question in pictures:
                parts += [f"![Ratios to each rival]({pictures[question]})"]
        parts += [f"{group['rounds']} rounds.", markdown_table(head(group, beside), rows(group, beside))]
    return "\n\n".join([*parts, END]) + "\n"


def markdown_table(head, rows):
    rows = list(rows)
    used = used_columns(head, rows)
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line[index] for index in used)} |" for line in lines)


def write_markdown(data, path, pictures, beside=None):
    """Puts the tables into a file, in place of those between START and END if it has them."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(f"{END}\n")
    made = markdown(data, pictures, beside)
    path.write_text(before + made + after if start and end else text + made, encoding="utf-8")
