"""Four threads on one store, and on a store each; without a GIL they do run at once. Promises P1, P2, P5, P11."""

import gc
import itertools
import random
from functools import partial

import pytest
import wasmtime
from wasmtime import FuncType, ValType

import externref
import externref.wasmtime as ew
from externref.wasmtime.resources import Resource
from support import at_once

THREADS = 4

pytestmark = pytest.mark.usefixtures("quick_switches")

SOURCE = """(module
    (import "" "host" (func $host (param externref) (result externref)))
    (table (export "t") 4 externref)
    (table (export "functions") funcref (elem $add))
    (global (export "g") (mut externref) (ref.null extern))
    (memory (export "memory") 1 200)
    (func $add (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "id") (param externref) (result externref) local.get 0)
    (func (export "call") (param externref) (result externref) (call $host (local.get 0)))
    (func (export "spin") (loop (br 0))))"""


def new_engine(**settings):
    config = wasmtime.Config()
    for name, value in settings.items():
        setattr(config, name, value)
    return wasmtime.Engine(config)


IDENTITY = FuncType([ValType.externref()], [ValType.externref()])     # all threads use it


def new_module(store, host=lambda value: value):
    """What an instance of SOURCE exports, bound."""
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, SOURCE), [ew.func(store, IDENTITY, host)])
    return ew.bind(store, instance.exports(store))


def unless_refused(operation, *args, **settings):
    """What it returns; None if another thread uses the store, or has closed it."""
    try:
        return operation(*args, **settings)
    except RuntimeError as refused:
        assert "another thread" in str(refused) or "in the middle" in str(refused)
    except ValueError as closed:
        assert "closed" in str(closed)


def nothing_is_left():
    gc.collect()
    externref.drain()
    return externref.stats() == (0, 0, 0, 0)


def everything(store, module, value):
    """An operation of each kind, of whose results `value` is one."""
    i = random.randrange(4)
    return [
        lambda: module.id(value),
        lambda: module.id.refs(value).value,
        lambda: module.call(value),
        lambda: module.add(20, 22),
        lambda: module.t.__setitem__(i, value),
        lambda: module.t[i],
        lambda: module.t.fill(0, value, 2),
        lambda: module.t.grow(1, value),
        lambda: module.t.type,
        lambda: setattr(module.g, "value", value),
        lambda: module.g.value,
        lambda: module.functions[0](20, 22),
        lambda: module.memory.write(b"bytes", 7),
        lambda: module.memory.read(7, 12),
        lambda: module.memory.grow(1),
        lambda: len(module.memory),
        lambda: module.memory.type,
        lambda: ew.bind(store, module.id, release_gil=True)(value),
        lambda: ew.func(store, IDENTITY, print),
        store.gc,
    ]


# --- One store

def test_one_store(make_payload):
    dropped = []
    made = itertools.count()
    store = wasmtime.Store()
    module = new_module(store)

    def work(module=module):
        done = 0
        for _ in range(400):
            value = make_payload(dropped, next(made))
            done += unless_refused(random.choice(everything(store, module, value))) is not None
        return done

    assert sum(at_once(*[work] * THREADS)) > 0
    assert module.id(made) is made      # the last to use it has left
    store.close()
    del module, work
    assert nothing_is_left()
    assert sorted(dropped) == list(range(next(made)))


def test_a_store_is_closed_while_others_use_it(make_payload):
    dropped = []
    made = itertools.count()
    for _ in range(25):
        store = wasmtime.Store()
        module = new_module(store)

        def work(store=store, module=module):
            for _ in range(1000):       # then whoever closes it comes to it
                try:
                    random.choice(everything(store, module, make_payload(dropped, next(made))))()
                except RuntimeError:
                    pass
                except ValueError as closed:
                    if "closed" in str(closed):
                        break

        def close(store=store):
            for _ in range(random.randrange(2000)):
                pass
            while True:
                try:
                    return store.close()
                except RuntimeError as refused:
                    assert "another thread" in str(refused)

        at_once(*[work] * (THREADS - 1), close)
        with pytest.raises(ValueError, match="closed"):
            module.id(1)
        del store, module, work, close
    assert nothing_is_left()
    assert sorted(dropped) == list(range(next(made)))


