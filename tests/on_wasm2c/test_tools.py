"""What compile() does with its tools: how it runs and ends them, and what it says of one that fails."""

import gc
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest

from externref import wasm2c
from externref.wasm2c import tools
from externref.wasm2c.tools import Tools

TEXT = '(module (func (export "f") (result i32) (i32.const 5)))'
posix = pytest.mark.skipif(os.name != "posix", reason="of POSIX")


def compile(source=TEXT, **options):
    return wasm2c.compile(source, cache=False, **options)


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Makes $CC a shell script of these lines."""
    def make(lines):
        path = tmp_path / "my cc"
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o755)
        monkeypatch.setenv("CC", f"'{path}' -v")
        return path
    return make


@posix
def test_a_signal_that_killed_a_tool_is_named(script):
    script('kill -SEGV $$')
    with pytest.raises(wasm2c.CompileError, match="my cc was killed by SIGSEGV"):
        compile()
    with pytest.raises(wasm2c.CompileError, match=f"was killed by signal {signal.SIGRTMIN + 1}"):
        Tools().run(sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 1)")


@pytest.mark.parametrize("text, message", [
    ("(i8x16.relaxed_swizzle (v128.const i32x4 1 2 3 4) (v128.const i32x4 0 0 0 0))", "opcode not allowed: i8x16.relaxed_swizzle"),
    ("(f32x4.relaxed_madd (v128.const i32x4 1 2 3 4) (v128.const i32x4 0 0 0 0) (v128.const i32x4 0 0 0 0))", "opcode not allowed"),
], ids=range(2))
def test_relaxed_simd_is_refused(text, message):
    with pytest.raises(wasm2c.CompileError, match=message):
        compile(f'(module (func (export "f") (drop {text})))')


@pytest.mark.parametrize("source", ["\udc80", "(module)\ud800"])
def test_a_text_that_is_no_unicode(source):
    with pytest.raises(wasm2c.CompileError, match="no Unicode.*surrogates"):
        compile(source)


@posix
def test_a_compiler_that_writes_nothing(script, monkeypatch):
    link = 'for a; do case "$a" in *.o) o="$a";; esac; done; case "$*" in *" -c "*) : > "$o"; : > "${o%.o}.su";; esac'
    monkeypatch.setenv("CC", shutil.which("true"))
    with pytest.raises(wasm2c.CompileError, match="made no library"):
        compile()
    script(link)
    with pytest.raises(wasm2c.CompileError, match="made no library"):
        compile()
    script(link.replace(': > "${o%.o}.su"', ":"))
    with pytest.raises(wasm2c.CompileError, match="does not say how large stack frames are"):
        compile()


@posix
def test_cc_and_cflags_are_split_as_a_shell_does(script, compilers, monkeypatch):
    script(f'test "$1" = -v || exit 9; shift; for a; do test "$a" = "-DX=\'a b\'" && exec {compilers[0]} "$@"; done; exit 8')
    monkeypatch.setenv("CFLAGS", '''"-DX='a b'" -O1''')
    compile()
    for variable in ("CC", "CFLAGS"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "cc 'it")
            with pytest.raises(wasm2c.CompileError, match=rf"\${variable} is .*No closing quotation"):
                compile()


def test_a_temporary_folder_that_cannot_be_used(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(wasm2c.CompileError, match="no temporary folder can be made"):
        compile()


def gone(pid):
    """Whether the process has ended, or does within a second; a zombie has."""
    for _ in range(100):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")


@needs_proc
def test_a_timeout_ends_the_tools_and_their_children(script, tmp_path):
    script(f"sleep 100 & echo $! > '{tmp_path}/child'; echo $$ > '{tmp_path}/self'; wait")
    start = time.monotonic()
    with pytest.raises(wasm2c.CompileError, match="my cc was stopped: compiling took longer than 1 s"):
        compile(timeout=1)
    assert time.monotonic() - start < 20
    assert gone((tmp_path / "child").read_text().strip()) and gone((tmp_path / "self").read_text().strip())


@needs_proc
def test_an_interrupt_ends_them_too(script, tmp_path):
    script(f"sleep 100 & echo $! > '{tmp_path}/child'; kill -INT {os.getpid()}; wait")
    with pytest.raises(KeyboardInterrupt):
        compile()
    assert gone((tmp_path / "child").read_text().strip())


def children():
    """Those of this process that run, as /proc has them."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z" and int(parent) == os.getpid():
            found.add(status.parent.name)
    return found


