"""VMExternRef in numba's compiled code; needs numba (the extra `externref[numba]`).

Importing this module is all it takes: a VMExternRef then goes into, through and out of
@njit functions, in tuples and typed collections too, and as a global or closure variable.

    >>> import externref.numba
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

from externref.numba._operations import clone, drop, strong_count
from externref.numba._type import vmexternref
from externref.numba._values import is_instance, value_as

__all__ = ["clone", "drop", "is_instance", "strong_count", "value_as", "vmexternref"]
