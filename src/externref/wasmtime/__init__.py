"""wasmtime at native speed, for users of wasmtime-py (the extra `externref[wasmtime]`).

    import wasmtime, externref.wasmtime

    exports = externref.wasmtime.bind(store, instance.exports(store))   # or one of these
    f = exports["f"]                        # or a table, a global, a memory
    f(obj)                                  # conversions worked out once, no ctypes in the call
    f.refs(obj)                             # externref results as VMExternRef

    externref.wasmtime.func(store, wasmtime.FuncType([...], [...]), callable)   # a host function

    externref.wasmtime.interruptible(store, timeout=5.0)    # Ctrl-C and the time stop what is bound

Stores, modules and instances stay wasmtime-py's own. Any object passes as an externref:
None is null, a VMExternRef passes as itself, anything else is boxed. wasmtime's
collector drops it by native code, on whatever thread and at whatever time it likes; the
object is released soon after, under the GIL.

Importing this changes a few things in wasmtime-py, for its whole process: see patches.py.
"""

from importlib import metadata as _metadata
from importlib.util import find_spec as _find_spec

_TESTED = range(45, 51)     # the major versions of wasmtime-py

if _find_spec("wasmtime") is None:
    raise ImportError("externref.wasmtime needs wasmtime-py: pip install 'externref[wasmtime]'")
try:
    _found = _metadata.version("wasmtime")
except _metadata.PackageNotFoundError as missing:
    raise ImportError("externref.wasmtime cannot tell the version of the wasmtime-py that is here, as its metadata "
                      "(wasmtime-*.dist-info) is missing: install it by pip, or keep that folder") from missing

# Struct layouts and signatures of the C API change between major versions.
if int(_found.partition(".")[0]) not in _TESTED:
    raise ImportError(
        f"externref.wasmtime is tested with wasmtime {_TESTED[0]} to {_TESTED[-1]}, not {_found}: "
        f"pip install 'wasmtime>={_TESTED[0]},<{_TESTED[-1] + 1}'"
    )

from externref.wasmtime import patches as _patches  # noqa: F401
from externref.wasmtime._calls import Caller, Func, Global, Memory, Table, bind, func, interrupt, interruptible
from externref.wasmtime.exports import Exports

__all__ = ["Caller", "Exports", "Func", "Global", "Memory", "Table", "bind", "func", "interrupt", "interruptible"]
