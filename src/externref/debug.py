"""Where references go: leaks, with the lines that made them, and mistakes of compiled code.

    >>> from externref import debug
    >>> with debug.track() as tracker:
    ...     ptr = VMExternRef(Big()).into_raw()
    >>> print(tracker.report())
    1 reference owned by compiled code
      1 x Big made at app.py:2 in <module>, moved out at app.py:2 in <module>

While somebody tracks, each making of a reference, each into_raw() and each as_raw() notes the calls that it is in;
otherwise nothing here costs anything. With EXTERNREF_DEBUG=1 in the environment a process tracks from the import of
externref on and reports on stderr when it ends.

docs/debugging.md goes through the kinds of leaks. Tracking is the process's: all threads. All of it needs the GIL.
"""

import atexit
import gc
import operator
import os
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, Self, SupportsIndex

from externref import _core, abi

__all__ = ["Block", "Difference", "Event", "Snapshot", "Tracker", "describe", "live", "snapshot", "track"]

_PACKAGE = os.path.dirname(__file__) + os.sep


class Event(NamedTuple):
    """What happened to a block, and in which calls."""

    what: str
    """"made", "moved out" (by into_raw()), "lent" (by as_raw()) or "freed"."""
    calls: tuple[tuple[str, str, int], ...]
    """File, function and line of each call, innermost first; none on a thread that was not in Python code."""

    @property
    def place(self) -> str:
        """The innermost call outside of this package: "app.py:12 in load"."""
        for file, function, line in self.calls:
            if not file.startswith(_PACKAGE):
                return f"{file}:{line} in {function}"
        return ""

    def __str__(self) -> str:
        return f"{self.what} at {self.place}" if self.place else f"{self.what} outside of Python code"

    @property
    def stack(self) -> traceback.StackSummary:
        """The calls as `traceback` has them, the outermost first."""
        return traceback.StackSummary.from_list(
            [traceback.FrameSummary(file, line, function, lookup_line=False)
             for file, function, line in reversed(self.calls)])


class Block(NamedTuple):
    """One block as it was looked at; sizes in bytes."""

    address: int
    """Of the footer: the raw pointer."""
    payload_type: str
    strong_count: int
    """All owners; 0 if compiled code dropped the last and the drain is still to come."""
    handles: int
    """Owners that are the package's own: VMExternRef objects, and what it holds for a call, a table or a store."""
    lends: int
    """How many lend the pointer now: an open borrow(), a ctypes argument, an entry of an activations table."""
    lent_for_good: bool
    """as_raw() was called: the collector leaves cycles through the block alone."""
    handed_out: bool
    """from_raw() knows the address."""
    payload_size: int
    payload_align: int
    serial: int
    """In the order of their making while somebody tracked, from 1 on; 0 for others."""
    history: tuple[Event, ...]
    """The making, and the newest events after it, as far as somebody tracked."""

    @property
    def raw_owners(self) -> int:
        """Owners that are compiled code's: moved out by into_raw(), or cloned there."""
        return max(self.strong_count - self.handles, 0)

    @property
    def lent(self) -> bool:
        """Whether compiled code may have the pointer without being an owner."""
        return self.lent_for_good or self.lends > 0

    @property
    def leaks(self) -> bool:
        """Whether something other than Python keeps it: a raw owner, or as_raw(), whose cycles are not collected."""
        return self.raw_owners > 0 or self.lent_for_good

    def __str__(self) -> str:
        told = [f"{self.payload_type} {', '.join(map(str, self.history))}".rstrip()]
        if not self.history:
            told.append("not tracked")
        if self.raw_owners > 1:
            told.append(f"{self.raw_owners} owners")
        return ", ".join(told)


def _blocks(rows: "Iterable[_core._Row]") -> list[Block]:
    return [Block(*facts, serial, tuple(Event(*event) for event in history)) for facts, serial, history in rows]


def live() -> list[Block]:
    """The blocks that live: those made while somebody tracked, the oldest first; if nobody tracks, those whose address
    was handed out."""
    return _blocks(_core._tracked() if _core._is_tracking() else _core._registered())