@pytest.mark.parametrize("is_known", [False, True])
def test_a_store_is_closed_once(make_payload, is_known):
    dropped = []
    rounds = 100
    engine = wasmtime.Engine()
    for i in range(rounds):
        store = wasmtime.Store(engine)
        if is_known:
            new_module(store).g.value = make_payload(dropped, i)
        at_once(*[store.close] * THREADS)
        with pytest.raises(ValueError, match="closed"):
            store.gc()
    assert nothing_is_left()
    assert sorted(dropped) == (list(range(rounds)) if is_known else [])


def test_stores_are_closed_and_made_at_once():
    """New ones have addresses that closed ones had."""
    engine = wasmtime.Engine()
    stores = [wasmtime.Store(engine) for _ in range(2)]

    def work():
        for _ in range(150):
            i = random.randrange(2)
            store = stores[i]
            unless_refused(store.gc)
            unless_refused(ew.func, store, IDENTITY, print)
            unless_refused(store.close)
            stores[i] = wasmtime.Store(engine)

    at_once(*[work] * THREADS)
    for store in stores:
        assert new_module(store).add(1, 2) == 3
        store.close()
    del store
    assert nothing_is_left()


def test_a_store_is_bound_by_all_at_once():
    engine = wasmtime.Engine()
    wasmtime_module = wasmtime.Module(
        engine, '(module (func (export "f") (result i32) (i32.const 5)) (memory (export "m") 1))')
    for _ in range(50):
        store = wasmtime.Store(engine)
        exports = wasmtime.Instance(store, wasmtime_module, []).exports(store)
        bound = at_once(*[partial(unless_refused, ew.bind, store, exports)] * THREADS)
        for module in filter(None, bound):
            assert module.f() == 5 and len(module.m) == 65536
            assert ew.bind(store, module.f) is module.f
        store.close()


def test_a_function_that_came_as_a_value():
    store = wasmtime.Store()
    module = new_module(store)
    for _ in range(100):
        function = module.functions[0]
        works = [lambda f: f(40, 2), lambda f: f.refs(40, 2), lambda f: f.type.results,
                 lambda f: ew.bind(store, f, release_gil=True)(40, 2)]
        results = at_once(*[partial(unless_refused, work, function) for work in works])
        assert set(results) <= {42, ("i32",), None}
        assert function(40, 2) == 42 and function.type.params == ("i32", "i32")
    store.close()


def test_a_caller_is_of_one_thread():
    callers = []

    def host(caller):
        callers.append(caller)
        for _ in range(200):
            assert len(caller.memory) == 65536

    store = wasmtime.Store()
    host = ew.func(store, FuncType([], []), host, access_caller=True)
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, """(module (import "" "" (func $host))
        (memory (export "memory") 1) (func (export "f") call $host))"""), [host])
    f = ew.bind(store, instance.exports(store)["f"])
    over = [False]

    def call():
        try:
            for _ in range(30):
                f()
        finally:
            over[0] = True

    def use():
        while not over[0]:
            for caller in callers[-1:]:
                for action in (lambda it: it.memory, lambda it: it.store, lambda it: ew.bind(it, f)):
                    with pytest.raises(RuntimeError, match="another thread|the call is over"):
                        action(caller)
                repr(caller)

    at_once(call, use, use)
    store.close()


# --- A store each

def test_a_store_each(make_payload):
    dropped = []
    engine = wasmtime.Engine()

    def work(n):
        store = wasmtime.Store(engine)
        called = []

        def host(value):
            called.append(value)
            return value

        module = new_module(store, host)
        for i in range(300):
            value = make_payload(dropped, (n, i))
            assert module.id(value) is value and module.id.refs(value).value is value
            assert module.call(value) is value and called.pop() is value
            module.t[i % 4] = module.g.value = value
            assert module.t[i % 4] is module.g.value is value
            assert module.functions[0](n, i) == module.add(n, i) == n + i
            module.memory[i] = n
            assert module.memory[i] == n and module.memory.read(i, i + 1) == bytes([n])
            if i % 100 == 0:
                store.gc()
        store.close()

    at_once(*[partial(work, n) for n in range(THREADS)])
    assert nothing_is_left()
    assert sorted(dropped) == list(itertools.product(range(THREADS), range(300)))


