"""Random programs against a plain model: what compiled code can reach lives, the rest is dropped. Promises P1, P2.

Each object that goes in records its drop. The model knows what every slot and global holds;
after a collection without active frames the live objects must be exactly those, and with active
frames at least those. As a fuzzer's silence means nothing if it never collects, the collections
that freed are counted, and must be many.
"""

import gc
import operator
import random

from externref import wasm2c
from externref.wasm2c import GlobalType, MemoryType, TableType
from support import Payload


class Model:
    def __init__(self, store, instantiate, seed):
        self.random = random.Random(seed)
        self.store = store
        self.exports = instantiate(store, {"env": {"call": self.from_wasm}}).exports
        self.t = [None] * 8
        self.u = [None] * 8
        self.g = self.hidden = None
        self.dropped = []
        self.made = self.steps = self.freeing = 0
        self.held = []      # what the active frames hold
        self.pending = None
        self.elem_dropped = False

    def value(self):
        """null, an object that a slot holds, or a fresh one."""
        kind = self.random.random()
        if kind < 0.15:
            return None
        if kind < 0.4:
            return self.random.choice(self.t + self.u)
        self.made += 1
        return Payload(self.dropped, self.made)

    def slots(self):
        """What every slot and global holds."""
        return [*self.t, *self.u, self.g, self.hidden]

    def reachable(self):
        return {x.name for x in [*self.slots(), *self.held] if x is not None}

    def check(self):
        """Collects, and compares who lives. The model's own references keep payloads alive, so what it
        compares is the table: nothing may be gone that is reachable, and nothing kept besides."""
        self.freeing += self.store.gc() > 0
        assert not self.reachable() & set(self.dropped)
        if not self.held:
            slots = sum(x is not None for x in self.slots())
            assert len(self.reachable()) <= len(self.store.activations) <= slots     # a block for each time it went in
            assert len(self.dropped) == self.made - len(self.reachable())
        e = self.exports
        assert list(e.t) == self.t and list(e.u) == self.u and e.g.value is self.g and e.seek() is self.hidden

    def step(self):
        self.steps += 1
        e, rand = self.exports, self.random.randrange
        operation = rand(18)
        i, n = rand(len(self.t)), rand(4)
        x = self.value()
        if operation == 0:
            if self.did(e.save, i, x):
                self.t[i] = x
        elif operation == 1:
            if self.did(operator.setitem, e.t, i, x):
                self.t[i] = x
        elif operation == 2 and i + n <= len(self.t):
            if self.did(e.fill, i, x, n):
                self.t[i:i + n] = [x] * n
        elif operation == 3 and i + n <= len(self.t):
            if self.did(e.t.fill, i, x, n):
                self.t[i:i + n] = [x] * n
        elif operation == 4 and len(self.t) + n <= 64 and rand(20) == 0:
            if self.grew(len(self.t), n, e.grow, x, n):
                self.t += [x] * n
        elif operation == 5 and len(self.t) + n <= 64 and rand(20) == 0:
            if self.grew(len(self.t), n, e.t.grow, n, x):
                self.t += [x] * n
        elif operation == 6 and i + n <= len(self.t):
            j = rand(8 - n)
            if self.did(e.copy, j, i, n):
                self.u[j:j + n] = self.t[i:i + n]
        elif operation == 7 and i + 2 <= len(self.t) and not self.elem_dropped:
            if self.did(e.init, i, 0, 2):
                self.t[i:i + 2] = [None, None]
        elif operation == 8:
            if self.did(e.global_set, x):
                self.g = x
        elif operation == 9:
            if self.did(setattr, e.g, "value", x):
                self.g = x
        elif operation == 10:
            if self.did(e.hide, x):
                self.hidden = x
        elif operation == 11:
            for function, args, expected in (
                    (e.load, [i], self.t[i]), (operator.getitem, [e.t, i], self.t[i]), (e.global_get, [], self.g)):
                assert not self.did(function, *args) or self.result is expected
        elif operation == 12:
            y = self.value()
            assert not self.did(e.swap, x, y) or self.result == (y, x)
            assert not self.did(e.three.refs, x, y, x) or [ref and ref.value for ref in self.result] == [x, y, x]
        elif operation == 13 and len(self.held) < 8:
            y = self.value()
            self.held += [x]
            if self.did(e.hold, x, y, rand(6)):
                assert self.result == (x, self.pending)
            self.held.pop()
            self.pending = None
        elif operation == 14 and not self.elem_dropped and rand(200) == 0:
            if self.did(e.elem_drop):
                self.elem_dropped = True
        elif operation == 15:
            del x
            self.check()
        elif operation == 16 and len(self.held) < 3:
            self.held += [None]
            self.did(e.loop, 1 + rand(4))
            self.held.pop()
            self.pending = None
        else:
            assert not self.did(e.id, x) or self.result is x
        self.result = None

    def did(self, function, *args):
        """Whether it happened; `result` is what it gave. One that did not happen has changed nothing."""
        self.result = function(*args)
        return True

    def grew(self, before, more, function, *args):
        """Whether what had the size before, a table, has more."""
        assert self.did(function, *args) and self.result == before
        return True

    def from_wasm(self, ref, number):
        """The import of `hold` and `loop`: more steps, while their frame may hold a reference."""
        del ref
        for _ in range(number):
            self.step()
        result = self.value()
        self.pending = result
        return result

    def run(self, steps):
        while self.steps < steps:
            self.step()
        self.end()
        self.check()
        assert len(self.dropped) == len(set(self.dropped)) == self.made > steps / 4     # each once, none left
        assert len(self.store.activations) == 0

    def end(self):
        """Nothing holds anything any more."""
        e = self.exports
        for table, own in (e.t, self.t), (e.u, self.u):
            own[:] = [None] * len(own)
            table.fill(0, None, len(own))
        e.g.value = self.g = None
        e.hide(None)
        self.hidden = None


