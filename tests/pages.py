"""Runs what a page of docs/ shows, in the order of the page: python pages.py PAGE PRELUDE, in an empty folder.

PRELUDE is Python that makes what the page takes for granted.

A block after a line that ends in "`NAME`:" is a file. Other Python is run, all in one namespace; in a console block each
line after "$ " is a command. A text block says what the block before prints ("..." for anything).
"""

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
from pathlib import Path

BLOCK = re.compile(r"(?P<before>[^\n]*)\n\n?```(?P<language>[\w+]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"`([\w./]+)`:$")


def agrees(wanted, got):
    return doctest.OutputChecker().check_output(wanted, got, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)


def commands(text):
    """The commands of a console block, each with what it prints."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def run_page(path, prelude):
    page = Path(path).read_text()
    namespace = {"__name__": "__main__"}
    exec(prelude, namespace)
    printed = ""
    for block in BLOCK.finditer(page):
        where = f"{path}:{page.count(chr(10), 0, block.start('text')) + 1}"
        language, text = block["language"], block["text"]
        named = FILE.search(block["before"])
        if named:
            Path(named[1]).parent.mkdir(parents=True, exist_ok=True)
            Path(named[1]).write_text(text)
        elif language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile("\n" * page.count("\n", 0, block.start("text")) + text, path, "exec"), namespace)
            printed = output.getvalue()
        elif language == "console":
            printed = ""
            for command, expected in commands(text):
                result = subprocess.run(command, shell=True, capture_output=True, text=True)
                printed = result.stdout + result.stderr
                assert result.returncode == 0, f"{where}: {command}: status {result.returncode}\n{printed}"
                assert not expected or agrees(expected, printed), f"{where}: {command} printed\n{printed}"
        elif language == "text":
            assert agrees(text, printed), f"{where}: the block before printed\n{printed}"
        elif language not in ("", "sh"):      # sh is for a checkout; the other is a drawing
            sys.exit(f"{where}: nothing runs this {language} block: give it a file's name")


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    run_page(*sys.argv[1:])
