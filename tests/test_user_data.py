"""A `void *user_data` that owns an object, in sqlite and GLib: `abi.drop_address` is the destructor. Promises P2 and P8.

No C compiler is needed: ctypes calls the libraries, and threads of their own, or of the C library,
call the destructor without the GIL.
"""

import ctypes
import ctypes.util

import pytest

import externref
from externref import VMExternRef, abi
from support import Payload, on_native_threads, wait_until_drained

Destroy = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
destroy = Destroy(abi.drop_address)


def load(name, package):
    found = ctypes.util.find_library(name)
    return ctypes.CDLL(found) if found else pytest.skip(f"no lib{name} found: install {package}")


def address_of(function):
    return ctypes.cast(function, ctypes.c_void_p).value


# -- sqlite

SQLITE_OK, SQLITE_MISUSE, SQLITE_UTF8 = 0, 21, 1
SqlFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p))


@pytest.fixture(scope="module")
def sqlite():
    lib = load("sqlite3", "libsqlite3-0")
    lib.sqlite3_open.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)]
    lib.sqlite3_close.argtypes = [ctypes.c_void_p]
    lib.sqlite3_exec.argtypes = [ctypes.c_void_p, ctypes.c_char_p] + 3 * [ctypes.c_void_p]
    lib.sqlite3_create_function_v2.argtypes = [
        ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, SqlFunction, ctypes.c_void_p,
        ctypes.c_void_p, Destroy]
    lib.sqlite3_user_data.argtypes, lib.sqlite3_user_data.restype = [ctypes.c_void_p], ctypes.c_void_p
    lib.sqlite3_result_int.argtypes, lib.sqlite3_result_int.restype = [ctypes.c_void_p, ctypes.c_int], None
    return lib


@pytest.fixture
def open_database(sqlite):
    def open_database():
        database = ctypes.c_void_p()
        assert sqlite.sqlite3_open(b":memory:", database) == SQLITE_OK
        return database.value
    return open_database


@SqlFunction
def nothing(context, count, values):
    """A function for SQL that is never called."""


def own(sqlite, database, ref, name=b"f", function=nothing):
    """Moves a reference into a database, as a function's user data."""
    return sqlite.sqlite3_create_function_v2(database, name, -1, SQLITE_UTF8, ref.into_raw(), function, None, None, destroy)


def test_sql_function_uses_its_object(sqlite, open_database):
    calls = []

    @SqlFunction
    def count(context, count, values):
        ref = VMExternRef.clone_from_raw(sqlite.sqlite3_user_data(context))
        ref.value.append(count)
        calls.append(ref.strong_count)
        sqlite.sqlite3_result_int(context, 7)

    database, ref, counted = open_database(), None, []
    ref = VMExternRef(counted)
    assert own(sqlite, database, ref.clone(), function=count) == SQLITE_OK
    assert ref.strong_count == 2
    assert sqlite.sqlite3_exec(database, b"SELECT f(1, 2, 3), f()", None, None, None) == SQLITE_OK
    assert (counted, calls, ref.strong_count) == ([3, 0], [3, 3], 2)
    assert sqlite.sqlite3_close(database) == SQLITE_OK
    assert ref.strong_count == 1


def test_function_that_is_replaced_and_one_that_fails(sqlite, open_database):
    dropped = []
    database = open_database()
    assert own(sqlite, database, VMExternRef(Payload(dropped, "first"))) == SQLITE_OK
    assert own(sqlite, database, VMExternRef(Payload(dropped, "second"))) == SQLITE_OK
    externref.drain()
    assert dropped == ["first"]
    ref = VMExternRef(Payload(dropped, "refused"))
    assert own(sqlite, database, ref.clone(), b"too long" * 100) == SQLITE_MISUSE
    assert ref.strong_count == 1        # sqlite destroys what it was given then, too
    assert sqlite.sqlite3_close(database) == SQLITE_OK
    externref.drain()
    assert dropped == ["first", "second"]


