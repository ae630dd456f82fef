"""`vitals serve`: the page follows the run, and nothing but the run can be read."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fake_run
import pytest

from visionvitals import cli
from visionvitals.errors import VitalsError
from visionvitals.report import build, live
from visionvitals.results import load
from visionvitals.run import folder, noted


@contextmanager
def served(out: Path) -> Iterator[str]:
    with live.server(out) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def get(url: str, path: str, host: str | None = None) -> tuple[int, bytes]:
    """Status and body of a path exactly as it is written."""
    address = url.removeprefix("http://").rstrip("/")
    link = http.client.HTTPConnection(address, timeout=60)
    link.request("GET", path, headers={"Host": host or address})
    answer = link.getresponse()
    found = answer.status, answer.read()
    link.close()
    return found


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return fake_run.write(tmp_path / "run", n=40, pictures=0, studies=("clean", "occlusion"))


def test_the_page_follows_the_run(out: Path) -> None:
    away = out.parent / "occlusion"
    (out / "store" / "occlusion").rename(away)
    cells = len(list(away.iterdir()))
    with served(out) as url:
        assert b'src="/report"' in get(url, "/")[1]
        first = json.loads(get(url, "/progress")[1])
        assert (first["done"], first["missing"], first["failed"], first["skipped"]) == (2, cells, 0, first["skipped"])
        page = get(url, "/report")[1].decode()
        assert page == build.build(load(out)).read_text(encoding="utf-8"), "it is the report"
        assert f"{cells} cells" in page.replace("\N{NO-BREAK SPACE}", " ")
        assert json.loads(get(url, "/progress")[1])["state"] == first["state"], "nothing new, no new report"
        away.rename(out / "store" / "occlusion")
        later = json.loads(get(url, "/progress")[1])
        assert (later["done"], later["missing"]) == (2 + cells, 0)
        assert later["state"] != first["state"]
        assert 'id="study-occlusion"' in get(url, "/report")[1].decode()
        noted.add(out, "Ship it.")
        noted_too = json.loads(get(url, "/progress")[1])["state"]
        assert noted_too != later["state"]
        folder.warn(out, ["of a share"], by="0-of-2")
        assert json.loads(get(url, "/progress")[1])["state"] != noted_too
        assert b"Ship it." in get(url, "/report")[1]


def test_rate_and_time_left_are_those_of_the_finished_cells(out: Path) -> None:
    cells = sorted((out / "store" / "occlusion").iterdir())
    for cell in cells[4:]:
        cell.rename(out.parent / cell.name)
    now = time.time()
    for k, path in enumerate([*(out / "store" / "clean").glob("*/cell.json"), *(c / "cell.json" for c in cells[:4])]):
        os.utime(path, (now - 60 + 10 * k, now - 60 + 10 * k))
    found = live.Live(out).progress()
    assert found["rate"] == pytest.approx(40 * 5 / 50)  # five cells of 40 images in the 50 s after the first
    assert 9 < found["since"] < 20
    seconds = [json.loads((c / "cell.json").read_bytes())["seconds"] for c in cells[:4]]
    assert found["left"] == pytest.approx(sum(seconds) / 4 * (len(cells) - 4))


def test_failures_are_named(tmp_path: Path) -> None:
    out = fake_run.write(
        tmp_path / "run", n=40, pictures=0, studies=("clean", "occlusion"), fails={"occlusion": "<b> broke"}
    )
    found = live.Live(out).progress()
    assert found["failed"] == len(list((out / "store" / "occlusion").glob("*.failed.json"))) > 0
    assert found["missing"] == 0
    assert "occlusion on timm:deit_tiny_patch16_224: <b> broke" in found["failures"]


@pytest.mark.parametrize(
    "path",
    [
        "/../secret",
        "/..%2fsecret",
        "/%2e%2e/secret",
        "//etc/passwd",
        "/plan.json",
        "/report/../plan.json",
        "/store",
        "/report.html",
        "/?x",
    ],
)
def test_no_path_names_a_file(out: Path, path: str) -> None:
    (out.parent / "secret").write_text("a secret")
    with served(out) as url:
        status, body = get(url, path)
    assert (status, b"secret" in body) == (404, False)


def test_links_that_lead_out_of_the_run_are_refused(out: Path) -> None:
    secret = out.parent / "secret.json"
    secret.write_text('["a secret sentence"]')
    with served(out) as url:
        assert get(url, "/report")[0] == 200
        (out / "warnings.json").unlink(missing_ok=True)
        (out / "warnings.json").symlink_to(secret)
        for path in ("/report", "/progress"):
            status, body = get(url, path)
            assert (status, b"a secret" in body) == (503, False)
            assert b"no link that leads out" in body
    with pytest.raises(VitalsError, match="no link that leads out"):
        live.server(out)
    (out / "warnings.json").unlink()
    (out / "store" / "clean" / "elsewhere").symlink_to(out.parent, target_is_directory=True)
    with pytest.raises(VitalsError, match="no link that leads out"):
        live.server(out)


@pytest.mark.parametrize(
    ("host", "status"), [("evil.example", 403), ("evil.example:8000", 403), ("localhost:1", 200), ("[::1]:80", 200)]
)
def test_a_page_of_another_name_cannot_ask_through_the_browser(out: Path, host: str, status: int) -> None:
    with served(out) as url:
        assert get(url, "/progress", host)[0] == status


def test_it_listens_on_loopback_and_says_what_it_cannot(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with live.server(out) as server:
        assert server.loopback
        assert server.server_address[0] == "127.0.0.1"
        port = server.server_address[1]
        with pytest.raises(VitalsError, match=rf"Got 127.0.0.1:{port}: .*in use. Give another --port"):
            live.server(out, port=port)
        assert cli.main(["serve", str(out), "--port", "70000"]) == 2
        assert "whole number from 0 to 65535" in capsys.readouterr().err
    with pytest.raises(VitalsError, match=r"must hold a `plan.json`"):
        live.server(out.parent)


def test_the_command_says_where_it_is_and_ends_with_ctrl_c(out: Path) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in out.rglob("*"))
    words = [sys.executable, "-m", "visionvitals", "serve", str(out), "--port", "0"]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        url = running.stdout.readline().split()[0]
        assert json.load(urllib.request.urlopen(f"{url}progress", timeout=60))["missing"] == 0
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=30)
    finally:
        running.kill()
    assert running.returncode == 0
    assert said.strip() == "Ended. The run is not affected."
    assert sorted((p, p.stat().st_mtime_ns) for p in out.rglob("*")) == before
