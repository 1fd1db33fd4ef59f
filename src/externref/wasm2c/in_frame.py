"""A frame of Python's, for calls that would have none below them."""

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def in_frame(function: Callable[..., T], *args: Any) -> T:
    """Calls the function: what looks for the frame that it was called from finds this one."""
    return function(*args)