def test_databases_that_native_threads_close(sqlite, open_database):
    dropped = []
    for _ in range(5):
        shared = VMExternRef(Payload(dropped, "shared"))
        databases = [open_database() for _ in range(8)]
        for n, database in enumerate(databases):
            assert own(sqlite, database, VMExternRef(Payload(dropped, n))) == SQLITE_OK
            assert own(sqlite, database, shared.clone(), b"shared") == SQLITE_OK
        assert shared.strong_count == 9 and dropped == []
        on_native_threads(*[(address_of(sqlite.sqlite3_close), database) for database in databases])
        assert shared.strong_count == 1
        del shared
        wait_until_drained()
        assert sorted(dropped, key=str) == [*range(8), "shared"]
        dropped.clear()


# -- GLib

G_SOURCE_REMOVE, G_SOURCE_CONTINUE = 0, 1
SourceFunc = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)


@pytest.fixture(scope="module")
def glib():
    lib = load("glib-2.0", "libglib2.0-0")
    lib.g_main_context_iteration.argtypes = [ctypes.c_void_p, ctypes.c_int]
    lib.g_main_loop_new.argtypes, lib.g_main_loop_new.restype = [ctypes.c_void_p, ctypes.c_int], ctypes.c_void_p
    lib.g_main_loop_quit.argtypes = lib.g_main_loop_unref.argtypes = [ctypes.c_void_p]
    lib.g_idle_add_full.argtypes = [ctypes.c_int, SourceFunc, ctypes.c_void_p, Destroy]
    lib.g_source_remove.argtypes = [ctypes.c_uint]
    lib.g_thread_new.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p]
    lib.g_thread_new.restype = ctypes.c_void_p
    lib.g_thread_join.argtypes = [ctypes.c_void_p]
    return lib


def test_idle_source_uses_its_object_and_lets_go(glib):
    counts = []

    @SourceFunc
    def step(user_data):
        ref = VMExternRef.clone_from_raw(user_data)
        counts.append(ref.strong_count)
        return G_SOURCE_CONTINUE if ref.value.pop() else G_SOURCE_REMOVE

    ref = VMExternRef([0, 1, 1])
    glib.g_idle_add_full(0, step, ref.clone().into_raw(), destroy)
    assert ref.strong_count == 2
    for _ in range(3):
        assert glib.g_main_context_iteration(None, False) == 1
    assert (ref.value, counts, ref.strong_count) == ([], [3, 3, 3], 1)


def test_main_loop_on_a_thread_of_glibs(glib):
    """Sources run, and are destroyed, there; the last drop is the loop's, without the GIL."""
    dropped, ran = [], []
    loop = glib.g_main_loop_new(None, False)

    @SourceFunc
    def step(user_data):
        ran.append(VMExternRef.clone_from_raw(user_data).value.name)
        if len(ran) == 100:
            glib.g_main_loop_quit(loop)
        return G_SOURCE_REMOVE

    for n in range(100):
        glib.g_idle_add_full(0, step, VMExternRef(Payload(dropped, n)).into_raw(), destroy)
    assert dropped == [] and externref.stats().live_blocks == 100
    glib.g_thread_join(glib.g_thread_new(b"loop", address_of(glib.g_main_loop_run), loop))
    glib.g_main_loop_unref(loop)
    wait_until_drained()
    assert ran == list(range(100)) and sorted(dropped) == ran


def test_sources_that_native_threads_remove(glib):
    @SourceFunc
    def never(user_data):
        raise AssertionError("ran")

    dropped = []
    shared = VMExternRef(Payload(dropped, "shared"))
    tags = [glib.g_idle_add_full(0, never, shared.clone().into_raw(), destroy) for _ in range(8)]
    tags += [glib.g_idle_add_full(0, never, VMExternRef(Payload(dropped, n)).into_raw(), destroy) for n in range(8)]
    assert shared.strong_count == 9
    on_native_threads(*[(address_of(glib.g_source_remove), tag) for tag in tags])
    assert shared.strong_count == 1 and "shared" not in dropped
    externref.drain()
    assert sorted(dropped) == list(range(8))


