"""The extension modules, one for each .pyx, and the README as an index shows it. The rest is in pyproject.toml."""

import re
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

package = Path("src/externref")
# Any of them may be in any module: that a change of one builds all again costs seconds.
parts = sorted(str(part) for suffix in ("h", "pxd", "pxi") for part in package.rglob(f"*.{suffix}"))
sources = [source for source in sorted(package.rglob("*.pyx"))
           # Its compiled code comes and goes by what POSIX has; externref.wasm2c says so there.
           if not (sys.platform == "win32" and source.parent.name == "wasm2c")]
modules = [Extension(".".join(source.relative_to("src").with_suffix("").parts), [str(source)],
                     include_dirs=[str(package / "include"), str(package)], depends=parts,
                     # Constructors own their arguments then, a tuple. What Cython makes otherwise allocates before it
                     # looks at them, and a collection can have the caller let them go: see _python.pxd.
                     define_macros=[("CYTHON_VECTORCALL_TPNEW", "0")],
                     # By these it finds the functions that a trap was in, also if $CFLAGS leave them out.
                     extra_compile_args=["-fasynchronous-unwind-tables"] if source.parent.name == "wasm2c" else [])
           for source in sources]


class Build(build_ext):
    """Says what is missing, where the compiler's error would be about something else."""

    def build_extensions(self):
        command = getattr(self.compiler, "compiler_so", None)      # MSVC's finds itself, or says so
        if command and shutil.which(command[0]) is None:
            sys.exit(f"externref is built from C, and the C compiler {command[0]!r} is not there: install one (Debian, "
                     "Ubuntu: apt install build-essential; macOS: xcode-select --install), or name yours in $CC")
        if not Path(sysconfig.get_path("include"), "Python.h").is_file():
            sys.exit("externref is built from C, and this Python has no Python.h: install its headers (Debian, Ubuntu: "
                     "apt install python3-dev)")
        super().build_extensions()


# On an index's page a link to a file beside it leads nowhere: there it is text, and a picture is left out.
readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
readme = re.sub(r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n*", "", readme)
readme = re.sub(r"\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", readme)

setup(long_description=readme, long_description_content_type="text/markdown",
      ext_modules=modules, cmdclass={"build_ext": Build}, options={"build_ext": {"parallel": True}})
