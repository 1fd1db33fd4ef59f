"""Four threads on one reference, one block, one table; without a GIL they do run at once. Promises P1, P2, P5, P11."""

import collections
import ctypes
import gc
import itertools
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import externref
from externref import InvalidRawPointerError, MovedError, VMExternRef, VMExternRefActivationsTable, abi
from support import Payload, at_once

THREADS = 4

pytestmark = pytest.mark.usefixtures("quick_switches")

held_clone = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(abi.clone_address)
held_drop = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(abi.drop_address)


def until_moved(operation, count=60):
    """Repeats it; how often it went well, to the first MovedError."""
    for i in range(count):
        try:
            operation()
        except MovedError:
            return i
    return count


# --- One wrapper

USES = {
    "value": lambda ref: ref.value.name,
    "is_": lambda ref: ref.is_(int),
    "downcast_ref": lambda ref: ref.downcast_ref(object),
    "clone": lambda ref: ref.clone(),
    "strong_count": lambda ref: ref.strong_count,
    "repr": repr,
    "hash": hash,
    "order": lambda ref: ref < ref,
    "as_raw": lambda ref: ref.as_raw(),
    "borrow": lambda ref: ref.borrow().__enter__(),
    "insert": lambda ref: VMExternRefActivationsTable().insert_with_gc(ref),
}


@pytest.mark.parametrize("end", ["drop", "into_raw", "try_insert"])
@pytest.mark.parametrize("use", USES)
def test_a_wrapper_is_used_while_it_is_given_up(make_payload, use, end):
    dropped = []
    rounds = 15
    for i in range(rounds):
        ref = VMExternRef(make_payload(dropped, i))
        table = VMExternRefActivationsTable()

        def give_up(ref=ref, table=table):
            for _ in range(random.randrange(200)):
                pass
            return table.try_insert(ref) if end == "try_insert" else getattr(ref, end)()

        def work(ref=ref):
            return until_moved(lambda: USES[use](ref))

        *_, raw = at_once(*[work] * (THREADS - 1), give_up)
        assert ref.moved
        if end == "into_raw":
            held_drop(raw)
        del table, ref, work, give_up
        externref.drain()
    gc.collect()
    assert sorted(dropped) == list(range(rounds))


@pytest.mark.parametrize("end", ["drop", "into_raw", "try_insert", "insert_without_gc"])
def test_a_wrapper_is_given_up_once(make_payload, end):
    dropped = []
    for i in range(50):
        ref = VMExternRef(make_payload(dropped, i))
        table = VMExternRefActivationsTable()

        def work(ref=ref, table=table):
            try:
                return (getattr(ref, end)() if hasattr(ref, end) else getattr(table, end)(ref)) or end == "insert_without_gc"
            except MovedError:
                return None

        taken = [result for result in at_once(*[work] * THREADS) if result]
        if end == "into_raw":
            VMExternRef.from_raw(*taken)
        elif end != "drop":
            assert len(table) == len(taken) == 1
        del ref, table, work
    externref.drain()
    assert sorted(dropped) == list(range(50))


def test_a_borrow_is_entered_once():
    ref = VMExternRef(object())
    for _ in range(100):
        borrow = ref.borrow()

        def enter(borrow=borrow):
            try:
                return borrow.__enter__()
            except RuntimeError:
                return 0

        assert sum(map(bool, at_once(*[enter] * THREADS))) == 1 and ref.strong_count == 2
        at_once(*[borrow.__exit__] * THREADS)
        assert ref.strong_count == 1


# --- One block

def test_counts_stay_exact(make_payload):
    dropped = []
    ref = VMExternRef(make_payload(dropped))

    def work():
        mine = ref.clone()
        for _ in range(2000):
            other = mine.clone()
            assert mine == other and other.value is mine.value
            mine = VMExternRef.from_raw(other.into_raw())
            raw = mine.clone().into_raw()
            held_drop(held_clone(raw))
            held_drop(raw)

    at_once(*[work] * THREADS)
    gc.collect()
    assert ref.strong_count == 1 and externref.stats() == (1, 1, 0, 0)
    ref.drop()
    assert len(dropped) == 1


