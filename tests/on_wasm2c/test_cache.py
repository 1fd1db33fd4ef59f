"""The cache of compiled modules: where it is, who may have written there, and when there is none."""

import errno
import logging
import os
import shutil
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
