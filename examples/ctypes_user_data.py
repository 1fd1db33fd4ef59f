"""A `void *user_data` that owns a Python object, by ctypes.

The C library (events.c) calls back on a thread of its own and destroys the user_data there,
whenever it likes. No dictionary of handles and nothing to remember on the Python side: the
library's pointer is an owner, and `abi.drop_address` is the destroy callback.

    python examples/ctypes_user_data.py
"""

import ctypes
import weakref
from tempfile import TemporaryDirectory

from _build import build_library

import externref
from externref import VMExternRef, abi

EventCallback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)
DestroyCallback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

# Native code: it needs no GIL, so the library may call it on any thread.
destroy = DestroyCallback(abi.drop_address)


@EventCallback
def on_event(user_data, event):
    # The library lends the pointer for the call; the clone is ours.
    log = VMExternRef.clone_from_raw(user_data).value
    log.append(event)


class Log(list):
    """A list that can be watched by a weak reference."""


def load(folder):
    lib = ctypes.CDLL(build_library("events.c", folder))
    lib.subscribe.argtypes = [ctypes.c_int, EventCallback, ctypes.c_void_p, DestroyCallback]
    lib.subscribe.restype = ctypes.c_void_p
    lib.finish.argtypes = [ctypes.c_void_p]
    lib.finish.restype = None
    return lib


def subscribe(lib, ref, events):
    """Moves the reference into a new subscription of the library."""
    user_data = ref.into_raw()
    subscription = lib.subscribe(events, on_event, user_data, destroy)
    if not subscription:
        VMExternRef.from_raw(user_data)     # the library did not take it: take it back
        raise MemoryError("the library could not subscribe")
    return subscription


def main():
    with TemporaryDirectory() as folder:
        lib = load(folder)
        log = Log()
        died = weakref.ref(log)
        ref = VMExternRef(log)

        subscription = subscribe(lib, ref.clone(), 5)
        lib.finish(subscription)
        print("events:       ", log)
        print("owners after: ", ref.strong_count)

        subscription = subscribe(lib, ref, 1)
        del log             # the library is the only owner now
        lib.finish(subscription)
        externref.drain()   # or wait: the main thread drains by itself, soon
        print("released:     ", died() is None)


if __name__ == "__main__":
    main()
