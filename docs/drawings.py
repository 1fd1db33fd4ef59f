"""Draws ownership.svg, of what a reference's counts really are after each step: python docs/drawings.py

The colours are legible on white and on black.
"""

import ctypes
import sys
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from externref import VMExternRef, abi, debug

STEPS = """\
ref = VMExternRef(value)
other = ref.clone()
raw = other.into_raw()
ref.drop()
clone(raw) # in C
back = VMExternRef.from_raw(raw)
drop(raw) # in C
back.drop()
"""
TEXT, PYTHON, COMPILED = "#7d848c", "#4a8fe7", "#d9822b"
TOP, ROW, WIDTH = 50, 62, 770
CODE, BLOCK, BLOCK_END, VALUE = 8, 340, 490, 695       # where the columns are: two from the left, one round its middle


def steps():
    """(code, block, Python references on the value) after each. The block is None once it is freed."""
    value = object()
    names = {"VMExternRef": VMExternRef, "value": value,
             "clone": ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(abi.clone_address),
             "drop": ctypes.CFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)}
    alone = sys.getrefcount(value)
    with debug.track():     # live() has blocks that no code was given, too
        for code in STEPS.splitlines():
            exec(code, names)
            yield code, next(iter(debug.live()), None), sys.getrefcount(value) - alone


def add(parent, name, **attributes):
    return SubElement(parent, name, {key.replace("_", "-"): str(value) for key, value in attributes.items()})


def write(parent, x, y, what, color=TEXT, anchor="middle", family="system-ui, sans-serif"):
    add(parent, "text", x=x, y=y, fill=color, text_anchor=anchor, font_family=family, font_size=13).text = what


def draw_owners(svg, count, edge, away, middle, color):
    """A dot for each, on the side of the block's `edge` that `away` (-1 or 1) says."""
    for number in range(count):
        y = middle + (number - (count - 1) / 2) * 18
        add(svg, "path", d=f"M {edge + away * 32} {y} H {edge + away * 3}", stroke=color, stroke_width=1.5)
        add(svg, "circle", cx=edge + away * 38, cy=y, r=6, fill=color)


def draw_step(svg, top, code, block, references):
    middle, center = top + ROW / 2 - 4, (BLOCK + BLOCK_END) / 2
    write(svg, CODE, middle + 4, code, anchor="start", family="ui-monospace, monospace")
    if block is None:
        write(svg, center, middle + 4, "freed")
        write(svg, VALUE, middle + 4, "released")
        return
    add(svg, "rect", x=BLOCK, y=top + 4, width=BLOCK_END - BLOCK, height=ROW - 16, rx=6, fill="none", stroke=TEXT,
        stroke_width=1.5)
    write(svg, center, middle - 4, f"ref_count {block.strong_count}")
    write(svg, center, middle + 13, f"handles {block.handles}", PYTHON)
    draw_owners(svg, block.handles, BLOCK, -1, middle, PYTHON)
    draw_owners(svg, block.raw_owners, BLOCK_END, 1, middle, COMPILED)
    write(svg, VALUE, middle + 4, f"{references} on the value")


def drawing():
    height = TOP + ROW * len(STEPS.splitlines()) + 8
    svg = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {WIDTH} {height}"})
    add(svg, "title").text = "Who owns a block, step by step"
    write(svg, BLOCK - 20, 28, "Python's", PYTHON, "end")
    write(svg, (BLOCK + BLOCK_END) / 2, 28, "the block")
    write(svg, BLOCK_END + 20, 28, "compiled code's", COMPILED, "start")
    write(svg, VALUE, 28, "Python references")
    for number, step in enumerate(steps()):
        draw_step(svg, TOP + number * ROW, *step)
    indent(svg)
    return tostring(svg, encoding="unicode") + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("ownership.svg").write_text(drawing())
