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

Importing this changes four things in wasmtime-py, for its whole process: `Store.close()` raises
RuntimeError while a bound call runs in the store; externrefs that were made here are read
as their objects by wasmtime-py's own functions too; and these make theirs as they are made here, so
that no finalizer runs Python code in the middle of wasmtime's work; and `Engine.increment_epoch()` and
`Store.set_epoch_deadline()` raise RuntimeError where a store was made interruptible.
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

import wasmtime as _wasmtime_py
from wasmtime import _value as _wasmtime_value
from wasmtime._slab import Slab as _Slab

from externref.wasmtime._calls import (
    TAG,
    Caller,
    Func,
    Global,
    Memory,
    Table,
    address_of,
    begin_close,
    bind,
    count_epoch,
    finalizer_address,
    func,
    intern,
    interrupt,
    interruptible,
    object_at,
    set_deadline,
)
from externref.wasmtime.exports import Exports

__all__ = ["Caller", "Exports", "Func", "Global", "Memory", "Table", "bind", "func", "interrupt", "interruptible"]


class _SlabAndOurs(_Slab):
    """wasmtime-py's slab of objects, which also knows the externrefs made here."""

    def get(self, idx):
        data = idx + 1      # as wasmtime-py's _unintern got it from the externref
        return object_at(data) if data & TAG else super().get(idx)


_theirs = _wasmtime_value._externref_finalizer      # wasmtime still calls it, for what it got before
_wasmtime_value.SLAB.__class__ = _SlabAndOurs
_wasmtime_value._intern = intern
_wasmtime_value._externref_finalizer = type(_theirs)(finalizer_address)


_after_close = []   # functions called with the context's address of each store that was deleted


def _delete(self, ptr, *, delete=_wasmtime_py.Store._delete):
    """Store._delete, which frees the store: bound objects must know, and may object.

    wasmtime-py forgets the pointer when it has been freed: a finalizer that this runs, or another thread, can close
    the store again, and that frees nothing.
    """
    if begin_close(self.__dict__):      # raises if something runs
        address = address_of(self)
        delete(self, ptr)
        for hook in _after_close:
            hook(address)


_wasmtime_py.Store._delete = _delete


def _increment_epoch(self, *, increment=_wasmtime_py.Engine.increment_epoch):
    count_epoch(self.__dict__)      # raises if our clock does
    increment(self)


def _set_epoch_deadline(self, ticks_after_current, *, set_=_wasmtime_py.Store.set_epoch_deadline):
    set_deadline(self.__dict__)     # raises if the store is interruptible
    set_(self, ticks_after_current)


_wasmtime_py.Engine.increment_epoch = _increment_epoch
_wasmtime_py.Store.set_epoch_deadline = _set_epoch_deadline
