"""pytest's plugin for who uses externref: the fixture and the marker `externref_no_leaks`.

A module of its own, so that a run of pytest that uses neither does not import externref. Examples: docs/debugging.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from externref.debug import Tracker

NAME = "externref_no_leaks"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"{NAME}(frames=16, guard=0): fail the test if compiled code keeps a reference that was made in it, "
                   "or makes a mistake that shows; the arguments are externref.debug.track()'s")


def tracker_for(item: pytest.Item) -> Tracker:
    from externref import debug

    marker = item.get_closest_marker(NAME)
    return debug.track(*marker.args, **marker.kwargs) if marker else debug.track()


TRACKER = pytest.StashKey["Tracker"]()
CALL = pytest.StashKey[contextlib.ExitStack]()       # while the test function runs


@pytest.fixture
def externref_no_leaks(request: pytest.FixtureRequest) -> Tracker:
    """Fails the test if compiled code keeps a reference that was made in it: an externref.debug.Tracker, which tracks
    while the test function runs, or from where that asks for the fixture."""
    tracker = request.node.stash[TRACKER] = tracker_for(request.node)
    if CALL in request.node.stash:
        request.node.stash[CALL].enter_context(tracker)
    return tracker


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    if TRACKER not in item.stash and item.get_closest_marker(NAME) is not None:
        item.stash[TRACKER] = tracker_for(item)
    try:
        with contextlib.ExitStack() as call:
            item.stash[CALL] = call
            if TRACKER in item.stash:
                call.enter_context(item.stash[TRACKER])
            result = yield  # what it raises comes out: the test has failed, and its frames keep their references
        report = item.stash[TRACKER].report() if TRACKER in item.stash else ""
    finally:
        for key in TRACKER, CALL:       # it may run again
            if key in item.stash:
                del item.stash[key]
    if report:
        pytest.fail(report, pytrace=False)
    return result
