"""Operations that a store of either runtime has, on the exports of one module: what both files operations.py share."""

import operator

MANY = 20       # values of a call: more than it has room for on the stack

# Of a module that imports $call and $pair. Beside them it exports id(), grow() of its memory, and that as m.
ITEMS = f"""
  (table $t (export "t") 8 64 externref) (table $f (export "f") 2 10 funcref)
  (global (export "g") (mut externref) (ref.null extern))
  (func (export "many") (param {"externref " * MANY}) (result {"externref " * MANY})
    {" ".join(f"(local.get {i})" for i in range(MANY))})
  (func (export "host") (param externref i32) (result externref) (call $call (local.get 0) (local.get 1)))
  (func (export "hosts") (param externref) (result externref funcref) (call $pair (local.get 0)))
  (func (export "pass") (param funcref) (result funcref) (local.get 0))
  (func (export "v128") (param v128) (result v128) (local.get 0))
  (func (export "grow_table") (param externref i32) (result i32) (table.grow $t (local.get 0) (local.get 1)))"""


def same(result, expected):
    """For an operation in an expression: that gives what it should."""
    assert result is expected or result == expected
    return True


def grew(failed, grow, *args):
    """Whether something grew; else it says so in the way that it has."""
    try:
        return grow(*args) != failed
    except ValueError:
        return failed != "ValueError"


# What is done, and whether it was: each is given a world, with the exports `e`, an object, and a reference of it. No closures:
# Python itself loses a reference when it has no memory for a cell.
OPERATIONS = {
    "call": lambda w: same(w.e.id(w.object), w.object),
    "call with many": lambda w: same(w.e.many(*[w.object] * MANY), (w.object,) * MANY),
    "call with many boxes": lambda w: same(w.e.many(*range(MANY)), tuple(range(MANY))),
    "refs": lambda w: same(w.e.id.refs(w.ref).value, w.object),
    "many refs": lambda w: same([ref.value for ref in w.e.many.refs(*[w.object] * MANY)], [w.object] * MANY),
    "host's result": lambda w: same(w.e.host(w.object, 2**20), w.object),
    "host's results": lambda w: same(w.e.hosts(w.object)[0], w.object),
    "funcref": lambda w: same(w.e["pass"](w.e.id).type, w.e.id.type),
    "v128": lambda w: same(w.e.v128(bytes(range(16))), bytes(range(16))),
    "t[i] = x": lambda w: operator.setitem(w.e.t, 0, w.object) is None,
    "t[i]": lambda w: same(w.e.t[0], w.object),
    "t.ref": lambda w: same(w.e.t.ref(0).value, w.object),
    "t.fill": lambda w: w.e.t.fill(0, w.object, 1) is None,
    "g.value = x": lambda w: setattr(w.e.g, "value", w.object) is None,
    "g.ref": lambda w: same(w.e.g.ref.value, w.object),
    "table.grow": lambda w: grew(-1, w.e.grow_table, w.object, 3),
    "t.grow": lambda w: grew("ValueError", w.e.t.grow, 3, w.object),
    "f.grow": lambda w: grew("ValueError", w.e.f.grow, 3, w.e["pass"]),
    "memory.grow": lambda w: grew(-1, w.e.grow, 2),
    "m.grow": lambda w: grew("ValueError", w.e.m.grow, 2),
}
