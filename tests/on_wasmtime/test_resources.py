"""Components that hold Python objects as resources: each is released once, when nobody owns it any more."""

import gc
from importlib import metadata

import pytest
import wasmtime
from wasmtime import component

import externref
import externref.wasmtime as ew
from externref.wasmtime.resources import Resource

SOURCE = """(component
  (import "host" (instance $host
    (export "thing" (type $t (sub resource)))
    (export "make" (func (result (own $t))))
    (export "look" (func (param "x" (borrow $t)) (result u32)))
    (export "eat" (func (param "x" (own $t))))))
  (alias export $host "thing" (type $thing))
  (core func $make (canon lower (func $host "make")))
  (core func $look (canon lower (func $host "look")))
  (core func $eat (canon lower (func $host "eat")))
  (core func $drop (canon resource.drop $thing))
  (core module $m
    (import "h" "make" (func $make (result i32)))
    (import "h" "look" (func $look (param i32) (result i32)))
    (import "h" "eat" (func $eat (param i32)))
    (import "h" "drop" (func $drop (param i32)))
    (global $kept (mut i32) (i32.const 0))
    (func (export "make") (global.set $kept (call $make)))
    (func (export "look") (result i32) (call $look (global.get $kept)))
    (func (export "eat") (call $eat (global.get $kept)))
    (func (export "drop") (call $drop (global.get $kept)))
    (func (export "keep") (param i32) (global.set $kept (local.get 0)))
    (func (export "give") (result i32) (global.get $kept))
    (func (export "forge") (global.set $kept (i32.const 77)))
    (func (export "see") (param i32) (result i32) (call $look (local.get 0)) (call $drop (local.get 0))))
  (core instance $i (instantiate $m (with "h" (instance
    (export "make" (func $make)) (export "look" (func $look)) (export "eat" (func $eat)) (export "drop" (func $drop))))))
  (func (export "make") (canon lift (core func $i "make")))
  (func (export "look") (result u32) (canon lift (core func $i "look")))
  (func (export "eat") (canon lift (core func $i "eat")))
  (func (export "drop") (canon lift (core func $i "drop")))
  (func (export "forge") (canon lift (core func $i "forge")))
  (func (export "keep") (param "x" (own $thing)) (canon lift (core func $i "keep")))
  (func (export "give") (result (own $thing)) (canon lift (core func $i "give")))
  (func (export "see") (param "x" (borrow $thing)) (result u32) (canon lift (core func $i "see"))))"""

NAMES = "make look eat drop forge keep give see".split()


class Guest:
    """An instance: what it takes, looks at and eats."""

    def __init__(self, store, make, things=None):
        self.store = store
        self.things = things or Resource()
        self.make_value = make
        self.looked, self.eaten = [], []
        linker = component.Linker(store.engine)
        with linker.root() as root, root.add_instance("host") as host:
            self.things.define(host, "thing")
            host.add_func("make", lambda store: self.things.own(self.make_value()))
            host.add_func("look", self.look)
            host.add_func("eat", lambda store, thing: self.eaten.append(self.things.value(store, thing)))
        instance = linker.instantiate(store, component.Component(store.engine, SOURCE))
        self.functions = {name: instance.get_func(store, name) for name in NAMES}

    def look(self, store, thing):
        self.looked.append(self.things.value(store, thing))
        return len(self.looked)

    def __call__(self, name, *args):
        result = self.functions[name](self.store, *args)
        self.functions[name].post_return(self.store)
        return result


@pytest.fixture
def guest(store, counted):
    return Guest(store, counted)


def test_the_component_drops_what_it_owns(guest, counted):
    guest("make")
    assert (len(guest.things), counted.dropped()) == (1, 0)
    guest("drop")
    assert (len(guest.things), counted.dropped()) == (0, 1)


def test_what_is_lent_stays_the_components(guest, counted):
    value = counted()
    guest.make_value = lambda: value
    guest("make")
    assert [guest("look"), guest("look")] == [1, 2]
    assert guest.looked == [value, value]
    assert len(guest.things) == 1


def test_what_it_gives_back_is_taken(guest, counted):
    guest("make")
    guest("eat")
    assert len(guest.things) == 0
    assert counted.dropped() == 0
    guest.eaten.clear()
    assert counted.dropped() == 1


def test_an_argument_is_owned_and_comes_back_as_a_result(guest, store, counted):
    value = counted()
    guest("keep", guest.things.own(value))
    assert guest.things.value(store, guest("give")) is value
    assert len(guest.things) == 0
    del value
    assert counted.dropped() == 1


@pytest.mark.skipif(int(metadata.version("wasmtime").partition(".")[0]) < 50,
                    reason="before version 50 wasmtime itself raises for a host's resource that is lent")
def test_arguments_are_lent(guest, counted):
    for _ in range(100):
        value = counted()
        guest("see", guest.things.borrow(value))
        assert guest.looked.pop() is value
    assert len(guest.things) == 0
    del value
    assert counted.dropped() == 100


def test_a_resource_that_nobody_got_is_released(guest, counted):
    for give in (guest.things.own, guest.things.borrow):
        given = give(counted())
        assert len(guest.things) == 1
        del given
        assert len(guest.things) == 0
    assert counted.dropped() == 2