@needs_proc
@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_interrupt_while_tools_start(monkeypatch, count):
    """It is the first that a tool does: Popen() has not returned yet, now and then."""
    monkeypatch.setattr(tools, "processors", lambda: 3)
    before = children()
    for _ in range(30):
        gc.collect()        # or the interrupt comes in a callback of what is freed, and ends with that
        with pytest.raises(KeyboardInterrupt):
            Tools().run_all([("sh", "-c", f"{act}; sleep 100 & wait")
                             for act in (f"kill -INT {os.getpid()}", ":", ":", ":", ":")[:count]])
        assert all(map(gone, children() - before))


class Alarm(BaseException):
    pass


@needs_proc
@pytest.mark.parametrize("again", [1, 0.01, 0.001])
def test_a_handler_that_raises_at_any_moment(monkeypatch, again):
    """And once more, and more often, while the first one is seen to."""
    monkeypatch.setattr(tools, "processors", lambda: 2)
    monkeypatch.setattr(sys, "unraisablehook", id)  # it may come in a callback, and in pytest's own hook
    before = children()

    def handler(number, frame):
        while frame is not None and frame.f_code is not Tools.run_all.__code__:
            frame = frame.f_back
        if frame is not None:
            signal.setitimer(signal.ITIMER_REAL, again)
            raise Alarm

    default = signal.signal(signal.SIGALRM, handler)
    try:
        for k in range(30):
            with pytest.raises(Alarm):
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + k * 0.0003, 0.05)
                Tools().run_all([("sh", "-c", "sleep 100 & wait")] * 3)
        signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, default)
    assert all(map(gone, children() - before))


def say(text):
    return sys.executable, "-c", f"print({text!r}, end='')"


def test_several_commands():
    assert Tools().run_all([]) == []
    assert Tools().run_all([say(k) for k in "one two three".split()]) == ["one", "two", "three"]


def test_no_more_commands_at_a_time_than_processors(monkeypatch, tmp_path):
    monkeypatch.setattr(tools, "processors", lambda: 2)
    code = f"""
import os, time
open(f"{tmp_path}/{{os.getpid()}}", "w").close()
time.sleep(0.05)
print(len(os.listdir("{tmp_path}")))
os.unlink(f"{tmp_path}/{{os.getpid()}}")"""
    counts = [int(output) for output in Tools().run_all([(sys.executable, "-c", code)] * 8)]
    assert max(counts) <= 2


@needs_proc
def test_one_that_fails_ends_the_others(monkeypatch, tmp_path):
    monkeypatch.setattr(tools, "processors", lambda: 2)
    long = f"sleep 100 & echo $! > '{tmp_path}/child'; mv '{tmp_path}/child' '{tmp_path}/made'; wait"
    fail = f"until test -e '{tmp_path}/made'; do sleep 0.01; done; echo no luck >&2; exit 3"
    start = time.monotonic()
    before = children()
    for commands in ([long, fail], [fail, long], [long, fail, *["sleep 100"] * 5]):
        with pytest.raises(wasm2c.CompileError, match="sh failed with exit status 3: no luck"):
            Tools().run_all([("sh", "-c", command) for command in commands])
        assert gone((tmp_path / "made").read_text().strip())
        (tmp_path / "made").unlink()
    assert time.monotonic() - start < 60 and all(map(gone, children() - before))


