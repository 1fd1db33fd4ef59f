"""The extension modules: one for each .pyx. Everything else is in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import Extension, setup

package = Path("src/externref")
# Any of them may be in any module: that a change of one builds all again costs seconds.
parts = sorted(str(part) for suffix in ("h", "pxd", "pxi") for part in package.rglob(f"*.{suffix}"))
sources = [source for source in sorted(package.rglob("*.pyx"))
           # Its compiled code comes and goes by what POSIX has; externref.wasm2c says so there.
           if not (sys.platform == "win32" and source.parent.name == "wasm2c")]
modules = [Extension(".".join(source.relative_to("src").with_suffix("").parts), [str(source)],
                     include_dirs=[str(package / "include"), str(package)], depends=parts)
           for source in sources]
setup(ext_modules=modules, options={"build_ext": {"parallel": True}})