def test_closing_the_store_releases_the_rest(guest, store, counted):
    other = Guest(wasmtime.Store(store.engine), counted)
    guest("make")
    other("make")
    store.close()
    assert (len(guest.things), len(other.things), counted.dropped()) == (0, 1, 1)
    other.store.close()
    assert (len(other.things), counted.dropped()) == (0, 2)


def test_a_newer_store_at_the_same_address_keeps_its_resources(store, counted):
    """Finalizers that a close runs come when the store is gone, and its resources are told from all others."""
    engine, newer = store.engine, []

    class MakesAnother:
        def __del__(self):
            newer.append(Guest(wasmtime.Store(engine), counted, things))
            newer[0]("make")

    things = Resource()
    guests = [Guest(store, MakesAnother, things), Guest(store, counted, things)]
    for guest in guests:
        guest("make")
    store.close()
    assert (len(newer), len(things), counted.dropped()) == (1, 1, 1)
    newer[0]("drop")
    assert counted.dropped() == 2
    newer[0].store.close()


def test_imported_again_the_types_are_others(guest):
    import sys

    module = sys.modules.pop("externref.wasmtime.resources")
    try:
        from externref.wasmtime.resources import Resource as Again
        assert Again is not Resource
        assert Again()._number > guest.things._number
    finally:
        sys.modules["externref.wasmtime.resources"] = module


def test_one_resource_type_in_two_stores(guest, store, counted):
    other = Guest(wasmtime.Store(store.engine), counted, guest.things)
    guest("make")
    other("make")
    assert len(guest.things) == 2
    store.close()
    assert (len(guest.things), counted.dropped()) == (1, 1)
    other("drop")
    assert (len(guest.things), counted.dropped()) == (0, 2)
    other.store.close()


def test_a_reference_passes_as_itself(guest, store, counted):
    ref = externref.VMExternRef(counted())
    guest("keep", guest.things.own(ref))
    assert ref.strong_count == 2
    back = guest.things.ref(store, guest("give"))
    assert back == ref
    assert ref.strong_count == 2
    guest("keep", guest.things.own(ref))
    guest("drop")
    assert ref.strong_count == 2


def test_a_spent_reference(guest):
    ref = externref.VMExternRef(1)
    ref.drop()
    with pytest.raises(externref.MovedError):
        guest.things.own(ref)
    assert len(guest.things) == 0


def test_a_resource_is_given_once(guest, store, counted):
    given = guest.things.own(counted())
    guest("keep", given)
    with pytest.raises(ValueError, match="the component's already"):
        guest("keep", given)
    back = guest("give")
    guest.things.value(store, back)
    with pytest.raises(wasmtime.WasmtimeError):
        guest.things.value(store, back)
    assert counted.dropped() == 1


def test_one_of_python_is_taken_once(guest, store, counted):
    given = guest.things.own(counted())
    guest.things.value(store, given)
    assert (len(guest.things), counted.dropped()) == (0, 1)
    with pytest.raises(ValueError, match="closed"):
        guest.things.value(store, given)


def test_a_handle_that_the_component_makes_up(guest, counted):
    guest("make")
    guest("forge")
    with pytest.raises(wasmtime.WasmtimeError, match="handle"):
        guest("look")
    assert len(guest.things) == 1


def test_what_python_makes_up(guest, store):
    things = guest.things
    with pytest.raises(ValueError, match="the resource is over"):
        things.value(store, component.ResourceHost.own(12345, things._number))
    with pytest.raises(TypeError, match="another type"):
        things.value(store, component.ResourceHost.own(1, 3))
    with pytest.raises(TypeError, match="another type"):
        things.value(store, Resource().own(1))
    with pytest.raises(TypeError, match="expected a resource of a component, not int"):
        things.value(store, 1)


def test_one_of_another_type_is_refused_by_wasmtime(guest, store, counted):
    others = Resource()
    with pytest.raises(wasmtime.WasmtimeError):
        guest("keep", others.own(counted()))
    store.close()
    assert (len(others), counted.dropped()) == (0, 1)


def test_a_resource_of_another_store(guest, store, counted):
    other = wasmtime.Store(store.engine)
    guest("keep", guest.things.own(counted()))
    given = guest("give")
    with pytest.raises(wasmtime.WasmtimeError):
        guest.things.value(other, given)
    other.close()


def test_finalizers_run_where_the_component_drops(guest):
    class Closes:
        def __del__(self):
            for action in (lambda: ew.bind(guest.store, 1), guest.store.gc, lambda: guest.things.own(2), gc.collect):
                try:
                    action()
                except TypeError:
                    pass
            done.append(1)

    done = []
    guest.make_value = Closes
    guest("make")
    guest("drop")
    assert done == [1]


def test_many(guest, store, counted):
    for _ in range(1000):
        guest("keep", guest.things.own(counted()))
        guest("drop")
    assert counted.dropped() == 1000
    assert len(guest.things) == 0


def test_an_exception_of_a_host_function_loses_nothing(guest, counted):
    def make():
        raise LookupError("none")

    guest.make_value = make
    with pytest.raises(LookupError, match="none"):
        guest("make")
    assert len(guest.things) == 0
    assert repr(guest.things) == "<externref.wasmtime.Resource, 0 alive>"
    assert guest.things
