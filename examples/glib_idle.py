"""The user data of a GLib source is a Python object, which the source owns.

No C compiler: Python's ctypes calls GLib, and `abi.drop_address` is the GDestroyNotify. GLib calls it on
the thread that runs the main loop, which here is one of GLib's own.

    python examples/glib_idle.py
"""

import ctypes
import ctypes.util
import sys
import weakref

import externref
from externref import VMExternRef, abi

G_PRIORITY_DEFAULT_IDLE = 200
G_SOURCE_REMOVE, G_SOURCE_CONTINUE = 0, 1

SourceFunc = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
DestroyNotify = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

# Native code: it needs no GIL, so GLib may call it on any thread.
destroy = DestroyNotify(abi.drop_address)


def load():
    name = ctypes.util.find_library("glib-2.0")
    if name is None:
        sys.exit("no GLib found: install it (Debian: apt-get install libglib2.0-0)")
    lib = ctypes.CDLL(name)
    lib.g_main_loop_new.argtypes = [ctypes.c_void_p, ctypes.c_int]
    lib.g_main_loop_new.restype = ctypes.c_void_p
    lib.g_main_loop_quit.argtypes = lib.g_main_loop_unref.argtypes = [ctypes.c_void_p]
    lib.g_idle_add_full.argtypes = [ctypes.c_int, SourceFunc, ctypes.c_void_p, DestroyNotify]
    lib.g_idle_add_full.restype = ctypes.c_uint
    lib.g_thread_new.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p]
    lib.g_thread_new.restype = ctypes.c_void_p
    lib.g_thread_join.argtypes = [ctypes.c_void_p]
    return lib


class Work:
    def __init__(self, steps):
        self.steps = steps


def main():
    lib = load()
    loop = lib.g_main_loop_new(None, False)

    @SourceFunc
    def step(user_data):
        # GLib lends the pointer for the call; the clone is ours.
        work = VMExternRef.clone_from_raw(user_data).value
        print("step:     ", work.steps.pop(0))
        if work.steps:
            return G_SOURCE_CONTINUE
        lib.g_main_loop_quit(loop)
        return G_SOURCE_REMOVE      # and so destroys the source

    work = Work(["one", "two", "three"])
    died = weakref.ref(work)
    lib.g_idle_add_full(G_PRIORITY_DEFAULT_IDLE, step, VMExternRef(work).into_raw(), destroy)
    del work            # the source is the only owner

    thread = lib.g_thread_new(b"loop", lib.g_main_loop_run, loop)
    lib.g_thread_join(thread)
    lib.g_main_loop_unref(loop)
    externref.drain()   # or wait: the main thread drains by itself, soon
    print("released: ", died() is None)


if __name__ == "__main__":
    main()
