"""Ray: the rows of one process, each once, whatever dies on the way; a node that would measure something else is refused by its name."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_shards import rows

from visionvitals import cli
from visionvitals.errors import VitalsError
from visionvitals.run import cluster, parts, precision
from visionvitals.run.requests import content_of
from visionvitals.run.worker import Worker, here

SIZE = 8
PLAN = ("tiny:vit", "tiny:cnn", "--data", "shapes:test?n=24", "--limit", "22", "--preset", "quick", "--batch-size", "8")
PLAN += ("--studies", "clean,occlusion,correlation,corner")
SITE = """import os, sys

if {{"visionvitals", "default_worker.py"}} & set(map(os.path.basename, sys.orig_argv)):
    from visionvitals.run import parts

    parts.SIZE = {size}
if "default_worker.py" in map(os.path.basename, sys.orig_argv):
    import platform, time
    from visionvitals.run import runner

    if "OTHER_PYTHON" in os.environ:
        platform.python_version = lambda: "3.99.1"
    real = runner.execute

    def execute(*given, **more):
        mine = os.path.join({at!r}, f"{{os.getpid()}}-{{os.environ.get('NODE')}}")
        open(mine, "w").close()
        while os.path.exists({hold!r}):
            time.sleep(0.02)
        os.unlink(mine)
        return real(*given, **more)

    runner.execute = execute
"""
"""What the processes of a cluster do first: a part has `SIZE` images, and a task waits as long as there is a file, so that what dies is at work."""


def until(holds: Any, seconds: float = 300.0) -> None:
    """Wait for something that other processes do."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of three nodes of one processor, on this machine."""
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    from ray.cluster_utils import Cluster

    for name in ("site", "at"):
        (tmp_path / name).mkdir()
    (tmp_path / "hold").touch()
    site = SITE.format(size=SIZE, at=str(tmp_path / "at"), hold=str(tmp_path / "hold"))
    (tmp_path / "site" / "sitecustomize.py").write_text(site)
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(parts, "SIZE", SIZE)
    own = {"num_cpus": 1, "object_store_memory": 80 << 20}
    made = Cluster(initialize_head=True, head_node_args={**own, "env_vars": {"NODE": "0"}})
    try:
        yield made, [made.add_node(**own, env_vars={"NODE": str(number)}) for number in (1, 2)]
    finally:
        made.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_what_dies_in_a_cluster_changes_no_row(three: Any, tmp_path: Path, capsys: Any) -> None:
    """A worker and the driver are killed, the driver is started again, and a node is removed; then a node of another Python joins."""
    made, (_, last) = three
    out, one, hold = tmp_path / "run", tmp_path / "one", tmp_path / "hold"
    ray = ("--engine", "ray", "--address", made.address)

    def driver(log: Path) -> "subprocess.Popen[bytes]":
        words = [sys.executable, "-m", "visionvitals", "audit", *PLAN, *ray, "--out", str(out)]
        with log.open("wb") as stream:
            return subprocess.Popen(words, cwd=tmp_path, stdout=stream, stderr=stream)

    def at_work(node: int) -> list[int]:
        return [int(path.name.partition("-")[0]) for path in (tmp_path / "at").glob(f"*-{node}")]

    log = tmp_path / "first.txt"
    first = driver(log)
    assert cli.main(["audit", *PLAN, "--device", "cpu", "--out", str(one)]) == 0
    until(lambda: at_work(1))
    os.kill(at_work(1)[0], signal.SIGKILL)
    until(lambda: "is started again" in log.read_text())
    hold.unlink()
    until(lambda: rows(out))
    hold.touch()
    first.kill()
    assert first.wait() == -signal.SIGKILL, "the driver was still at work"
    for path in (tmp_path / "at").iterdir():
        path.unlink()
    before = len(rows(out))
    assert 0 < before < len(rows(one))
    log = tmp_path / "second.txt"
    second = driver(log)
    until(lambda: at_work(2))
    made.remove_node(last, allow_graceful=False)
    hold.unlink()
    assert second.wait() == 0, log.read_text()
    assert "] died\n" in log.read_text()
    assert rows(out) == rows(one)
    assert not list((out / "store").glob("*/*/*-*.json")), "no part is left over"
    made.add_node(num_cpus=1, object_store_memory=80 << 20, env_vars={"OTHER_PYTHON": "1"})
    capsys.readouterr()
    extra = ("audit", "tiny:cnn", "--data", "shapes:test?n=8", "--studies", "clean", "--out", str(tmp_path / "other"))
    assert cli.main([*extra, *ray]) == 2
    said = capsys.readouterr().err
    assert "Nothing was begun, since of these" in said
    assert "it has python 3.99, not 3." in said
    assert not rows(tmp_path / "other")


def planned(out: Path, *more: str) -> None:
    assert cli.main(["plan", *more, "--studies", "clean", "--out", str(out)]) == 0


def test_an_actor_says_why_it_cannot_measure(
    tmp_path: Path, toy_backbone: str, toy_images: str, monkeypatch: Any
) -> None:
    out = tmp_path / "run"
    planned(out, "tiny:vit", "--data", "shapes:test?n=8")
    seen = str(out / "plan.json")

    def ready(asked: dict[str, str], seen: str = seen, out: Path = out) -> str:
        told = {"command": (), "batch_size": 8, "workers": None, "reuse": (), "folder": str(tmp_path)}
        worker = Worker(out=str(out), plan=content_of(out)["plan"], by="x", device="cpu", **told)  # type: ignore[arg-type]
        return worker.refusal(asked, seen, True)

    monkeypatch.chdir(tmp_path)
    assert ready(here()) == ""
    assert f"it has torch {here()['torch']}, not 1.0" in ready({**here(), "torch": "1.0"})
    assert ready({**here(), "transformers": "9"}).startswith("it has transformers ")
    assert "it has more none, not 2" in ready({**here(), "more": "2"})
    assert "code of visionvitals" in ready({**here(), "code of visionvitals": "0"})
    assert ready(here(), seen=str(tmp_path / "gone")) == f"it does not see the run folder {out}"

    def lacks(numerics: object, device: object) -> None:
        raise VitalsError(f"`--precision` needs another device than {device}.")

    monkeypatch.setattr(precision, "check", lacks)
    assert ready(here()) == "`--precision` needs another device than cpu."
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    planned(tmp_path / "toy", toy_backbone, "--data", toy_images)
    network = Path(toy_backbone.partition(":")[0])
    other = tmp_path / "other.py"
    other.write_text(network.read_text())
    planned(tmp_path / "own", f"{other}:linear", "--data", toy_images)
    other.unlink()
    assert "other.py" in ready(here(), out=tmp_path / "own")
    other.write_text(network.read_text().replace('"seed", "0"', '"seed", "1"'))
    assert "weights of" in ready(here(), out=tmp_path / "own")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--engine", "ray", "--device", "cpu:2"), "`--device` of `--engine ray` must be cpu or cuda"),
        (("--engine", "ray", "--device", "cuda:0"), "`--device` of `--engine ray` must be cpu or cuda"),
        (("--engine", "ray", "--address", ""), "`--address` must name a cluster"),
        (("--address", "auto"), "`--address` must go with `--engine ray`"),
    ],
)
def test_what_a_cluster_cannot_be_asked_for(tmp_path: Path, more: tuple[str, ...], said: str, capsys: Any) -> None:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    words = ["audit", "tiny:vit", "--data", "shapes:test?n=8", "--studies", "clean", "--out", str(tmp_path / "run")]
    assert cli.main([*words, *more]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(VitalsError, match=r"`--engine ray` needs the extra \[ray\]"):
        cluster.check(None, None)
