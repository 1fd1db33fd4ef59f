"""Random programs against a plain model: what compiled code can reach lives, the rest is dropped. Promises P1, P2.

Each object that goes in records its drop. The model knows what every slot and global holds;
after a collection without active frames the live objects must be exactly those, and with active
frames at least those. As a fuzzer's silence means nothing if it never collects, the collections
that freed are counted, and must be many.
"""

import random

import pytest

STEPS = 12_000


class Model:
    def __init__(self, references, store, make_payload, seed):
        self.random = random.Random(seed)
        self.store = store
        self.make_payload = make_payload
        self.exports = references(self.from_wasm)
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
        return self.make_payload(self.dropped, self.made)

    def reachable(self):
        return {x.name for x in [*self.t, *self.u, self.g, self.hidden, *self.held] if x is not None}

    def check(self):
        """Collects, and compares who lives. The model's own references keep payloads alive, so what it
        compares is the table: nothing may be gone that is reachable, and nothing kept besides."""
        self.freeing += self.store.gc() > 0
        assert not self.reachable() & set(self.dropped)
        if not self.held:
            slots = sum(x is not None for x in [*self.t, *self.u, self.g, self.hidden])
            assert len(self.reachable()) <= len(self.store.activations) <= slots     # a block for each time it went in
            assert len(self.dropped) == self.made - len(self.reachable())
        e = self.exports
        assert list(e.t) == self.t and list(e.u) == self.u and e.g.value is self.g and e.seek() is self.hidden

    def step(self):
        self.steps += 1
        e, rand = self.exports, self.random.randrange
        operation = rand(17)
        i, n = rand(len(self.t)), rand(4)
        x = self.value()
        if operation == 0:
            e.save(i, x)
            self.t[i] = x
        elif operation == 1:
            e.t[i] = x
            self.t[i] = x
        elif operation == 2 and i + n <= len(self.t):
            e.fill(i, x, n)
            self.t[i:i + n] = [x] * n
        elif operation == 3 and i + n <= len(self.t):
            e.t.fill(i, x, n)
            self.t[i:i + n] = [x] * n
        elif operation == 4 and len(self.t) + n <= 64 and rand(20) == 0:
            assert e.grow(x, n) == len(self.t)
            self.t += [x] * n
        elif operation == 5 and len(self.t) + n <= 64 and rand(20) == 0:
            assert e.t.grow(n, x) == len(self.t)
            self.t += [x] * n
        elif operation == 6 and i + n <= len(self.t):
            j = rand(8 - n)
            e.copy(j, i, n)
            self.u[j:j + n] = self.t[i:i + n]
        elif operation == 7 and i + 2 <= len(self.t) and not self.elem_dropped:
            e.init(i, 0, 2)
            self.t[i:i + 2] = [None, None]
        elif operation == 8:
            e.global_set(x)
            self.g = x
        elif operation == 9:
            e.g.value = x
            self.g = x
        elif operation == 10:
            e.hide(x)
            self.hidden = x
        elif operation == 11:
            assert e.load(i) is self.t[i] and e.t[i] is self.t[i] and e.global_get() is self.g
        elif operation == 12:
            y = self.value()
            assert e.swap(x, y) == (y, x) and [ref and ref.value for ref in e.three.refs(x, y, x)] == [x, y, x]
        elif operation == 13 and len(self.held) < 8:
            y = self.value()
            self.held += [x]
            assert e.hold(x, y, rand(6)) == (x, self.pending)
            self.held.pop()
            self.pending = None
        elif operation == 14 and not self.elem_dropped and rand(200) == 0:
            e.elem_drop()
            self.elem_dropped = True
        elif operation == 15:
            del x
            self.check()
        else:
            assert e.id(x) is x

    def from_wasm(self, ref, number):
        """The import of `hold`: more steps, while its frame holds a reference."""
        del ref
        for _ in range(number):
            self.step()
        result = self.value()
        self.pending = result
        return result


@pytest.mark.parametrize("seed", range(3))
def test_random_programs(references, store, make_payload, seed):
    model = Model(references, store, make_payload, seed)
    while model.steps < STEPS:
        model.step()
    for table in model.t, model.u:
        table[:] = [None] * len(table)
    model.exports.t.fill(0, None, len(model.t))
    model.exports.u.fill(0, None, 8)
    model.exports.g.value = model.g = None
    model.exports.hide(None)
    model.hidden = None
    model.check()
    assert len(model.dropped) == len(set(model.dropped)) == model.made > STEPS / 4      # each once, none left
    assert len(store.activations) == 0
    assert model.freeing > 200 and store.activations.collections > model.freeing
