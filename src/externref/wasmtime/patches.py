"""What importing externref.wasmtime changes in wasmtime-py, for its whole process; once, however often it is imported.

- `Store.close()` raises RuntimeError while something runs in the store, and marks it as closed before it deletes it:
  the finalizers that this runs cannot use it any more.
- Calls, instantiations and collections that wasmtime-py makes itself, of components too, count as uses of the store:
  while one goes on, it cannot be closed, and another thread gets RuntimeError from bound items and from these. The
  exception of a host function of func()'s, or of a tick, comes out of the call that it ends.
- Externrefs that were made here are read as their objects by wasmtime-py's own functions too, and those make theirs as
  they are made here, so that no finalizer runs Python code in the middle of wasmtime's work.
- `Engine.increment_epoch()` and `Store.set_epoch_deadline()` raise RuntimeError where a store was made interruptible.

What somebody puts back, as a test does that had replaced it before the import, is changed again when a store is first
bound.
"""

import ctypes
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

import wasmtime
from wasmtime import _engine, _ffi, _func, _instance, _instance_pre, _linker, _store, _value
from wasmtime._slab import Slab

from externref.wasmtime import _calls


class SlabAndOurs(Slab[Any]):
    """wasmtime-py's slab of objects, which also knows the externrefs made here."""

    def get(self, idx: int) -> Any:
        data = idx + 1      # as wasmtime-py's _unintern got it from the externref
        return _calls.object_at(data) if data & _calls.TAG else super().get(idx)


def enter_wasm(store: Any) -> _calls.Use:
    return _calls.Use(store._context(), theirs.enter_wasm(store))


def counted(name: str, position: int) -> Callable[..., Any]:
    """A function of the C API that runs Wasm code and returns an error or NULL, by its name and the position of the
    context among its arguments."""
    function = theirs.functions[name]

    def call(*args: Any) -> Any:
        with _calls.Use(args[position]) as use:
            error = function(*args)
            if error:
                failure = wasmtime.WasmtimeError._from_ptr(error)
                use.raise_exception(str(failure))
                error = failure._consume()
            return error

    return call


def gc(self: Any, *, collect: Callable[..., None] = _calls.collect) -> None:       # also at exit
    collect(self)


def delete(self: Any, ptr: Any, *, close_store: Callable[..., None] = _calls.close_store) -> None:  # also at exit
    close_store(self, ptr)      # raises if something runs


def increment_epoch(self: Any) -> None:
    _calls.count_epoch(self.__dict__)       # raises if our clock does
    theirs.increment_epoch(self)


def set_epoch_deadline(self: Any, ticks_after_current: int) -> None:
    _calls.set_deadline(self)      # raises if the store is interruptible
    theirs.set_epoch_deadline(self, ticks_after_current)


# The functions of the C API that are counted(), and the position of the context.
COUNTED = {
    "wasmtime_linker_module": 1,
    "wasmtime_component_func_call": 1,
    "wasmtime_component_func_post_return": 1,
    "wasmtime_component_linker_instantiate": 1,
    "wasmtime_component_resource_any_drop": 0,
}


def own(owner: Any, name: str, kind: type) -> Any:
    """What wasmtime-py itself has there. ImportError for anything else, such as a mock while a test goes on: it would
    be called, or changed in place of wasmtime-py's, for good."""
    found = getattr(owner, name)
    source = inspect.unwrap(found)      # a wrapper calls it
    # By type(): a mock's __class__ is what it stands for; and its __module__ if it is a function.
    is_function = type(source) is FunctionType
    home = source.__globals__.get("__name__", "") if is_function else getattr(source, "__module__", "")
    if not issubclass(type(source), kind) or home.partition(".")[0] not in ("wasmtime", "ctypes"):
        raise ImportError(f"externref.wasmtime cannot be imported while something else is in the place of "
                          f"{owner.__name__}.{name}: {found!r}")
    return found


class Theirs:
    """What was there before."""

    def __init__(self) -> None:
        self.Store: Any = own(_store, "Store", type)
        self.Engine: Any = own(_engine, "Engine", type)
        self.slab: Any = own(_value, "SLAB", Slab)
        self.enter_wasm: Callable[..., Any] = own(_func, "enter_wasm", FunctionType)
        self.increment_epoch: Callable[..., None] = own(self.Engine, "increment_epoch", FunctionType)
        self.set_epoch_deadline: Callable[..., None] = own(self.Store, "set_epoch_deadline", FunctionType)
        self.functions: dict[str, Callable[..., Any]] = {name: own(_ffi, name, FunctionType) for name in COUNTED}
        # wasmtime still calls it, for what it got before.
        self.finalizer: Any = own(_value, "_externref_finalizer", ctypes.CFUNCTYPE(None, ctypes.c_void_p))


# wasmtime-py keeps it, from before the first change on: this module may be imported again, after an interrupt, or after
# it was taken out of sys.modules.
KEEPER = "_before_externref"
theirs: Theirs = vars(wasmtime).get(KEEPER) or Theirs()
setattr(wasmtime, KEEPER, theirs)

_calls.install([(owner, name, value) for owner, changes in (
    (_ffi, {name: counted(name, position) for name, position in COUNTED.items()}),
    (_func, {"enter_wasm": enter_wasm}),
    (_instance, {"enter_wasm": enter_wasm}),
    (_instance_pre, {"enter_wasm": enter_wasm}),
    (_linker, {"enter_wasm": enter_wasm}),
    (_value, {"_intern": _calls.intern,
              "_externref_finalizer": type(theirs.finalizer)(_calls.finalizer_address)}),
    (theirs.slab, {"__class__": SlabAndOurs}),
    (theirs.Store, {"gc": gc, "_delete": delete, "set_epoch_deadline": set_epoch_deadline}),
    (theirs.Engine, {"increment_epoch": increment_epoch}),
) for name, value in changes.items()])
