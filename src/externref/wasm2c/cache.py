"""The cache of compiled modules: a folder of libraries that only this user could have written.

A library runs as this process, so one that somebody else may have put there is not loaded. On POSIX
systems the folder and the file must belong to the effective user (to root, then, if that is root)
and be writable by no one else, and no other user may put another folder in its place: every folder
that leads to it must belong to root or the user, and be writable by others only if it is sticky, as
/tmp is. Links are followed first. Elsewhere nothing of this is checked.

Where the cache cannot be used there is none: modules are compiled every time.
"""

import contextlib
import hashlib
import logging
import os
import stat
import tempfile
from pathlib import Path

from externref.wasm2c.tools import CompileError

logger: logging.Logger = logging.getLogger("externref.wasm2c")


class UnusableError(Exception):
    """The cache cannot be used; the text says why."""


def cache_folder() -> Path:
    """Where compiled modules are kept: $EXTERNREF_CACHE_DIR, else the user's cache folder."""
    chosen = os.environ.get("EXTERNREF_CACHE_DIR")
    if chosen:
        return Path(chosen)
    try:
        import platformdirs
    except ImportError:
        raise CompileError('platformdirs is not installed: pip install "externref[wasm2c]", '
                           "set EXTERNREF_CACHE_DIR, or pass cache=False") from None
    return Path(platformdirs.user_cache_dir("externref", appauthor=False)) / "wasm2c"


def open_folder() -> Path | None:
    """The cache folder, made if there is none, as a path without links; None if it cannot be used."""
    chosen = cache_folder()
    try:
        folder = Path(os.path.realpath(chosen))
        for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)    # another process may be at the same
        if not folder.is_dir():
            raise UnusableError(f"{folder} is no folder")
        check_folder(folder)
    except (OSError, UnusableError) as error:
        logger.info("The cache of compiled modules is not used: %s", error)
        return None
    return folder


def check_folder(folder: Path) -> None:
    """Raises UnusableError if another user may write in the folder, or put another in its place."""
    if os.name != "posix":
        return
    check_ours(folder.lstat(), folder)
    for path in folder.parents:
        status = path.lstat()
        others_write = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
        if others_write or status.st_uid not in (0, os.geteuid()):
            raise UnusableError(f"others may replace what is in {path}")


def check_ours(status: os.stat_result, path: Path) -> None:
    """Raises UnusableError if another user may write there."""
    if os.name == "posix" and (status.st_uid != os.geteuid() or status.st_mode & 0o022):
        raise UnusableError(f"others may write to {path}")


def with_digest(library: bytes) -> bytes:
    """A library followed by its hash. Loaders ignore what follows; loading one that was cut off can
    kill the process, so that is found out before."""
    return library + hashlib.sha256(library).digest()


def is_whole(kept: Path) -> bool:
    """Whether the cache has this file, of this user, as with_digest() made it."""
    try:
        # Opened first: what is looked at is what is read. A FIFO would block, a link may lead anywhere.
        handle = os.open(kept, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
                         | getattr(os, "O_NONBLOCK", 0))
        with open(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                return False
            check_ours(status, kept)
            data = file.read()
    except FileNotFoundError:
        return False
    except (OSError, UnusableError) as error:
        logger.info("A compiled module in the cache is not used: %s", error)
        return False
    return with_digest(data[:-32]) == data


def keep(library: Path, kept: Path) -> bool:
    """Puts the library into the cache; whether that was possible."""
    try:
        # Another process may be at the same: whole files only, the last one stays.
        handle, temporary = tempfile.mkstemp(dir=kept.parent, suffix=kept.suffix)
        try:
            with open(handle, "wb") as file:
                file.write(with_digest(library.read_bytes()))
            os.chmod(temporary, 0o700)
            os.replace(temporary, kept)
        except BaseException:
            with contextlib.suppress(OSError):      # it is in its place
                os.unlink(temporary)
            raise
    except OSError as error:
        logger.info("A compiled module is not kept: %s", error)
        return False
    return True