def test_each_raw_count_is_taken_once(make_payload):
    dropped = []
    for n in range(30):
        ref = VMExternRef(make_payload(dropped, n))
        raw = ref.as_raw()
        for _ in range(n):
            ref.clone().into_raw()

        def take(ref=ref, raw=raw):
            taken = []
            for _ in range(40):
                ref.clone()     # never a raw owner, not even for a moment
                try:
                    taken.append(VMExternRef.from_raw(raw))
                except InvalidRawPointerError:
                    pass
            return taken

        assert sum(map(len, at_once(*[take] * THREADS))) == n
        assert ref.strong_count == 1
        del ref, take
    assert sorted(dropped) == list(range(30))


def test_a_raw_owner_is_found_while_others_clone():
    ref = VMExternRef(object())
    go_on = [True]

    def clone():
        while go_on:
            ref.clone()

    def out_and_back():
        try:
            for _ in range(1000):
                VMExternRef.from_raw(ref.clone().into_raw())
        finally:
            go_on.clear()

    at_once(clone, clone, out_and_back)
    assert ref.strong_count == 1


def test_an_address_is_looked_up_while_its_block_is_freed(make_payload):
    dropped = []
    for i in range(100):
        raw = VMExternRef(make_payload(dropped, i)).into_raw()

        def look(raw=raw):
            for _ in range(20):
                try:
                    VMExternRef.clone_from_raw(raw)
                except InvalidRawPointerError:
                    pass
                try:
                    VMExternRef.from_raw(raw + 8)
                except InvalidRawPointerError:
                    pass

        def end(raw=raw):
            held_drop(raw)
            externref.drain()

        at_once(look, look, end, externref.drain)
    externref.drain()
    assert sorted(dropped) == list(range(100))


def test_all_that_is_let_go_is_drained_once(make_payload):
    dropped = []

    def work(n):
        drained = 0
        for i in range(300):
            held_drop(VMExternRef(make_payload(dropped, (n, i))).into_raw())
            drained += externref.drain()
            externref.stats()
        return drained

    at_once(*[lambda n=n: work(n) for n in range(THREADS)])
    externref.drain()
    assert sorted(dropped) == list(itertools.product(range(THREADS), range(300)))


def test_cycles_are_collected_while_others_use_their_like():
    dropped = []
    made = itertools.count()

    class Node:
        def __del__(self):
            dropped.append(None)

    def work():
        for _ in range(150):
            node = Node()
            next(made)
            node.ref = VMExternRef(node)
            node.clones = [node.ref.clone() for _ in range(3)]
            assert node.clones[0].value is node

    def collect():
        for _ in range(15):
            gc.collect()

    at_once(work, work, work, collect)
    for _ in range(3):
        gc.collect()
    assert len(dropped) == next(made)


# --- One table

def test_a_table(make_payload):
    dropped = []
    table = VMExternRefActivationsTable()

    def insert(n):
        for i in range(400):
            ref = VMExternRef(make_payload(dropped, (n, i)))
            table.insert_with_gc(ref, roots=[ref.as_raw()])
            if not table.try_insert(ref):
                table.insert_without_gc(ref)
        return None

    def collect():
        for _ in range(30):
            table.gc()
            assert len(table) >= 0 and table.bump_capacity_remaining() >= 0
            table.sweep()

    at_once(lambda: insert(0), lambda: insert(1), lambda: insert(2), collect)
    table.gc()
    assert len(table) == 0
    assert sorted(dropped) == list(itertools.product(range(3), range(400)))