# -- Exit

PRELUDE = """
import ctypes, ctypes.util, os
from externref import VMExternRef, abi
class Loud:
    def __del__(self, write=os.write): write(1, b"dropped\\n")
libc = ctypes.CDLL(None)
libc.strdup.restype = ctypes.c_void_p
destroy = ctypes.c_void_p(abi.drop_address)
def address_of(function): return ctypes.cast(function, ctypes.c_void_p)
def after_python(function, word):
    assert libc.__cxa_atexit(address_of(function), ctypes.c_void_p(word), None) == 0
def say_after_python(text):     # said after all that is registered later
    after_python(libc.puts, libc.strdup(text))
def on_a_native_thread(function, word):
    thread = ctypes.c_ulong()
    assert libc.pthread_create(ctypes.byref(thread), None, address_of(function), ctypes.c_void_p(word)) == 0
    assert libc.pthread_detach(thread) == 0
def raw(): return ctypes.c_void_p(VMExternRef(Loud()).into_raw())
"""

SQLITE_PRELUDE = PRELUDE + """
sqlite = ctypes.CDLL(ctypes.util.find_library("sqlite3"))
def database():
    database = ctypes.c_void_p()
    assert sqlite.sqlite3_open(b":memory:", ctypes.byref(database)) == 0
    # Never called: any address of a function will do.
    assert sqlite.sqlite3_create_function_v2(database, b"f", -1, 1, raw(), address_of(libc.puts), None, None, destroy) == 0
    return database.value
"""

GLIB_PRELUDE = PRELUDE + """
glib = ctypes.CDLL(ctypes.util.find_library("glib-2.0"))
glib.g_main_loop_new.restype = ctypes.c_void_p
# The callback is native code, which Python's exit does not stop: isatty(), which takes any
# word for an int, which no terminal has, and gives 0: G_SOURCE_REMOVE.
def source(): return glib.g_idle_add_full(0, address_of(libc.isatty), raw(), destroy)
"""

# name: (prelude, program, what it must print). What is dropped after Python is never released.
CASES = {
    "sqlite, open": (SQLITE_PRELUDE, "database()", ""),
    "sqlite, closed": (SQLITE_PRELUDE, "sqlite.sqlite3_close(ctypes.c_void_p(database()))", "dropped\n"),
    "sqlite, closed by atexit": (SQLITE_PRELUDE, """
import atexit; atexit.register(sqlite.sqlite3_close, ctypes.c_void_p(database()))""", "dropped\n"),
    "sqlite, closed after Python": (SQLITE_PRELUDE, """
say_after_python(b"closed"); after_python(sqlite.sqlite3_close, database())""", "closed\n"),
    "GLib, waiting": (GLIB_PRELUDE, "source()", ""),
    "GLib, removed": (GLIB_PRELUDE, "glib.g_source_remove(source())", "dropped\n"),
    "GLib, removed after Python": (GLIB_PRELUDE, """
say_after_python(b"removed"); after_python(glib.g_source_remove, source())""", "removed\n"),
}


@pytest.mark.parametrize("case", CASES)
def test_exit(run_python, request, case):
    prelude, program, expected = CASES[case]
    request.getfixturevalue("sqlite" if prelude is SQLITE_PRELUDE else "glib")
    assert run_python(prelude + program) == expected


@pytest.mark.parametrize("library", ["sqlite", "glib"])
def test_exit_while_native_threads_destroy(run_python, request, library):
    request.getfixturevalue(library)
    prelude, program = {
        "sqlite": (SQLITE_PRELUDE, "for _ in range(50): on_a_native_thread(sqlite.sqlite3_close, database())"),
        "glib": (GLIB_PRELUDE, """
for _ in range(20_000): source()
on_a_native_thread(glib.g_main_loop_run, glib.g_main_loop_new(None, False))
"""),
    }[library]
    for _ in range(3):
        said = run_python(prelude + program)
        assert set(said.splitlines()) <= {"dropped"}    # how many is a race; none of them may say anything else
