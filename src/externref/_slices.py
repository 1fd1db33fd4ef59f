"""Slices of tables, in every runtime: by way of single elements, as a table is bound to a store and checks its use.

A table never shrinks: what is within bounds stays so, whatever runs meanwhile.
"""

from collections.abc import Iterable
from typing import Any


def get_slice(table: Any, places: slice) -> list[Any]:
    """The elements, as a list has them."""
    return [table[i] for i in range(*places.indices(len(table)))]


def set_slice(table: Any, places: slice, values: Iterable[Any]) -> None:
    """Stores one value in each element, in order, to the first that does not fit. ValueError, and nothing is stored,
    for another number of values: a table keeps its length."""
    indices = range(*places.indices(len(table)))
    given = list(values)
    if len(given) != len(indices):
        raise ValueError(f"{len(given)} values for {len(indices)} elements of a table")
    for i, value in zip(indices, given, strict=True):
        table[i] = value
