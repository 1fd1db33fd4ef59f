"""externref.wasm2c, as users write it."""

from typing import Any, assert_type

from externref import VMExternRef, wasm2c

module = wasm2c.compile("(module)")
assert_type(module, wasm2c.Module)
assert_type(module.exports[0].name, str)


def host(file: Any, count: int) -> str:
    return f"{file} {count}"


with wasm2c.Store() as store:
    instance = module.instantiate(store, {"env": {"host": host, "ref": VMExternRef(1)}})
    assert_type(instance, wasm2c.Instance)
    assert_type(instance.exports, wasm2c.Exports)
    function = instance.exports["f"]
    assert isinstance(function, wasm2c.Func)
    assert_type(function.type, wasm2c.FuncType)
    assert_type(function.type.params, tuple[str, ...])
    function("anything", 1)
