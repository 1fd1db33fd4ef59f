"""A large module in pieces: translation units that several compilers make at a time.

In one piece everything is static, and a compiler sees all of it: best for the code, and for what is small. How many
pieces there are depends on the module alone, as the library's name in the cache knows nothing of the machine.
wasm2c gives each function to a piece, by its index; what the pieces share is hidden outside of the library.
"""

import re
from pathlib import Path

from externref.wasm2c.binary import CODE, Binary
from externref.wasm2c.glue import glue, mended

PIECE = 64 * 1024       # bytes of WebAssembly code in a piece, about: some seconds of a compiler's time
MOST_PIECES = 64

HOST = "static const Wasm2cHost *host;\n"
MODULE = '#include "module.c"\n'
# What wasm2c 1.0.42 has in the first piece, static, and uses in others.
WRAPPER = re.compile(r"^static (.*\bwrap_w2c_m_\w+\(.*\)) \{$", re.MULTILINE)
CUT = "/* Another file. */\n"


def pieces_of(binary: Binary) -> int:
    """How many pieces the module is compiled in. It is one up to twice a piece's size."""
    return max(1, min(len(dict(binary.sections).get(CODE, b"")) // PIECE, MOST_PIECES))


def names_of(pieces: int) -> list[str]:
    """The names, without suffix, of the C to compile. In one piece the glue includes the module."""
    return ["glue", *(f"module_{k}" for k in range(pieces) if pieces > 1)]


def sources(binary: Binary, folder: Path, pieces: int) -> dict[str, str]:
    """The files' texts by their names: what wasm2c wrote in the folder, mended, and the C around it."""
    written = ["module.c"] if pieces == 1 else ["module-impl.h", *(f"{name}.c" for name in names_of(pieces)[1:])]
    code = mended(CUT.join((folder / name).read_text() for name in written), binary)
    if pieces > 1:
        declared = "".join(f"{match[1]};\n" for match in WRAPPER.finditer(code))
        code = WRAPPER.sub(r"\1 {", code).replace(CUT, declared + CUT, 1)
    texts = dict(zip(written, code.split(CUT), strict=True))
    whole = glue(binary, code)
    if pieces == 1:
        return texts | {"glue.c": whole}
    before, include, after = whole.partition(MODULE)
    assert HOST in before and include
    shared = HOST.removeprefix("static ")
    # Hidden is said here: no option says it of what is only declared.
    head = before.replace(HOST, '__attribute__((visibility("hidden"))) extern ' + shared)
    # The function is there for clang, which says nothing of frames where there is none.
    return {name: text if name.endswith(".h") else f"{head}{text}void {name[:-2]}(void) {{}}\n"
            for name, text in texts.items()} | {
        "glue.c": f'{head}{shared}#include "module-impl.h"\n{after}'}