@needs_proc
def test_the_timeout_is_for_all_together(monkeypatch, tmp_path):
    monkeypatch.setattr(tools, "processors", lambda: 2)
    before = children()
    start = time.monotonic()
    with pytest.raises(wasm2c.CompileError, match="sh was stopped: compiling took longer than 0.5 s"):
        Tools(0.5).run_all([("sh", "-c", f"echo $$ > '{tmp_path}'/$$; sleep 100 & wait")] * 9)
    assert time.monotonic() - start < 20
    started = os.listdir(tmp_path)
    assert len(started) <= 2 and all(map(gone, started)) and all(map(gone, children() - before))


def test_a_command_that_cannot_be_run():
    for command in (("no such tool",), (sys.executable, "null \0 character")):
        with pytest.raises(wasm2c.CompileError, match=r"cannot be run"):
            Tools().run_all([say("one"), command])


@pytest.fixture
def terminal(monkeypatch):
    """Calls a function while standard error is a terminal; gives what that got."""
    pty = pytest.importorskip("pty")

    def run(function):
        ours, theirs = pty.openpty()
        with open(theirs, "w") as file:
            with monkeypatch.context() as patch:
                patch.setattr(sys, "stderr", file)
                function()
            file.write("END")
            file.flush()
            text = b""
            while not text.endswith(b"END"):
                text += os.read(ours, 10_000)
        os.close(ours)
        return text[:-3].decode()

    return run


def screen(text):
    """What a terminal's only line shows after each return of its cursor."""
    line, shown = "", []
    for part in text.split("\r"):
        line = part + line[len(part):]
        shown.append(line.rstrip())
    return shown


@pytest.mark.parametrize("count", [1, 3])
def test_a_terminal_shows_that_compiling_goes_on(terminal, monkeypatch, count):
    monkeypatch.setattr(tools, "PATIENCE", 0)
    monkeypatch.setattr(tools, "processors", lambda: count)
    commands = [say("done")] * (count - 1) + [(sys.executable, "-c", "import time; time.sleep(1.5)")]
    lines = screen(terminal(lambda: Tools().run_all(commands)))
    pieces = r"\d of 3 pieces, " if count == 3 else ""
    assert lines[-1] == "" and any(lines)
    assert all(re.fullmatch(rf"(externref: compiling the module, {pieces}\d+ s)?", line) for line in lines)


def test_the_line_is_written_over(terminal):
    def show():
        progress = tools.Progress(time.monotonic() - 100.5)
        for done, count in ((9, 10), (10, 10), (0, 1)):
            progress.start -= 100
            progress.show(done, count)
            progress.show(done, count)
        progress.clear()
        progress.clear()

    shown = [line for line in screen(terminal(show)) if line]
    assert [re.sub(r"\d\d s", "NN s", line) for line in shown] == [
        f"externref: compiling the module, {text}NN s" for text in ("9 of 10 pieces, 2", "10 of 10 pieces, 3", "4")]


def test_the_line_is_cleared_after_an_error(terminal, monkeypatch):
    monkeypatch.setattr(tools, "PATIENCE", 0)

    def fail():
        with pytest.raises(wasm2c.CompileError, match="exit status 4"):
            Tools().run(sys.executable, "-c", "import time; time.sleep(0.5); exit(4)")

    lines = screen(terminal(fail))
    assert lines[-1] == "" and any(lines)


def test_nothing_is_shown_of_what_is_quick(terminal):
    assert terminal(lambda: Tools().run(*say("one"))) == ""


def test_nothing_is_shown_where_there_is_no_terminal(monkeypatch, capsys):
    monkeypatch.setattr(tools, "PATIENCE", 0)
    Tools().run(sys.executable, "-c", "import time; time.sleep(0.5)")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys, "stderr", None)
    Tools().run(sys.executable, "-c", "import time; time.sleep(0.5)")


def test_timeouts():
    compile(timeout=100)
    compile(timeout=float("inf"))
    compile(timeout=10**400)
    with pytest.raises(wasm2c.CompileError, match="took longer than 0 s"):
        compile(timeout=0)
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout must be"):
            compile(timeout=wrong)
    with pytest.raises(TypeError):
        compile(timeout="1")