def describe(ref: "_core.VMExternRef[object]", /) -> str:
    """A drawing of the reference's block with what is in it now, of several lines. MovedError if it is spent."""
    block, = _blocks([_core._row(ref)])
    start = block.address - abi.layout_for(block.payload_size, block.payload_align).footer_offset
    owners = f"{block.handles} of Python, {block.raw_owners} of compiled code"
    lent = "for good, by as_raw()" if block.lent_for_good else f"{block.lends} times" if block.lends else "no"
    lines = [f"{start:#x}  payload    {block.payload_type}, {block.payload_size} bytes",
             f"{block.address:#x}  ref_count  {block.strong_count}: {owners}       <- raw pointer",
             f"{block.address + abi.VALUE_PTR_OFFSET:#x}  value_ptr  {start:#x}",
             f"{block.address + abi.VTABLE_OFFSET:#x}  vtable",
             f"{block.address + abi.FOOTER_SIZE - 8:#x}  host word  handles {block.handles}, lent: {lent}, "
             f"known to from_raw(): {'yes' if block.handed_out else 'no'}"]
    return "\n".join([*lines, *map(str, block.history)])


def _report(blocks: Iterable[Block], mistakes: Iterable[str]) -> str:
    """Paragraphs of a heading and a line for each kind, or nothing."""
    kinds: dict[str, Counter[str]] = {"owned by compiled code": Counter(),
                                      "lent for good, whose cycles are not collected": Counter()}
    owned, lent = kinds.values()
    for block in blocks:
        if block.leaks:
            (owned if block.raw_owners else lent)[str(block)] += 1
    lines = []
    for heading, kind in kinds.items():
        if kind:
            lines.append(f"{_count(kind.total(), 'reference')} {heading}")
            lines += [f"  {count} x {told}" for told, count in kind.items()]
    found = Counter(mistakes)
    if found:
        lines.append(f"{_count(found.total(), 'mistake')} found")
        lines += [f"  {count} x {told}" for told, count in found.items()]
    return "\n".join(lines)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


class Tracker:
    """What track() gives: tracks in its with block, once."""

    def __init__(self, frames: SupportsIndex, guard: SupportsIndex) -> None:
        self._frames, self._guard = operator.index(frames), operator.index(guard)
        if not 1 <= self._frames <= MOST_FRAMES:
            raise ValueError(f"frames must be at least 1 and at most {MOST_FRAMES:,}, not {self._frames}")
        if not 0 <= self._guard <= MOST_GUARDED:
            raise ValueError(f"guard must be at least 0 and at most {MOST_GUARDED:,}, not {self._guard}")
        self._tracking: _core._Tracking | None = None       # which ends with it at the latest
        self._has_begun = self._is_over = False
        self._first = 0         # the first serial that is its own
        self._mistakes_before = 0
        self._found: tuple[list[Block], list[str]] | None = None     # at the block's end

    def __enter__(self) -> Self:
        if self._has_begun:
            raise RuntimeError("this tracker was used already; each with block takes a track() of its own")
        self._mistakes_before = _core._mistakes_made()
        self._first = _core._newest_serial() + 1
        self._has_begun = True
        try:
            self._tracking = _core._Tracking(self._frames, self._guard)
        except BaseException:
            self._is_over = True
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self._require_begun()
            if self._is_over:
                raise RuntimeError("this tracker's with block has ended already")
            self._found = self._look(), self.mistakes()
        finally:
            self._is_over = self._has_begun
            if self._tracking is not None:
                self._tracking.end()

    def _look(self) -> list[Block]:
        gc.collect()
        _core.drain()
        gc.collect()        # what finalizers left
        return self.live()

    def _require_begun(self) -> None:
        if not self._has_begun:
            raise RuntimeError("this tracker has not begun: `with debug.track() as tracker:`")
        if self._is_over and self._found is None:
            raise RuntimeError("the end of this tracker's with block was interrupted, and nothing was found out")

    def live(self) -> list[Block]:
        """The blocks that were made since the with block began and live: now, or as it ended."""
        self._require_begun()
        if self._found is not None:
            return list(self._found[0])
        return [block for block in live() if block.serial >= self._first]

    def leaks(self) -> list[Block]:
        """Those of live() that compiled code owns, or that were lent for good. Within the with block it collects
        garbage and drains first; after it, as of its end. What is moved out, and rightly so, is among them."""
        self._require_begun()
        blocks = self._found[0] if self._found is not None else self._look()
        return [block for block in blocks if block.leaks]

    def mistakes(self) -> list[str]:
        """What compiled code did to blocks that were not its own, in words, as far as it was found since the with block
        began, the newest thousand. Each was said on stderr, too."""
        self._require_begun()
        if self._found is not None:
            return list(self._found[1])
        return _core._mistakes(self._mistakes_before)

    def report(self) -> str:
        """leaks() and mistakes() in words, alike ones counted together; "" if there are none."""
        return _report(self.leaks(), self.mistakes())


