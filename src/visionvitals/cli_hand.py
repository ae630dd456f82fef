"""The commands that hand a run on to people, registered by `cli`. Every heavy import is inside the function that needs it."""

import sys
from pathlib import Path

from visionvitals.options import Port, RunFolder
from visionvitals.run.progress import say
from visionvitals.terminal import print_line


def card(run_folder: RunFolder, backbone: str, /, *, out: Path | None = None) -> int:
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


def note(run_folder: RunFolder, text: str | None = None, /) -> int:
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


def serve(run_folder: RunFolder, /, *, port: Port = 8000, host: str = "127.0.0.1") -> int:
    """Show the report of a run live while it goes on: progress, failures, and new points as they are measured. Ctrl-C ends it.

    Args:
        run_folder: As given to `--out`.
        port: 0 for any that is free.
        host: The address to listen on. By default nobody but this machine can see the run; another one shows it to all who reach it.
    """
    from visionvitals.report import live

    with live.server(run_folder, host=host, port=port) as server:
        if not server.loopback:
            say(f"warning: everyone who reaches {host} can see this run")
        print_line(f"{server.url}   Ctrl-C ends it")
        sys.stdout.flush()
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            say("Ended. The run is not affected.")
    return 0