def test_from_raw_looks_through_a_table_that_others_use(make_payload):
    dropped = []
    table = VMExternRefActivationsTable()
    assert table.address

    def insert():
        for _ in range(600):
            table.insert_without_gc(VMExternRef(make_payload(dropped)))

    def take():
        for _ in range(600):
            VMExternRef.from_raw(VMExternRef(make_payload(dropped)).into_raw())

    def share():
        for _ in range(200):
            assert VMExternRefActivationsTable().address

    at_once(insert, insert, take, share)
    table.gc()
    assert len(dropped) == 1800


# --- Anything

class FourThreads(RuleBasedStateMachine):
    """Each step has four threads go through programs of their own, on references, raw counts and a table that all
    share. Between the steps all is at rest, and every count must be exact. Each raw count is one's own to take back."""

    def __init__(self):
        super().__init__()
        self.dropped = []
        self.made = itertools.count()
        self.refs = [None] * 6
        self.raws = collections.deque()     # its operations are atomic
        self.table = VMExternRefActivationsTable()

    OPERATIONS = {}

    def operation(function, operations=OPERATIONS):
        operations[function.__name__] = function
        return function

    @operation
    def make(self, i, ref):
        self.refs[i] = VMExternRef(Payload(self.dropped, next(self.made)))

    @operation
    def clone(self, i, ref):
        self.refs[i] = ref.clone()

    @operation
    def look(self, i, ref):
        assert ref.strong_count > 0 and ref.value.name >= 0 and "VMExternRef" in repr(ref) and ref == ref

    @operation
    def send(self, i, ref):
        self.raws.append(ref.into_raw())

    @operation
    def receive(self, i, ref):
        if raw := self.next_raw():
            self.refs[i] = VMExternRef.from_raw(raw)

    @operation
    def receive_natively(self, i, ref):
        if raw := self.next_raw():
            held_drop(held_clone(raw))
            held_drop(raw)

    @operation
    def drop(self, i, ref):
        ref.drop()

    @operation
    def insert(self, i, ref):
        self.table.insert_with_gc(ref)

    @operation
    def insert_what_moves(self, i, ref):
        self.table.insert_without_gc(ref)

    @operation
    def borrow(self, i, ref):
        with ref.borrow() as raw:
            assert VMExternRef.clone_from_raw(raw).value.name >= 0

    @operation
    def collect(self, i, ref):
        self.table.gc()
        externref.drain()

    def next_raw(self):
        try:
            return self.raws.popleft()
        except IndexError:
            return None

    def run(self, program):
        for name, i, j in program:
            ref = self.refs[j]
            try:
                if ref is not None or name in ("make", "receive", "receive_natively", "collect"):
                    self.OPERATIONS[name](self, i, ref)
            except MovedError:
                assert ref.moved

    places = st.integers(0, 5)
    programs = st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), places, places), min_size=5, max_size=40)

    @rule(programs=st.tuples(*[programs] * THREADS))
    def go(self, programs):
        at_once(*[lambda program=program: self.run(program) for program in programs])

    @invariant()
    def every_count_is_exact(self):
        self.table.sweep()
        externref.drain()
        refs = [ref for ref in self.refs if ref is not None and not ref.moved]
        owners = collections.Counter([*map(address_of, refs), *self.raws])
        for address, count in owners.items():
            assert ctypes.c_size_t.from_address(address).value == count
        assert externref.stats() == (len(owners), len(refs), 0, 0)
        alive = {VMExternRef.clone_from_raw(address).value.name for address in owners}
        assert sorted([*self.dropped, *alive]) == list(range(self.so_many_made()))

    def so_many_made(self):
        made = next(self.made)
        self.made = itertools.count(made)
        return made

    def teardown(self):
        self.refs.clear()
        while self.raws:
            VMExternRef.from_raw(self.raws.pop())
        self.table.gc()
        externref.drain()
        assert sorted(self.dropped) == list(range(self.so_many_made()))
        assert externref.stats() == (0, 0, 0, 0)


def address_of(ref):
    with ref.borrow() as raw:
        return raw


FourThreads.TestCase.settings = settings(max_examples=25, stateful_step_count=8, deadline=None)
TestFourThreads = FourThreads.TestCase