MOST_FRAMES, MOST_GUARDED = 1000, 10_000_000


def track(*, frames: SupportsIndex = 16, guard: SupportsIndex = 0) -> Tracker:
    """Track in a with block: `with debug.track() as tracker:`.

    frames: so many of the innermost calls are noted of each event, from 1 to 1,000.
    guard: so many freed blocks, at most 10,000,000, are kept, 40 bytes and their history each. Compiled code that drops
        one of them again is said on stderr at once, with the block's history; one that clones it or writes to it is
        found at the next look: by mistakes(), at the with block's end, or when the block is let go.
    Raises ValueError for other numbers, TypeError for what is none. Trackers may nest: the largest figures count.

    References that were made before are not tracked. Nor are native payloads made by externref_new_anywhere(), without
    the GIL, or of a type that is EXTERNREF_DROP_ANYWHERE; other native payloads are, but are not guarded.
    """
    return Tracker(frames, guard)


class Difference(NamedTuple):
    """What one snapshot has, and another has not."""

    new: list[Block]
    gone: list[Block]
    changed: list[tuple[Block, Block]]
    """Of other owners, or lent otherwise: before, after."""

    def __str__(self) -> str:
        lines = [f"+ {block}" for block in self.new] + [f"- {block}" for block in self.gone]
        for before, after in self.changed:
            lines.append(f"~ {after}: strong_count {before.strong_count} -> {after.strong_count}, "
                         f"handles {before.handles} -> {after.handles}, lends {before.lends} -> {after.lends}")
        return "\n".join(lines)


class Snapshot:
    """live() at one time; `after - before` is their Difference."""

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = blocks

    def __sub__(self, before: Self) -> Difference:
        if not isinstance(before, Snapshot):
            return NotImplemented
        # Without tracking all serials are 0, and an address may be another block's by now.
        here, there = ({(block.address, block.serial, block.payload_type): block for block in side.blocks}
                       for side in (self, before))
        both = [(there[key], here[key]) for key in here if key in there]
        return Difference([block for key, block in here.items() if key not in there],
                          [block for key, block in there.items() if key not in here],
                          [(old, new) for old, new in both if _owners(old) != _owners(new)])


def _owners(block: Block) -> tuple[int, int, int, bool]:
    return block.strong_count, block.handles, block.lends, block.lent_for_good


def snapshot() -> Snapshot:
    """The blocks that live() lists, for a comparison."""
    return Snapshot(live())


# -- EXTERNREF_DEBUG

_GUARDED = 10_000


def _track_process(setting: str) -> None:
    """Tracks from now to the process's end, and reports on stderr then; what EXTERNREF_DEBUG says is "1", "guard",
    "guard=N", or "0" for nothing."""
    if setting == "0":
        return
    name, _, most = setting.partition("=")
    guard = 0
    try:
        if name == "guard":
            guard = int(most or _GUARDED)
        elif setting != "1":
            raise ValueError
        tracker = track(guard=guard)
    except ValueError:
        warnings.warn(f"EXTERNREF_DEBUG is {setting!r}, and not 1, guard or guard=N: it is taken for 1", RuntimeWarning,
                      stacklevel=2)
        tracker = track()
    tracker.__enter__()
    if guard:       # also of what the end of the interpreter frees, and of threads of compiled code that outlive it
        assert tracker._tracking is not None
        tracker._tracking.never_end()
    process = os.getpid()

    def report() -> None:
        if os.getpid() != process:
            return      # a child's references are its parent's, too, who reports them
        if not guard:
            tracker.__exit__()
        text = tracker.report()
        # A finalizer may have forked meanwhile; and nobody may be there to be told.
        if text and os.getpid() == process and sys.stderr is not None:
            print("\n".join(f"externref: {line}" if not line.startswith(" ") else line for line in text.splitlines()),
                  file=sys.stderr, flush=True)

    atexit.register(report)
