"""externref.h, without Python: its numbers frozen, its atomics watched, its use in C and C++. Promise P4."""

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

import externref
from externref import VMExternRef
from support import TESTS, run_compiler

LANGUAGES = {"C99": "-xc -std=gnu99", "C11": "-xc -std=c11", "C++17": "-xc++ -std=c++17"}
EXTENSION = ("-DEXTENSION", "-isystem", sysconfig.get_path("include"))


def include_with(folder, name, old, new):
    """A copy of the package's headers in which one text is another."""
    include = shutil.copytree(externref.get_include(), folder / "include")
    text = (include / name).read_text()
    assert text.count(old) == 1
    (include / name).write_text(text.replace(old, new))
    return include


# -- The ABI does not change unnoticed

@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("options", [(), EXTENSION], ids=["externref.h", "externref_api.h"])
def test_abi_is_frozen(compilers, language, options, tmp_path):
    for compiler in compilers:
        run_compiler(compiler, *LANGUAGES[language].split(), *options, "-c", TESTS / "c/freeze.c",
                     "-o", tmp_path / "freeze.o")


@pytest.mark.parametrize("name, old, new, advice", [
    ("externref.h", "uint32_t state;", "uint32_t state; void *more;", "raise EXTERNREF_ABI_VERSION"),
    ("externref.h", "const char *type_name;", "size_t flags; const char *type_name;", "raise EXTERNREF_ABI_VERSION"),
    ("externref.h", "#define EXTERNREF_ABI_VERSION 1", "#define EXTERNREF_ABI_VERSION 2", "docs/abi.md"),
    ("externref_api.h", "(*take_object)(void *);", "(*take_object)(void *); int (*more)(void);", "at the end"),
    ("externref_api.h", "void *(*unwrap)(PyObject *);", "", "raise EXTERNREF_API_VERSION"),
    ("externref_api.h", "PyObject *(*wrap)(void *);", "PyObject *(*wrap)(void *, int);", "incompatible"),
])
def test_a_change_of_the_abi_fails_and_says_what_to_do(compilers, tmp_path, name, old, new, advice):
    include = include_with(tmp_path, name, old, new)
    with pytest.raises(AssertionError, match=advice):
        run_compiler(compilers[0], "-xc", "-std=c11", "-I", include, *EXTENSION, "-c", TESTS / "c/freeze.c",
                     "-o", tmp_path / "freeze.o")


def test_every_function_is_in_the_contract():
    contract = (TESTS.parent / "docs/abi.md").read_text(encoding="utf-8")
    include = Path(externref.get_include())
    functions = re.findall(r"^# *define (externref_\w+)\(", (include / "externref_api.h").read_text(), re.MULTILINE)
    assert len(functions) == 12
    assert [name for name in functions if f"`{name}(" not in contract] == []


# -- Counts

FINAL = "count 0, slow drops 1, writes seen 200000\n"


def run_threads(compiler, folder, *options):
    program = folder / "threads"
    run_compiler(compiler, *options, "-O1", "-g", "-pthread", TESTS / "c/threads.c", "-o", program)
    return subprocess.run([program], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "TSAN_OPTIONS": "halt_on_error=1"})


@pytest.mark.parametrize("language", LANGUAGES)
def test_threads_leave_exact_counts(compilers, language, tmp_path):
    for compiler in compilers:
        result = run_threads(compiler, tmp_path, *LANGUAGES[language].split())
        assert (result.returncode, result.stdout, result.stderr) == (0, FINAL, "")


@pytest.fixture(scope="session")
def sanitizing(compilers, tmp_path_factory):
    """The compilers that have ThreadSanitizer."""
    source = tmp_path_factory.mktemp("tsan") / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    program = source.with_suffix("")
    found = [compiler for compiler in compilers
             if subprocess.run([compiler, "-fsanitize=thread", source, "-o", program], capture_output=True).returncode == 0
             and subprocess.run([program], capture_output=True).returncode == 0]
    return found or pytest.skip("no compiler has ThreadSanitizer")


def test_threads_under_thread_sanitizer(sanitizing, tmp_path):
    for compiler in sanitizing:
        result = run_threads(compiler, tmp_path, "-fsanitize=thread")
        assert (result.returncode, result.stdout, result.stderr) == (0, FINAL, "")


@pytest.mark.parametrize("old, new", [
    ("__atomic_fetch_sub((count), 1, __ATOMIC_RELEASE)", "__atomic_fetch_sub((count), 1, __ATOMIC_RELAXED)"),
    ("__atomic_load_n((count), __ATOMIC_ACQUIRE)", "__atomic_load_n((count), __ATOMIC_RELAXED)"),
    ("((void)__atomic_fetch_add((count), 1, __ATOMIC_RELAXED))", "((void)++*(count))"),
], ids=["no release", "no acquire", "not atomic"])
def test_thread_sanitizer_would_tell(sanitizing, tmp_path, old, new):
    include = include_with(tmp_path, "externref.h", old, new)
    # It sees a race only where the threads did meet.
    assert any("ThreadSanitizer: data race" in run_threads(
        sanitizing[0], tmp_path, "-fsanitize=thread", "-I", include).stderr for _ in range(100))


def test_library_keeps_and_returns_references_under_ctypes(foreign):
    values = [object() for _ in range(100)]
    refs = [VMExternRef(value) for value in values]
    for ref in refs:
        assert foreign.keep(ref.clone().into_raw()) == 0
    assert [ref.strong_count for ref in refs] == [2] * 100
    del refs, ref
    assert externref.stats() == (100, 0, 0, 0)
    for value in reversed(values):
        ref = VMExternRef.from_raw(foreign.take())
        assert (ref.value is value, ref.strong_count) == (True, 1)
    assert foreign.take() is None