class Made:
    """A table, memory, global or instance, the references that it holds, and what it takes of the store's limits."""

    def __init__(self, thing, held=(), elements=0, units=0):
        self.thing = thing
        self.held = list(held)
        self.elements = elements
        self.units = units


PARTS = """(module (table (export "t") 3 20 externref) (memory (export "m") 1 3) (memory (export "wide") i64 1 3)
  (global (export "g") (mut externref) (ref.null extern))
  (func (export "save") (param i32 externref) (table.set 0 (local.get 0) (local.get 1))))"""


class ModelWithItems(Model):
    """Also tables, memories, globals and instances come and go, within the store's limits.

    page: so many pages are the model's unit of memory. parts: compiled PARTS, or None.
    """

    UNITS, ELEMENTS = 12, 130

    def __init__(self, make_store, instantiate, seed, parts=None, page=1):
        self.page = page
        self.parts = parts
        self.made_items = []
        self.refusals = 0
        self.failed = False     # whether something failed in the last operation, so that it may have been refused
        super().__init__(make_store(memory_limit=self.UNITS * page << 16, table_limit=self.ELEMENTS), instantiate, seed)

    def slots(self):
        return super().slots() + [x for item in self.made_items for x in item.held]

    def allows(self, units, elements):
        return (sum(item.units for item in self.made_items) + units <= self.UNITS
                and len(self.t) + 8 + sum(item.elements for item in self.made_items) + elements <= self.ELEMENTS)

    def grew(self, before, more, function, *args, units=0):
        allowed = self.allows(units, more - units)
        self.failed = False
        try:
            happened = self.did(function, *args)
        except ValueError:
            happened, self.result = True, -1
        if happened and self.result != -1:
            assert self.result == before and allowed | (more == 0)
            return True
        self.refusals += 1
        assert self.failed or not allowed
        return False

    def make(self, item, kind, *args):
        """One more item, if it can be had."""
        allowed = self.allows(item.units, item.elements)
        self.failed = False
        try:
            happened = self.did(kind, *args)
        except MemoryError:
            assert not allowed
            happened = False
        if happened:
            assert allowed
            item.thing = self.result
            self.made_items.append(item)
        else:
            self.refusals += 1

    def step(self):
        rand, store, page = self.random.randrange, self.store, self.page
        operation = rand(20)
        if operation > 7 or self.held:      # what is dropped in a frame may still be on the stack
            super().step()
            return
        self.steps += 1
        x, n = self.value(), rand(4)
        item = self.random.choice(self.made_items) if self.made_items else None
        if operation == 0:
            most = self.random.choice([None, 4 * page, 40 * page])
            self.make(Made(None, units=n), wasm2c.Memory, store, MemoryType(n * page, most, bool(rand(2))))
        elif operation == 1:
            self.make(Made(None, [x] * n, n), wasm2c.Table, store, TableType("externref", n, 20), x)
        elif operation == 2:
            self.make(Made(None, [x]), wasm2c.Global, store, GlobalType("externref", True), x)
        elif operation == 3 and self.parts is not None:
            self.make(Made(None, [None] * 4, 3, 2), self.parts.instantiate, store)
        elif item is None:
            return
        elif operation == 4 or len(self.made_items) > 8:
            self.made_items.remove(item)
            del item.thing
            gc.collect()        # an instance and its exports lead to each other
        elif isinstance(item.thing, wasm2c.Memory):
            if item.units + n <= 4 and self.grew(item.units * page, n, item.thing.grow, n * page, units=n):
                item.units += n
            assert len(item.thing) == item.units * page << 16 and not any(item.thing.read(max(0, len(item.thing) - 99)))
        elif isinstance(item.thing, wasm2c.Table):
            if len(item.held) + n <= 20 and self.grew(len(item.held), n, item.thing.grow, n, x):
                item.held += [x] * n
                item.elements += n
            assert list(item.thing) == item.held
        elif isinstance(item.thing, wasm2c.Global):
            if self.did(setattr, item.thing, "value", x):
                item.held = [x]
            assert item.thing.value is item.held[0]
        else:
            exports = item.thing.exports
            if self.did(exports.save, n % 3, x):
                item.held[n % 3] = x
            if self.did(setattr, exports.g, "value", x):
                item.held[3] = x
            assert [*exports.t, exports.g.value] == item.held
        self.result = None

    def end(self):
        super().end()
        self.made_items.clear()
        gc.collect()
        # What all of them had can be had again.
        memory = wasm2c.Memory(self.store, MemoryType(self.UNITS * self.page, is64=True))
        assert len(memory) == self.UNITS * self.page << 16
        assert len(wasm2c.Table(self.store, TableType("externref", self.ELEMENTS - len(self.t) - 8)))
