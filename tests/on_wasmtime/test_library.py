"""What is checked at import: the version of wasmtime-py, its declarations, its absence."""

import pytest

# name: (what is changed before the import, words of the ImportError)
CASES = {
    "too old": ("metadata.version = lambda name: '44.0.0'", ["tested with wasmtime 45 to", "not 44.0.0"]),
    "too new": ("metadata.version = lambda name: '999.1.2'", ["tested with", "not 999.1.2"]),
    "not installed": ("import sys\nsys.modules['wasmtime'] = None", ["needs wasmtime-py", "externref[wasmtime]"]),
    "without metadata": ("def missing(name): raise metadata.PackageNotFoundError(name)\nmetadata.version = missing",
                         ["cannot tell the version", "dist-info"]),
    "a struct of another size": ("ffi.wasmtime_externref_t = ffi.wasmtime_func_t",
                                 ["wasmtime_externref_t with 16 bytes", "24 bytes"]),
    "a struct of another layout": ("""
class wasmtime_val(ctypes.Structure):
    _fields_ = [("of", ffi.wasmtime_valunion_t), ("kind", ctypes.c_uint64)]
ffi.wasmtime_val_t = wasmtime_val""", ["wasmtime_val_t ", "'kind'"]),
    "a struct that is gone": ("del ffi.wasmtime_val_raw_t", ["wasmtime_val_raw_t with 0 bytes"]),
    "a function that is gone": ("""
class Library:
    def __getattr__(self, name, dll=ffi.dll):
        if name == "wasmtime_trap_new": raise AttributeError(name)
        return getattr(dll, name)
ffi.dll = Library()""", ["no wasmtime_trap_new"]),
    "a function of another signature": ("ffi.dll.wasmtime_context_gc.restype = None",
                                        ["wasmtime_context_gc", "'vp'", "'pp'"]),
    "a function with another parameter": ("ffi.dll.wasmtime_table_get.argtypes = [ctypes.c_void_p] * 4",
                                          ["wasmtime_table_get", "'bpppp'"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_clear_import_error(run_python, case):
    change, words = CASES[case]
    message = run_python(f"""
import ctypes
from importlib import metadata
import wasmtime
from wasmtime import _ffi as ffi
{change}
try: import externref.wasmtime
except ImportError as error: print(error)
""")
    assert message and all(word in message for word in words), message


def test_the_library_is_the_one_that_wasmtime_py_loaded(run_python):
    assert run_python("""
import externref.wasmtime
with open("/proc/self/maps") as file:
    print(len({line.split()[-1] for line in file if "wasmtime.so" in line and "externref" not in line}))
""") == "1\n"


# `store` cannot be closed in a call
GUARDED = """
store = wasmtime.Store()
def close():
    try: store.close()
    except RuntimeError as error: print(error)
host = ew.func(store, wasmtime.FuncType([], []), close)
module = wasmtime.Module(store.engine, '(module (import "" "" (func $host)) (func (export "run") call $host))')
wasmtime.Instance(store, module, [host]).exports(store)["run"](store)
"""
REFUSED = "the store is in use: it cannot be closed from within a call"


@pytest.mark.parametrize("name", ["Store", "Store._delete", "_value._intern"])
def test_what_a_test_replaces_in_the_import_is_changed_later(run_python, name):
    """At its end it puts back what was there."""
    refused, module = run_python(f"""
from unittest import mock
import wasmtime
with mock.patch("wasmtime.{name}"):
    import externref.wasmtime as ew
{GUARDED}
print(wasmtime.{name}.__module__)
""").splitlines()
    assert refused == REFUSED and module == {"Store": "wasmtime._store", "Store._delete": "externref.wasmtime.patches",
                                             "_value._intern": "externref.wasmtime._calls"}[name]


def test_what_a_test_replaces_is_not_taken_for_wasmtime_pys(run_python):
    names = ["_store.Store", "_engine.Engine", "_func.enter_wasm", "_ffi.wasmtime_component_func_call", "_value.SLAB",
             "_value._externref_finalizer", "Engine.increment_epoch", "Store.set_epoch_deadline"]
    *errors, refused = run_python(f"""
from unittest import mock
import wasmtime
for name in {names}:
    for autospec in (False, True):
        with mock.patch(f"wasmtime.{{name}}", autospec=autospec):
            try: import externref.wasmtime as ew
            except ImportError as error: print(error)
import externref.wasmtime as ew
{GUARDED}
""").splitlines()
    assert refused == REFUSED and len(errors) == 2 * len(names)
    for i, error in enumerate(errors):
        assert "while something else is in the place of" in error and names[i // 2] in error


def test_an_interrupt_in_the_import(run_python):
    """Whenever it comes, wasmtime-py goes on, and the import can be made again."""
    assert run_python(f"""
import itertools, sys, wasmtime

def interrupt(frame, event, unused):
    global lines
    if not frame.f_code.co_filename.endswith("wasmtime/patches.py"):
        return None
    if event == "line":
        lines -= 1
        if lines == 0:
            sys.settrace(None)
            raise KeyboardInterrupt
    return interrupt

for count in itertools.count(1):
    lines = count
    sys.settrace(interrupt)
    try: import externref.wasmtime as ew
    except KeyboardInterrupt: pass
    else: break
    finally: sys.settrace(None)
    used = wasmtime.Store()
    used.set_epoch_deadline(1)
    used.engine.increment_epoch()
    wasmtime.Instance(used, wasmtime.Module(used.engine, '(module)'), [])
assert count > 20
{GUARDED}
""") == f"{REFUSED}\n"


@pytest.mark.parametrize("name", ["ctypes.addressof", "_ctypes.addressof"])
def test_addresses_are_ctypes_own(run_python, name):
    said, _, refused = run_python(f"""
from unittest import mock
import wasmtime
with mock.patch({name!r}):
    try: import externref.wasmtime
    except ImportError as error: print(error, end="")
print()
import externref.wasmtime as ew
{GUARDED}
""").partition("\n")
    assert ("in the place of _ctypes.addressof" in said) == (name == "_ctypes.addressof")
    assert refused == f"{REFUSED}\n"
