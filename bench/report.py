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


def markdown(data, pictures):
    """The tables, between START and END, below the pictures that there are: {question: path}."""
    parts = [START, f"Made by `{data['command']}`.", *facts(data)]
    if data["targets"]:
        parts += ["### Targets", markdown_table(TARGET_HEAD, target_rows(data["targets"]))]
    question = None
    for group in data["groups"]:
        if group["question"] != question:
            question = group["question"]
            parts += [f"### {question}"]
            if question in pictures:
                parts += [f"![Ratios to each rival]({pictures[question]})"]
        parts += [f"{group['rounds']} rounds.", markdown_table(head(group), rows(group))]
    return "\n\n".join([*parts, END]) + "\n"


def markdown_table(head, rows):
    rows = list(rows)
    used = [index for index in range(len(head)) if index < 2 or any(row[index] for row in rows)]
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line[index] for index in used)} |" for line in lines)


def write_markdown(data, path, pictures):
    """Puts the tables into a file, in place of those between START and END if it has them."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(f"{END}\n")
    made = markdown(data, pictures)
    path.write_text(before + made + after if start and end else text + made, encoding="utf-8")
