"""pytest's plugin for who uses externref: the fixture and the marker `externref_no_leaks`.

A module of its own, so that a run of pytest that uses neither does not import externref. Examples: docs/debugging.md.
"""

from __future__ import annotations

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
    return debug.track(**(marker.kwargs if marker else {}))


@pytest.fixture
def externref_no_leaks(request: pytest.FixtureRequest) -> Tracker:
    """Fails the test if compiled code keeps a reference that was made in it: an externref.debug.Tracker, which tracks
    while the test function runs."""
    return tracker_for(request.node)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    tracker: Tracker | None = getattr(item, "funcargs", {}).get(NAME)
    if tracker is None:
        if item.get_closest_marker(NAME) is None:
            return (yield)
        tracker = tracker_for(item)
    with tracker:
        result = yield      # what it raises comes out: the test has failed, and its frames keep their references
    report = tracker.report()
    if report:
        pytest.fail(report, pytrace=False)
    return result
