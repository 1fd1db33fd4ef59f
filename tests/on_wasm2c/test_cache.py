"""The cache of compiled modules: where it is, who may have written there, and when there is none."""

import errno
import logging
import os
import shutil
import subprocess
import sys
import tempfile

import pytest

from externref import wasm2c

TEXT = '(module (func (export "f") (result i32) (i32.const 5)))'
posix = pytest.mark.skipif(os.name != "posix", reason="of POSIX")
root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="changes owners, as root only may")
NOBODY = 65534


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder that is not there yet."""
    folder = tmp_path / "deep" / "cache"
    monkeypatch.setenv("EXTERNREF_CACHE_DIR", str(folder))
    return folder


def works():
    with wasm2c.Store() as store:
        return wasm2c.compile(TEXT).instantiate(store).exports.f() == 5


def entries(folder):
    return sorted(folder.iterdir())


@pytest.fixture
def built(monkeypatch):
    """How many times a module was built."""
    calls = []
    build = wasm2c.compiler.build
    monkeypatch.setattr(wasm2c.compiler, "build", lambda *args: calls.append(1) or build(*args))
    return calls


def test_a_relative_folder(tmp_path, monkeypatch, built):
    monkeypatch.chdir(tmp_path)
    for folder in (".", "sub"):
        monkeypatch.setenv("EXTERNREF_CACHE_DIR", folder)
        assert works() and works()
    assert len(built) == 2 and len(list(tmp_path.rglob(f"*{wasm2c.compiler.LIBRARY_SUFFIX}"))) == 2


@posix
def test_it_is_made_for_the_user_alone(cache):
    old = os.umask(0)
    try:
        assert works()
    finally:
        os.umask(old)
    (entry,) = entries(cache)
    assert [path.stat().st_mode & 0o777 for path in (cache.parent, cache, entry)] == [0o700] * 3


@pytest.mark.parametrize("what", ["file", "below a file"])
def test_a_folder_that_cannot_be_made(cache, tmp_path, monkeypatch, built, what, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EXTERNREF_CACHE_DIR", str(tmp_path / "file" / ("" if what == "file" else "cache")))
    caplog.set_level(logging.INFO)
    assert works() and works() and len(built) == 2
    assert "cache of compiled modules is not used" in caplog.text


def test_a_full_disk(cache, monkeypatch, built, caplog):
    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    caplog.set_level(logging.INFO)
    assert works() and len(built) == 1 and entries(cache) == []
    assert "No space left" in caplog.text


def test_a_folder_that_cannot_be_written(cache, monkeypatch, built):
    def refuse(dir=None, **options):
        raise PermissionError(errno.EACCES, "Permission denied", dir)

    monkeypatch.setattr(tempfile, "mkstemp", refuse)    # root may write everywhere
    assert works() and len(built) == 1 and entries(cache) == []


def changes(cache):
    """What makes the cache one that is not trusted; how it is undone."""
    return {
        "folder for the group": (lambda: cache.chmod(0o770), lambda: cache.chmod(0o700)),
        "folder for all": (lambda: cache.chmod(0o707), lambda: cache.chmod(0o700)),
        "sticky folder for all": (lambda: cache.chmod(0o1777), lambda: cache.chmod(0o700)),
        "parent for all": (lambda: cache.parent.chmod(0o777), lambda: cache.parent.chmod(0o700)),
        "parent for the group": (lambda: cache.parent.chmod(0o770), lambda: cache.parent.chmod(0o700)),
    }


@posix
@pytest.mark.parametrize("name", ["folder for the group", "folder for all", "sticky folder for all", "parent for all",
                                  "parent for the group"])
def test_a_folder_that_others_may_write_to(cache, built, name):
    assert works() and len(built) == 1
    do, undo = changes(cache)[name]
    do()
    assert works() and len(built) == 2 and len(entries(cache)) == 1
    undo()
    assert works() and len(built) == 2


@posix
def test_a_sticky_parent_is_fine(cache, built):
    assert works()
    cache.parent.chmod(0o1777)
    assert works() and len(built) == 1


@posix
@pytest.mark.parametrize("mode", [0o722, 0o720, 0o702])
def test_a_library_that_others_may_write_to_is_made_again(cache, built, mode):
    assert works()
    (entry,) = entries(cache)
    entry.chmod(mode)
    assert works() and len(built) == 2
    assert [path.stat().st_mode & 0o777 for path in entries(cache)] == [0o700]


@root
def test_owners(cache, built):
    """Also as root: what is another user's is not trusted."""
    assert works()
    (entry,) = entries(cache)
    os.chown(entry, NOBODY, -1)
    assert works() and len(built) == 2 and entry.stat().st_uid == 0
    for folder in (cache, cache.parent):
        os.chown(folder, NOBODY, -1)
        assert works() and entry.stat().st_uid == 0
        os.chown(folder, 0, -1)
    assert len(built) == 4


