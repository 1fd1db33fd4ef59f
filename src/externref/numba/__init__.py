"""VMExternRef in numba's compiled code; needs numba (the extra `externref[numba]`).

Importing this module is all it takes: a VMExternRef then goes into, through and out of
@njit functions, in tuples and typed collections too, and as a global or closure variable.

    >>> import externref.numba
    >>> @numba.njit
    ... def last(refs):
    ...     return refs[len(refs) - 1]

Nopython code cannot look into a reference. It can copy it, compare it (with references and None),
hash it (as Python does), read its address (`.raw`, lent by the reference) and call the functions
below. Anything else is a numba TypingError. A reference owns its allocation there as everywhere, but
all copies of one argument share one count, which goes with the last of them, on any thread.
"""

try:
    import numba as _numba_package  # noqa: F401
except ModuleNotFoundError as missing:
    raise ImportError("externref.numba needs numba: pip install 'externref[numba]'") from missing

from externref.numba._operations import clone, drop, strong_count
from externref.numba._type import vmexternref

__all__ = ["clone", "drop", "strong_count", "vmexternref"]
