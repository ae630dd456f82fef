"""The commands that hand a run on to people, registered by `cli`. Every heavy import is inside the function that needs it."""

from pathlib import Path

from visionvitals.terminal import print_line


def card(run_folder: Path, backbone: str, /, *, out: Path | None = None) -> int:
    """Print a backbone's section for a model card: Markdown with its vital signs, and the hub's `model-index` as YAML above it.

    Args:
        run_folder: As given to `--out`.
        backbone: As it was spelled, or as the tables call it.
        out: Write it to this file.
    """
    from visionvitals.files import write_safely
    from visionvitals.report import card as cards
    from visionvitals.results import load

    run = load(run_folder)
    text = cards.card(run, backbone)
    if out is None:
        print_line(text.rstrip())
    else:
        write_safely(out, text)
        print_line(out)
    return 0


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