@posix
@pytest.mark.parametrize("plant", ["link", "fifo", "folder"])
def test_what_is_no_file_is_not_loaded(cache, tmp_path, built, plant):
    assert works()
    (entry,) = entries(cache)
    moved = tmp_path / "moved"
    entry.rename(moved)
    {"link": lambda: entry.symlink_to(moved), "fifo": lambda: os.mkfifo(entry), "folder": lambda: entry.mkdir()}[plant]()
    assert works() and len(built) == 2 and len(entries(cache)) == 1


@posix
def test_a_link_to_the_folder_is_followed(cache, tmp_path, monkeypatch, built):
    assert works()
    (tmp_path / "link").symlink_to(cache)
    monkeypatch.setenv("EXTERNREF_CACHE_DIR", str(tmp_path / "link"))
    assert works() and len(built) == 1
    cache.parent.chmod(0o777)       # of where it leads, not of the link
    assert works() and len(built) == 2
    cache.parent.chmod(0o700)
    shutil.rmtree(cache)
    assert works() and len(entries(cache)) == 1


@posix
@pytest.mark.parametrize("where", ["the folder", "above it"])
def test_links_in_a_circle(tmp_path, monkeypatch, built, caplog, where):
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    monkeypatch.setenv("EXTERNREF_CACHE_DIR", str(tmp_path / "one" / ("" if where == "the folder" else "cache")))
    caplog.set_level(logging.INFO)
    assert works() and works() and len(built) == 2
    assert "cache of compiled modules is not used" in caplog.text


def test_an_entry_that_goes_before_it_is_loaded(cache, monkeypatch, built, run_python):
    # By another process: the loader does not look again for what this one has.
    run_python(f"from externref import wasm2c; wasm2c.compile({TEXT!r})", env={"EXTERNREF_CACHE_DIR": str(cache)})
    is_whole = wasm2c.compiler.is_whole
    monkeypatch.setattr(wasm2c.compiler, "is_whole", lambda kept: is_whole(kept) and kept.unlink() is None)
    assert works() and len(built) == 1 and len(entries(cache)) == 1


@pytest.mark.parametrize("what", ["goes", "cannot be loaded"])
def test_an_entry_that_was_just_made(cache, monkeypatch, built, what):
    """Somebody empties the folder; or nothing can be executed in it, as on a file system that says so."""
    keep = wasm2c.compiler.keep

    def keep_in_vain(library, kept):
        assert keep(library, kept)
        if what == "goes":
            kept.unlink()
        else:
            kept.write_bytes(b"")
        return True

    monkeypatch.setattr(wasm2c.compiler, "keep", keep_in_vain)
    assert works() and works() and len(built) == 2


def run_with_file_sizes(run_python, cache, limit, when):
    """Compiles, in a process that may not write files of more bytes from `when` on, and once more when it may."""
    return run_python(f"""
import resource, sys
from externref import wasm2c
def limit(size): resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
def compile():
    with wasm2c.Store() as store: return wasm2c.compile({TEXT!r}).instantiate(store).exports.f()
keep = wasm2c.compiler.keep
def keep_limited(*args):
    limit({limit})
    return keep(*args)
if {when!r} == "keep": wasm2c.compiler.keep = keep_limited
else: limit({limit})
try: print(compile())
except wasm2c.CompileError as error: print(error)
wasm2c.compiler.keep = keep
limit(resource.RLIM_INFINITY)
print(compile())
""", env={"EXTERNREF_CACHE_DIR": str(cache)})


@posix
def test_a_limit_of_file_sizes(run_python, cache):
    """Python ignores the signal of that, and its children do not."""
    first, last = run_with_file_sizes(run_python, cache, 4096, "start").rsplit("\n", 2)[:2]
    assert "was killed by SIGXFSZ" in first or "File too large" in first
    assert last == "5" and len(entries(cache)) == 1


@posix
def test_a_library_that_is_too_large_to_be_kept(run_python, cache):
    assert run_with_file_sizes(run_python, cache, 4096, "keep") == "5\n5\n"
    assert len(entries(cache)) == 1     # the second time; nothing is left of the first


@root
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's file system in memory")
@pytest.mark.parametrize("options, kept", [("size=8k", False), ("nr_inodes=1", False), ("size=1m,noexec", True),
                                           ("size=1m,ro", False)])
def test_a_file_system_that_cannot_hold_it(cache, built, options, kept):
    cache.mkdir(parents=True, mode=0o700)
    cache.parent.chmod(0o700)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "tmpfs", cache], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"this root may not mount: {mounted.stderr!r}")
    try:
        assert works() and works() and len(built) == 2
        assert len(entries(cache)) == kept
    finally:
        subprocess.run(["umount", "-l", cache], check=True)
