"""VMExternRef in numba's compiled code; needs numba (the extra `externref[numba]`).

Numba imports this module by itself, where the package is installed, before it types the first call: a VMExternRef
then goes into, through and out of @njit functions, in tuples and typed collections too, and as a global or
closure variable. The import does it as well.

    >>> @numba.njit
    ... def last(refs):
    ...     return refs[len(refs) - 1]

Nopython code cannot hold a Python object. It can copy a reference, compare it (with references and
None), hash it (as Python does), read its address (`.raw`, lent by the reference) and call the
functions below, two of which look into it with the GIL. Anything else is a numba TypingError. A
reference owns its allocation there as everywhere, but all copies of one argument share one count,
which goes with the last of them, on any thread.
"""

try:
    import numba as _numba_package  # noqa: F401
except ModuleNotFoundError as missing:
    raise ImportError("externref.numba needs numba: pip install 'externref[numba]'") from missing

from numba.core import types as _types

from externref.numba._operations import clone, drop, strong_count
from externref.numba._type import vmexternref
from externref.numba._values import is_instance, value_as

__all__ = ["clone", "drop", "is_instance", "strong_count", "value_as", "vmexternref"]

_types.vmexternref = vmexternref        # for signatures that are strings


def _initialize() -> None:
    """What numba calls by the entry point `numba_extensions`: the import has done it all."""
