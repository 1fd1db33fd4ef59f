"""What exit_matrix.py has in a store of WebAssembly, and does with it."""

import atexit

MODULE = """(module (import "env" "host" (func $host (param externref) (result externref)))
  (table (export "t") 4 externref) (global (export "g") (mut externref) (ref.null extern))
  (func (export "id") (param externref) (result externref) (local.get 0))
  (func (export "call") (param externref) (result externref) (call $host (local.get 0))))"""


# Of no module, or a store that is in C code would keep this one, and with it all the others.
host = eval("lambda ref: ref", {})


def open_wasm2c():
    """A store, and the exports of MODULE in it: the table, the global, and two functions."""
    from externref import wasm2c

    store = wasm2c.Store()
    exports = wasm2c.compile(MODULE).instantiate(store, {"env": {"host": host}}).exports
    return store, [exports[name] for name in ("t", "g", "id", "call")]


def open_wasmtime():
    import wasmtime

    import externref.wasmtime as ew

    store = wasmtime.Store()
    of = [wasmtime.ValType.externref()]
    imported = ew.func(store, wasmtime.FuncType(of, of), host)
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, MODULE), [imported]).exports(store)
    return store, [ew.bind(store, exports[name]) for name in ("t", "g", "id", "call")]


def make_states(open_store):
    def in_table(loud):
        store, exports = open_store()
        exports[0][0] = loud
        return store, exports

    def in_global(loud):
        store, exports = open_store()
        exports[1].value = loud
        return store, exports

    def passed(loud):
        store, exports = open_store()
        exports[2](loud)
        exports[3](loud)
        return store, exports

    def given(loud):
        store, exports = open_store()
        return store, exports[2].refs(loud)

    def outlives_store(loud):
        store, exports = open_store()
        ref = exports[2].refs(loud)
        store.close()
        return ref

    def cycle(loud):
        store, exports = open_store()
        loud.cycle = store, exports
        exports[0][0] = loud

    def forgotten(loud):
        _, exports = open_store()
        exports[0][0] = loud

    def closed(loud):
        store, exports = open_store()
        exports[0][0] = loud
        store.close()
        return store, exports

    def closed_by_atexit(loud):
        store, exports = open_store()
        exports[0][0] = loud
        atexit.register(store.close)
        return store, exports

    return [in_table, in_global, passed, given, outlives_store, cycle, forgotten, closed, closed_by_atexit]


def make_deeds(open_store, closes):
    store, (table, global_, identity, call) = open_store()
    length = len

    def use_table(loud):
        table[0] = loud
        assert table[0] is loud and length(table) == 4
        table[0] = None

    def use_global(loud):
        global_.value = loud
        assert global_.value is loud
        global_.value = None

    def pass_through(loud):
        assert identity(loud) is loud

    def call_host(loud):
        assert call(loud) is loud

    def get_reference(loud):
        assert identity.refs(loud).value is loud

    def collect(loud):
        identity(loud)
        store.gc()

    def close(loud):
        table[0] = loud
        store.close()

    deeds = [use_table, use_global, pass_through, call_host, get_reference, collect, close]
    return deeds if closes else deeds[:-1]


def none():
    """A store that is not there, for who wants the names alone."""
    return None, [None] * 4


RUNTIMES = {"wasm2c": open_wasm2c, "wasmtime": open_wasmtime}