def test_an_exception_of_each():
    def work(n):
        def fail(value):
            raise KeyError(n)

        store = wasmtime.Store()
        module = new_module(store, fail)
        for release_gil in itertools.islice(itertools.cycle([False, True]), 200):
            with pytest.raises(KeyError) as raised:
                ew.bind(store, module.call, release_gil=release_gil)(None)
            assert raised.value.args == (n,)
        store.close()

    at_once(*[partial(work, n) for n in range(THREADS)])
    assert nothing_is_left()


def test_resources_of_one_type(make_payload):
    dropped = []
    things = Resource()

    def work(n):
        for i in range(200):
            value = make_payload(dropped, (n, i))
            assert things.value(None, things.own(value)) is value
            assert things.borrow(value) is not None and Resource().own(value) is not None
            assert len(things) >= 0

    at_once(*[partial(work, n) for n in range(THREADS)])
    assert len(things) == 0 and nothing_is_left()
    assert sorted(dropped) == list(itertools.product(range(THREADS), range(200)))


def test_resource_types_come_and_go_while_stores_are_closed():
    engine = wasmtime.Engine()

    def close():
        for _ in range(300):
            wasmtime.Store(engine).close()

    def make():
        numbers = set()
        for _ in range(1000):
            numbers.add(Resource()._number)
        return numbers

    _, _, *numbers = at_once(close, close, make, make)
    assert len(set.union(*numbers)) == 2000


# --- Epochs

def test_stores_of_one_engine_are_made_interruptible_at_once():
    for _ in range(10):
        engine = new_engine(epoch_interruption=True)
        stores = [wasmtime.Store(engine) for _ in range(THREADS)]
        at_once(*[partial(ew.interruptible, store, timeout=0.02) for store in stores])

        def spin(store):
            module = new_module(store)
            with pytest.raises(wasmtime.Trap) as ended:
                module.spin()
            assert ended.value.trap_code == wasmtime.TrapCode.INTERRUPT
            store.close()

        at_once(*[partial(spin, store) for store in stores])
    del stores
    assert nothing_is_left()


def test_one_store_is_made_interruptible_by_all_at_once():
    for _ in range(20):
        store = wasmtime.Store(new_engine(epoch_interruption=True))
        at_once(*[partial(unless_refused, ew.interruptible, store, timeout=30)] * THREADS)
        ew.interruptible(store, timeout=0.01)
        with pytest.raises(wasmtime.Trap):
            new_module(store).spin()
        store.close()
    assert nothing_is_left()


def test_who_counts_the_epochs_is_decided_once():
    for _ in range(30):
        engine = new_engine(epoch_interruption=True)
        stores = [wasmtime.Store(engine) for _ in range(THREADS)]

        def fails(operation, *args):
            try:
                operation(*args)
            except RuntimeError as refused:
                return "epochs" in str(refused)
            return False

        counted, *clocked = at_once(partial(fails, engine.increment_epoch),
                                    *[partial(fails, ew.interruptible, store) for store in stores])
        assert set(clocked) == {not counted}
        for store in stores:
            store.close()


def test_interrupts_from_other_threads():
    engine = new_engine(epoch_interruption=True)
    stores = [wasmtime.Store(engine) for _ in range(2)]
    modules = []
    for store in stores:
        ew.interruptible(store)
        modules.append(new_module(store))
    ended = []

    def spin(module):
        for _ in range(5):
            with pytest.raises(wasmtime.Trap):
                ew.bind(module.spin.store, module.spin, release_gil=True)()
        ended.append(module)

    def interrupt():
        while len(ended) < 2:
            for store in stores:
                ew.interrupt(store)
                ew.interruptible(store, timeout=60)

    at_once(*[partial(spin, module) for module in modules], interrupt, interrupt)
    for store in stores:
        store.close()
