"""How far a run is: a bar on a terminal and in a notebook, otherwise one plain line every few seconds, since a bar fills a log file with nothing."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import Any, TextIO

from visionvitals.errors import escaped

PLAIN_SECONDS = 5.0
NOTEBOOK_SECONDS = 0.25
QUIET = "VISIONVITALS_QUIET"
"""The environment variable that leaves progress out, for a process whose progress another one shows."""


def write(text: str, stream: TextIO) -> None:
    """Lines on a stream, at once. A reader that has had enough, such as `head`, ends no command: what comes after goes nowhere."""
    try:
        print(escaped(text), file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def say(text: str) -> None:
    """One line on standard error, at once."""
    write(text, sys.stderr)


@dataclass
class Meter:
    """Counts what is done. The only mutable thing of a run.

    Attributes:
        cells, images: how many there are in all.
        passes: forward passes in all, images times what each costs; the time left is told from them.
        say: prints one line without disturbing the bar.
        note: what else is counted.
    """

    cells: int
    images: int
    passes: float
    say: Callable[[str], None]
    _show: "Callable[[Meter], None]" = field(repr=False)
    _clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    cells_done: int = 0
    images_done: int = 0
    passes_done: float = 0.0
    note: str = ""
    busy: float = 0.0
    _began: float | None = field(default=None, repr=False)

    def advance(self, images: int, passes: float = 1.0) -> None:
        """So many images more are done (fewer, where a cell starts again), each in so many passes."""
        self.images_done += images
        self.passes_done += images * passes
        self._show(self)

    def finish_cell(self, *, unmeasured: int = 0, passes: float = 1.0) -> None:
        """A cell is over; so many of its images will not be measured (unreadable, or the cell failed)."""
        self.cells_done += 1
        self.images -= unmeasured
        self.passes -= unmeasured * passes
        self._show(self)

    def count(self, cells: int, passes: float, note: str) -> None:
        """So much is there by now, whoever measured it."""
        self.cells_done, self.passes_done, self.note = cells, passes, note
        self._show(self)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Time spent in here counts for the rate; loading and decoding do not."""
        self._began = self._clock()
        try:
            yield
        finally:
            self.busy += self._clock() - self._began
            self._began = None

    def line(self) -> str:
        """Cells, images, rate and the time left, in one line."""
        running = 0.0 if self._began is None else self._clock() - self._began
        busy = self.busy + running
        rate = self.images_done / busy if busy > 0 else 0.0
        parts = [f"{self.cells_done}/{self.cells} cells"]
        parts += [f"{self.images_done:,}/{self.images:,} images"] if self.images else []
        parts += [self.note] if self.note else []
        if rate > 0:
            parts += [f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.1f} images/s"]
        if busy > 0 and self.passes_done > 0:
            parts += [f"{duration(max(0.0, self.passes - self.passes_done) * busy / max(self.passes_done, 1e-9))} left"]
        return ", ".join(parts)


@contextmanager
def meter(*, cells: int, images: int, passes: float | None = None, stream: TextIO | None = None) -> Iterator[Meter]:
    """A `Meter` that shows itself on `stream` (standard error where None); one pass an image where `passes` is None."""
    total = images if passes is None else passes
    display = _notebook() if stream is None else None
    if display is not None:
        yield from _in_notebook(cells, images, total, display)
        return
    out = sys.stderr if stream is None else stream
    if out.isatty():
        with _bar(cells, images, total, out) as shown:
            yield shown
        return

    last = time.monotonic()

    def show(state: Meter) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_SECONDS and QUIET not in os.environ:
            last = time.monotonic()
            state.say(state.line())

    yield Meter(cells, images, total, lambda text: write(text, out), show)


def _notebook() -> Callable[..., Any] | None:
    """IPython's `display` where this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    found: Callable[..., Any] = sys.modules["IPython"].display.display
    return found


def _in_notebook(cells: int, images: int, passes: float, display: Callable[..., Any]) -> Iterator[Meter]:
    """A bar below the cell, which is drawn anew a few times a second and stays with the last state; lines are printed as they come."""
    shown = 0.0

    def bar(state: Meter) -> dict[str, str]:
        done = min(1.0, state.passes_done / state.passes) if state.passes > 0 else 1.0
        text = state.line()
        return {"text/html": f'<progress max="1" value="{done:.3f}"></progress> {escape(text)}', "text/plain": text}

    def show(state: Meter) -> None:
        nonlocal shown
        if time.monotonic() - shown >= NOTEBOOK_SECONDS:
            shown = time.monotonic()
            handle.update(bar(state), raw=True)

    state = Meter(cells, images, passes, lambda text: print(escaped(text), flush=True), show)
    handle = display(bar(state), raw=True, display_id=True)
    try:
        yield state
    finally:
        handle.update(bar(state), raw=True)


@contextmanager
def _bar(cells: int, images: int, passes: float, stream: TextIO) -> Iterator[Meter]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(file=stream)
    with Progress(BarColumn(), TextColumn("{task.description}"), console=console, transient=True) as bar:
        task = bar.add_task(f"0/{cells} cells", total=passes)

        def show(state: Meter) -> None:
            bar.update(task, completed=state.passes_done, total=state.passes, description=state.line())

        yield Meter(
            cells, images, passes, lambda text: console.print(escaped(text), markup=False, highlight=False), show
        )


def cells(n: int) -> str:
    """`1 cell`, `2 cells`."""
    return f"{n} cell" if n == 1 else f"{n} cells"


def duration(seconds: float) -> str:
    """Seconds as people say them.

    Example:
        >>> duration(9.4), duration(95), duration(7260)
        ('9 s', '1 min 35 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
