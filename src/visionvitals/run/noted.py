"""What people decided, kept with the run: `notes.json`, a list of `{"time", "text"}` in the order in which they were written. Numbers
never depend on it, and nothing but `vitals note` writes it.
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime

from visionvitals.errors import VitalsError, require, shortened
from visionvitals.files import lexists, write_safely
from visionvitals.remote import AnyPath
from visionvitals.run import documents, requests
from visionvitals.run.provenance import now

FILE = "notes.json"
LONGEST = 4_000
"""Characters of a note."""


@dataclass(frozen=True)
class Note:
    """A decision in a person's words.

    Attributes:
        time: when it was written, UTC, ISO 8601.
        text: as it was given; several lines are allowed.
    """

    time: str
    text: str

    @property
    def when(self) -> str:
        """The time for people, `2026-11-29 06:10 UTC`."""
        return f"{datetime.fromisoformat(self.time):%Y-%m-%d %H:%M} UTC"

    @property
    def line(self) -> str:
        """All of it in one line, `Noted on 2026-11-29 06:10 UTC: ship it`."""
        return f"Noted on {self.when}: {' '.join(self.text.split())}"


def add(out: AnyPath, text: str) -> Note:
    """Keep a note with the run in `out`.

    Raises:
        VitalsError: not a run folder, an empty or very long text, damaged notes (which stay as they are), or a disk that refuses.
    """
    requests.content_of(out)
    words = text.strip()
    do = "Say it shorter." if words else "Say what was decided, and why."
    require(0 < len(words) <= LONGEST, f"A note must have 1 to {LONGEST:,} characters", shortened(text), do)
    kept = Note(now(), words)
    content = [asdict(note) for note in [*read(out), kept]]
    try:
        write_safely(out / FILE, json.dumps(content, indent=1))
    except OSError as error:
        raise VitalsError(f"A note must be written to {out / FILE}. Got: {error.strerror or error}.") from error
    return kept


def read(out: AnyPath) -> list[Note]:
    """The notes of a run folder; none where there is no file.

    Raises:
        VitalsError: the file is damaged.
    """
    if not lexists(out / FILE):
        return []
    return [Note(each["time"], each["text"]) for each in documents.read(out / FILE, documents.NOTES)]


def lines(out: AnyPath) -> list[str]:
    """The notes for people, a line each. Damaged notes cost no reader its work: then the line says so."""
    try:
        return [note.line for note in read(out)]
    except VitalsError as error:
        return [f"Notes left out: {error}"]
