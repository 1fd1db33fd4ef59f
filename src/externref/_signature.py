"""What inspect.signature() says of a WebAssembly function, in every runtime."""

import inspect
from collections.abc import Mapping
from keyword import iskeyword
from types import GenericAlias
from typing import Any

ANNOTATIONS = {"i32": int, "i64": int, "f32": float, "f64": float, "v128": bytes, "externref": Any, "funcref": Any}


def signature(function_type: tuple[tuple[str, ...], tuple[str, ...]], names: Mapping[int, str]) -> inspect.Signature:
    """The signature of a Func: its parameters by their names, where Python can have these, else by number.

    function_type: the names of the value types of its parameters and results.
    """
    params, results = function_type
    found = [names.get(i, "") for i in range(len(params))]
    usable = [name.isidentifier() and not iskeyword(name) and found.count(name) == 1 for name in found]
    # An underscore more than any of the names has where it would be the same.
    prefix = "a"
    while any(name.startswith(prefix) and name[len(prefix):].isdigit() for name in found):
        prefix += "_"
    parameters = [inspect.Parameter(name if is_usable else f"{prefix}{i}", inspect.Parameter.POSITIONAL_ONLY,
                                    annotation=ANNOTATIONS[value])
                  for i, (name, is_usable, value) in enumerate(zip(found, usable, params, strict=True))]
    annotations = tuple(ANNOTATIONS[value] for value in results)
    result = (GenericAlias(tuple, annotations) if len(annotations) > 1 else annotations[0] if annotations else None)
    return inspect.Signature(parameters, return_annotation=result)
