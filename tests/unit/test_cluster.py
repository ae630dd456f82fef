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
from visionvitals.run import cluster, precision
from visionvitals.run.requests import content_of
from visionvitals.run.worker import Worker, here

SIZE = 8
PLAN = ("plan", "tiny:vit", "tiny:cnn", "--data", "shapes:test?n=24", "--limit", "22", "--preset", "quick")
STUDIES = ("--studies", "clean,occlusion,correlation,corner")


def vitals(*words: str, log: Path, cwd: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as stream:
        return subprocess.Popen([sys.executable, "-m", "visionvitals", *words], cwd=cwd, stdout=stream, stderr=stream)


def until(holds: Any, seconds: float = 300.0) -> None:
    """Wait for something that other processes do."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def actors(node: Any) -> list[int]:
    """The ids of the processes of actors on a node of the cluster, by what its raylet has started."""
    (raylet,) = node.all_processes["raylet"]
    found = subprocess.run(
        ["pgrep", "-P", str(raylet.process.pid), "-f", "ray::Worker"], capture_output=True, text=True
    )
    return [int(word) for word in found.stdout.split()]


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of three nodes of one processor, on this machine, where a part has `SIZE` images."""
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    from ray.cluster_utils import Cluster

    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        f"import os, platform\nfrom visionvitals.run import parts\n\nparts.SIZE = {SIZE}\n"
        "if 'OTHER_PYTHON' in os.environ:\n    platform.python_version = lambda: '3.99.1'\n"
    )
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("HOME", str(tmp_path))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 << 20})
    try:
        for _ in range(2):
            made.add_node(num_cpus=1, object_store_memory=80 << 20)
        yield made
    finally:
        made.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_what_dies_in_a_cluster_changes_no_row(three: Any, tmp_path: Path) -> None:
    """A worker and the driver are killed, the driver is started again, and a node is removed; then a node of another Python joins."""
    out, one = tmp_path / "run", tmp_path / "one"
    for folder, engine in ((one, ("--device", "cpu")), (out, ())):
        assert vitals(*PLAN, *STUDIES, "--out", str(folder), log=tmp_path / "log", cwd=tmp_path).wait() == 0
        if engine:
            words = ("run", str(folder), "--batch-size", "8", *engine)
            assert vitals(*words, log=tmp_path / "log", cwd=tmp_path).wait() == 0
    words = ("run", str(out), "--batch-size", "8", "--engine", "ray", "--address", three.address)
    log = tmp_path / "first.txt"
    first = vitals(*words, log=log, cwd=tmp_path)
    until(lambda: any((out / "store").glob("*/*/*-*.json")) or rows(out))
    for victim in actors(three.list_all_nodes()[1])[:1]:
        os.kill(victim, signal.SIGKILL)
    until(lambda: "is started again" in log.read_text())
    first.kill()
    assert first.wait() == -signal.SIGKILL, "the driver was still at work"
    before = len(rows(out))
    assert 0 < before < len(rows(one))
    log = tmp_path / "second.txt"
    second = vitals(*words, log=log, cwd=tmp_path)
    until(lambda: len(rows(out)) > before)
    three.remove_node(three.list_all_nodes()[2], allow_graceful=False)
    assert second.wait() == 0, log.read_text()
    assert "] died\n" in log.read_text()
    assert rows(out) == rows(one)
    assert not list((out / "store").glob("*/*/*-*.json")), "no part is left over"
    three.add_node(num_cpus=1, object_store_memory=80 << 20, env_vars={"OTHER_PYTHON": "1"})
    extra = ("audit", "tiny:cnn", "--data", "shapes:test?n=8", "--studies", "clean", "--out", str(tmp_path / "other"))
    log = tmp_path / "third.txt"
    third = vitals(*extra, "--engine", "ray", "--address", three.address, log=log, cwd=tmp_path)
    assert third.wait() == 2
    assert "Nothing was begun, since of these" in log.read_text()
    assert "it has python 3.99, not 3." in log.read_text()
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
