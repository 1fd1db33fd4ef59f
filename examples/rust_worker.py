"""A Rust thread that owns Python objects.

The library (rust/worker.rs) has a `PyRef` (rust/externref.rs, which is to be copied) for each object that it is
sent: `Send`, `Sync`, `Clone`, and dropped on a thread of Rust's, without the GIL.

    python examples/rust_worker.py
"""

import ctypes
import weakref
from tempfile import TemporaryDirectory

from _build import build_rust_library

import externref
from externref import VMExternRef, abi, option_into_raw

Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def load(folder):
    lib = ctypes.CDLL(build_rust_library("rust/worker.rs", folder))
    assert lib.abi_version() == abi.ABI_VERSION, "the library is for another version of externref"
    lib.start.argtypes, lib.start.restype = [Callback], ctypes.c_void_p
    lib.send.argtypes, lib.send.restype = [ctypes.c_void_p, ctypes.c_void_p], None
    lib.stop.argtypes, lib.stop.restype = [ctypes.c_void_p], None
    return lib


class Order:
    def __init__(self, text):
        self.text = text


def main():
    with TemporaryDirectory() as folder:
        lib = load(folder)

        @Callback
        def work(raw):
            # Rust lends the pointer for the call; the clone is ours.
            order = VMExternRef.clone_from_raw(raw).value if raw else None
            print("worked on:  ", order and order.text)

        orders = [Order("one"), Order("two"), None]
        died = [weakref.ref(order) for order in orders if order]
        worker = lib.start(work)
        for order in orders:
            ref = VMExternRef(order) if order else None
            lib.send(worker, option_into_raw(ref))      # moved: the worker is the owner
        del order, orders, ref

        lib.stop(worker)
        externref.drain()       # or wait: the main thread drains by itself, soon
        print("released:   ", all(weak() is None for weak in died))


if __name__ == "__main__":
    main()
