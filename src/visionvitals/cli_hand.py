"""The commands that hand a run on to people, registered by `cli`. Every heavy import is inside the function that needs it."""

from pathlib import Path

from visionvitals.terminal import print_line


def note(run_folder: Path, text: str | None = None, /) -> int:
    """Keep a decision with a run, or show those that are kept. The report, `status`, `card` and `gate` show them too.

    Args:
        run_folder: As given to `--out`.
        text: What was decided, and why; it gets the time. Without it the notes are shown.
    """
    from visionvitals.run import noted

    kept = noted.read(run_folder) if text is None else [noted.add(run_folder, text)]
    print_line(
        "\n".join(f"{each.when}\n  {each.text}" for each in kept) or "No note yet: vitals note RUN TEXT keeps one."
    )
    return 0
