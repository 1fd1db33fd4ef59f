"""Compiles the C file of an example into a shared library, with whatever compiler there is."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import externref


def build_library(source: str, folder: str) -> str:
    """Compiles `source`, a file beside this one, into the folder; gives the library's path."""
    compilers = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    command = next((words for words in map(shlex.split, compilers) if shutil.which(words[0])), None)
    if command is None:
        sys.exit(f"no C compiler found (tried {', '.join(compilers)}): install one, "
                 "or name it in the environment variable CC")
    library = Path(folder) / Path(source).with_suffix(".so").name
    subprocess.run([*command, "-O2", "-shared", "-fPIC", "-pthread", "-I", externref.get_include(),
                    Path(__file__).with_name(source), "-o", library], check=True)
    return str(library)
