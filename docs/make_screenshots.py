"""Writes docs/images/screen_*.webp: what a user sees of the run of docs/case_decision.md. Needs Chromium.

python docs/make_screenshots.py runs/decision
"""

import html
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))

import chromium  # noqa: E402

import visionvitals as vv  # noqa: E402

WIDE, NARROW = (1400, 1000), (390, 844)
PAGE = '<!doctype html><meta charset="utf-8"><style>{}</style>{}'


def main(folder: Path, images: Path) -> None:
    """Every picture of one run."""
    run = vv.Run(folder)
    with tempfile.TemporaryDirectory() as where, chromium.tab(Path(where) / "profile") as tab:
        work = Path(where)
        report, compared = run.report(work / "report.html"), work / "compared.html"
        names = list(run.results.backbones)[:2]
        vitals("compare", str(folder), *names, "--html", str(compared))
        notebook, terminal = work / "notebook.html", work / "terminal.html"
        notebook.write_text(
            PAGE.format(
                "body{font:14px sans-serif;margin:24px}td,th{padding:4px 12px;text-align:left}", run._repr_html_()
            )
        )
        said = vitals("table", str(folder), "--study", "occlusion", "--metric", "top1") + vitals(
            "compare", str(folder), *names
        )
        lines = html.escape("\n".join(said.splitlines()[:44]))
        terminal.write_text(
            PAGE.format(
                "body{background:#16191d;color:#e8e6e0;margin:16px}pre{font:14px monospace}", f"<pre>{lines}</pre>"
            )
        )
        for name, page, size, dark, place in (
            ("report", report, WIDE, False, "body"),
            ("report_dark", report, WIDE, True, "#study-occlusion"),
            ("report_phone", report, NARROW, False, "body"),
            ("compare", compared, WIDE, False, "body"),
            ("notebook", notebook, WIDE, False, "body"),
            ("terminal", terminal, (720, 860), False, "body"),
        ):
            tab.size(*size, dark=dark)
            tab.open(page)
            tab.wait(f"document.readyState === 'complete' && document.querySelector({place!r}) !== null")
            tab.run(f"document.querySelector({place!r}).scrollIntoView()")
            tab.run("new Promise((done) => setTimeout(done, 3000))")  # the section in view is built and drawn
            tab.picture(work / "shot.png")
            held = io.BytesIO()
            Image.open(work / "shot.png").save(held, "webp", quality=82)
            (images / f"screen_{name}.webp").write_bytes(held.getvalue())


def vitals(*words: str) -> str:
    """What a command prints on a terminal of 80 columns."""
    environment = os.environ | {"COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-m", "visionvitals", *words], env=environment, capture_output=True, text=True, check=True
    )
    return f"$ vitals {' '.join(words)}\n{done.stdout}\n"


def _arguments(given: Sequence[str]) -> Path:
    if len(given) != 1:
        raise SystemExit(__doc__)
    return Path(given[0])


if __name__ == "__main__":
    main(_arguments(sys.argv[1:]), ROOT / "docs" / "images")
