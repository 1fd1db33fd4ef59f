"""The user data of an SQL function is a Python object, which sqlite owns.

No C compiler: Python's ctypes calls the sqlite library, and `abi.drop_address` is the destructor. sqlite
calls it when the function is replaced, when the connection closes, on whichever thread that
happens, and when the function could not be created.

    python examples/sqlite_user_data.py
"""

import ctypes
import ctypes.util
import sys
import weakref

import externref
from externref import VMExternRef, abi

SQLITE_OK, SQLITE_UTF8 = 0, 1

Function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p))
Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

# Native code: it needs no GIL, so sqlite may call it on any thread.
destroy = Destructor(abi.drop_address)


def load():
    name = ctypes.util.find_library("sqlite3")
    if name is None:
        sys.exit("no sqlite library found: install it (Debian: apt-get install libsqlite3-0)")
    lib = ctypes.CDLL(name)
    lib.sqlite3_open.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)]
    lib.sqlite3_close.argtypes = [ctypes.c_void_p]
    lib.sqlite3_exec.argtypes = [ctypes.c_void_p, ctypes.c_char_p] + 3 * [ctypes.c_void_p]
    lib.sqlite3_create_function_v2.argtypes = [
        ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p,
        Function, ctypes.c_void_p, ctypes.c_void_p, Destructor]
    lib.sqlite3_user_data.argtypes = [ctypes.c_void_p]
    lib.sqlite3_user_data.restype = ctypes.c_void_p
    lib.sqlite3_value_int.argtypes = [ctypes.c_void_p]
    lib.sqlite3_result_null.argtypes = [ctypes.c_void_p]
    lib.sqlite3_result_null.restype = None
    return lib


class Log(list):
    """A list that can be watched by a weak reference."""


def main():
    lib = load()

    @Function
    def log(context, count, values):
        # sqlite lends the pointer for the call; the clone is ours.
        numbers = VMExternRef.clone_from_raw(lib.sqlite3_user_data(context)).value
        numbers.extend(lib.sqlite3_value_int(values[i]) for i in range(count))
        lib.sqlite3_result_null(context)

    database = ctypes.c_void_p()
    if lib.sqlite3_open(b":memory:", database) != SQLITE_OK:
        sys.exit("sqlite could not open a database in memory")
    numbers = Log()
    died = weakref.ref(numbers)
    # Moved: sqlite is the owner now, whatever it returns.
    user_data = VMExternRef(numbers).into_raw()
    created = lib.sqlite3_create_function_v2(database, b"log", -1, SQLITE_UTF8, user_data, log, None, None, destroy)
    if created != SQLITE_OK:
        sys.exit("sqlite could not create the function")
    lib.sqlite3_exec(database, b"SELECT log(1), log(2, 3)", None, None, None)
    print("logged:            ", numbers)

    del numbers         # sqlite is the only owner
    print("alive while open:  ", died() is not None)
    lib.sqlite3_close(database)
    externref.drain()   # or wait: the main thread drains by itself, soon
    print("released:          ", died() is None)


if __name__ == "__main__":
    main()
