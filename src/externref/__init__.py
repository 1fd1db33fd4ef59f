"""externref: references that carry Python objects through compiled code and back.

    >>> from externref import VMExternRef
    >>> ref = VMExternRef(open("some/file"))
    >>> ptr = ref.into_raw()                    # an int; compiled code owns it now
    >>> VMExternRef.from_raw(ptr).value         # and back: the same file

Compiled code copies and drops a reference by changing one integer at a fixed offset
(`externref.h`, `externref.abi`), on any thread, without the GIL.
"""

import os as _os

from externref import _once  # noqa: F401  # first: it refuses a second interpreter
from externref._core import (
    InvalidRawPointerError,
    MovedError,
    Stats,
    VMExternRef,
    drain,
    option_from_raw,
    option_into_raw,
    set_drain,
    stats,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from externref._activations import VMExternRefActivationsTable
    from externref._function import Function
else:
    # What few programs need both of, and takes as long to import as the rest: when it is first asked for.
    _LATER = {"Function": "externref._function", "VMExternRefActivationsTable": "externref._activations"}

    def __getattr__(name):
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        globals()[name] = found = getattr(import_module(_LATER[name]), name)
        return found

    def __dir__():
        return sorted({*globals(), *_LATER} - {"TYPE_CHECKING"})

__all__ = [
    "Function",
    "InvalidRawPointerError",
    "MovedError",
    "Stats",
    "VMExternRef",
    "VMExternRefActivationsTable",
    "drain",
    "get_include",
    "option_from_raw",
    "option_into_raw",
    "set_drain",
    "stats",
]

__version__ = "0.1.0"

if _os.environ.get("EXTERNREF_DEBUG"):
    from externref import debug as _debug

    _debug._track_process(_os.environ["EXTERNREF_DEBUG"])


def get_include() -> str:
    """The folder that holds externref.h, for a C compiler's -I."""
    return _os.path.join(_os.path.dirname(__file__), "include")
