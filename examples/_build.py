"""Compiles the C or Rust file of an example, with whatever compiler there is: into a shared library, an extension
module, or to WebAssembly."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import externref


def build_library(source: str, folder: str, *options: str) -> str:
    """Compiles `source`, a file beside this one, into the folder; gives the library's path."""
    compilers = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    command = next((words for words in map(shlex.split, compilers) if shutil.which(words[0])), None)
    if command is None:
        sys.exit(f"no C compiler found (tried {', '.join(compilers)}): install one, "
                 "or name it in the environment variable CC")
    library = Path(folder) / Path(source).with_suffix(".so").name
    subprocess.run([*command, "-O2", "-shared", "-fPIC", "-pthread", "-I", externref.get_include(), *options,
                    Path(__file__).with_name(source), "-o", library], check=True)
    return str(library)


def build_extension(source: str, folder: str):
    """Compiles `source`, an extension module, into the folder; gives the module, imported."""
    loader = ExtensionFileLoader(Path(source).stem, build_library(source, folder, "-I", sysconfig.get_path("include")))
    return module_from_spec(spec_from_loader(loader.name, loader))


def build_rust_library(source: str, folder: str) -> str:
    """Compiles `source`, a file beside this one, into the folder; gives the library's path."""
    if shutil.which("rustc") is None:
        sys.exit("no Rust compiler found (tried rustc): install one (Debian: apt-get install rustc)")
    library = Path(folder) / Path(source).with_suffix(".so").name
    # What is preloaded into Python, a sanitizer say, is not for rustc.
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    subprocess.run(["rustc", "--edition", "2021", "-O", "--crate-type", "cdylib", Path(__file__).parent / source,
                    "-o", library], check=True, env=env)
    return str(library)


# Those that know references, since LLVM 17; Debian's have their number in their names.
GUEST_COMPILERS = ["clang", *(f"clang-{version}" for version in range(25, 16, -1)), f"{sys.executable} -m ziglang cc"]
GUEST_FLAGS = ["-mreference-types", "-O2", "-nostdlib", "-Wl,--no-entry", "-Wl,--strip-all"]


def build_guest(source: str, folder: str) -> Path:
    """Compiles `source`, a file beside this one, to WebAssembly in the folder; gives the module's path."""
    guest = Path(folder) / f"{Path(source).stem}.wasm"
    for compiler in map(str.split, GUEST_COMPILERS):
        target = "wasm32-freestanding" if "ziglang" in compiler else "wasm32"
        command = [*compiler, "-target", target, *GUEST_FLAGS, Path(__file__).parent / source, "-o", guest]
        if shutil.which(compiler[0]) and subprocess.run(command, capture_output=True).returncode == 0:
            return guest
    sys.exit("no C compiler for WebAssembly with references found: install clang and lld 17 or newer "
             "(Debian: apt-get install clang-19 lld-19), or pip install ziglang")
