"""`vitals serve` in a real browser: the report is drawn inside the page, and drawn again when new cells are there."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from visionvitals.report import live

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
import fake_run

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=120000", "--dump-dom"]  # fmt: skip
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.is_file(), reason=f"needs {CHROMIUM}")]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return fake_run.write(tmp_path / "run", n=40, studies=("clean", "occlusion"))


@pytest.fixture
def url(out: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of a run of which the second study is finished after the page has asked twice."""
    away, asked = out.parent / "occlusion", []
    (out / "store" / "occlusion").rename(away)
    honest = live.Live.progress

    def progress(self: live.Live) -> dict[str, object]:
        asked.append(1)
        if len(asked) == 4 and away.exists():
            away.rename(out / "store" / "occlusion")
        return honest(self)

    monkeypatch.setattr(live.Live, "progress", progress)
    with live.server(out) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


def test_the_page_draws_the_report_again_when_there_is_more(url: str, tmp_path: Path) -> None:
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    assert "<title>100 % · visionvitals</title>" in done.stdout
    assert re.search(r'<span id="said" role="status">(\d+) of \1 cells, [^<]*complete</span>', done.stdout)
    assert int(re.search(r'data-reports="(\d+)"', done.stdout)[1]) >= 2  # type: ignore[index]
