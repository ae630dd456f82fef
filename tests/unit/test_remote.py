"""A run folder on an object store: what a local one gives, whatever the store does in between."""

import collections
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import visionvitals as vv
from invented_cells import keep
from visionvitals import cli, remote, results
from visionvitals.errors import VitalsError
from visionvitals.files import read_regular, write_safely
from visionvitals.remote import RemotePath, located
from visionvitals.report import build, live
from visionvitals.run import parts, requests, status
from visionvitals.run.store import Store

ASKED = ("tiny:vit", "--data", "shapes:test?n=16", "--studies", "clean,corner", "--preset", "quick")


class Trying(MemoryFileSystem):
    """A store that counts what is asked of it, and may refuse it. `refuse` is called before each request with its name and path."""

    protocol = "trying"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    cachable = False
    asked: ClassVar[collections.Counter[str]] = collections.Counter()
    refuse: ClassVar[Callable[[str, str], None]] = staticmethod(lambda verb, path: None)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("trying://", "memory://")))

    def _say(self, verb: str, path: str) -> None:
        Trying.asked[verb] += 1
        Trying.refuse(verb, path)

    def info(self, path: str, **more: Any) -> Any:
        self._say("info", path)
        return super().info(path, **more)

    def find(self, path: str, *args: Any, **more: Any) -> Any:
        self._say("find", path)
        return super().find(path, *args, **more)

    def ls(self, path: str, *args: Any, **more: Any) -> Any:
        self._say("ls", path)
        return super().ls(path, *args, **more)

    def cat_file(self, path: str, *args: Any, **more: Any) -> Any:
        self._say("cat", path)
        return super().cat_file(path, *args, **more)

    def pipe_file(self, path: str, value: bytes, *args: Any, **more: Any) -> None:
        self._say("pipe", path)
        super().pipe_file(path, value, *args, **more)


@pytest.fixture(autouse=True)
def _an_empty_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fsspec.register_implementation("trying", Trying, clobber=True)
    monkeypatch.setattr(remote, "WAITS", (0.0,) * len(remote.WAITS))
    yield
    for kind in (Trying, MemoryFileSystem):
        kind.store.clear()
        kind.pseudo_dirs[:] = [""]
    Trying.asked.clear()
    Trying.refuse = staticmethod(lambda verb, path: None)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An S3 server of this machine, and the URL of a bucket."""
    moto = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        server.start()
        host, port = server.get_host_and_port()
        for key, value in (
            ("ENDPOINT_URL", f"http://{host}:{port}"),
            ("ACCESS_KEY_ID", "a"),
            ("SECRET_ACCESS_KEY", "b"),
        ):
            patch.setenv(f"AWS_{key}", value)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        reset = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset).close()  # what an earlier server of this process held
        s3fs.S3FileSystem().mkdir("bucket")
        yield "s3://bucket"
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


def rows(out: str | Path) -> dict[str, Any]:
    """cell -> checksums of all its files, each of which is read."""
    store = Store(located(out) / "store")
    assert store.survey()[1] == {}
    return {cell.id: dict(cell.facts["sha256"]) for cell in store.cells()}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that a disk gives."""
    out = tmp_path_factory.mktemp("local") / "run"
    assert cli.main(["audit", *ASKED, "--out", str(out)]) == 0
    (out.parent / "again").symlink_to(out)
    return out


def said_of(out: str, capsys: Any, *command: str) -> str:
    """What a command prints of a run."""
    capsys.readouterr()
    assert cli.main([command[0], out, *command[1:]]) == 0
    return str(capsys.readouterr().out).replace(out, "RUN")


def test_a_run_on_s3_is_the_local_one(bucket: str, local: Path, capsys: Any, tmp_path: Path) -> None:
    out = f"{bucket}/runs/one"
    fsspec.filesystem("s3").pipe_file(f"{out}/", b"")  # as consoles make a folder
    assert cli.main(["audit", *ASKED, "--out", out]) == 0
    assert f"Report: {out}/report.html" in capsys.readouterr().out
    assert rows(out) == rows(local)
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nsign = "clean top-1"\nat_least = 0.2\n')
    for command in (("status",), ("table",), ("gate", "--rules", str(rules))):
        assert said_of(out, capsys, *command) == said_of(str(local), capsys, *command)
    assert len(read_regular(located(out) / "report.html")) > 100_000
    assert cli.main(["audit", *ASKED, "--out", out]) == 0
    assert "0 cells measured, " in capsys.readouterr().err


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are not what the test is about."""
    monkeypatch.setattr(build, "build", lambda run, out=None: run.folder / "report.html")


@pytest.mark.parametrize("name", [Path("s3://bucket/run"), "s3:/bucket/run"])
def test_a_url_that_became_a_path_is_refused(name: str | Path) -> None:
    for ask in (located, vv.Run, lambda each: write_safely(Path(each), b"")):
        with pytest.raises(VitalsError, match=r"must be no URL. Got 's3:/bucket/run'. Only run folders lie elsewhere"):
            ask(name)


@pytest.mark.parametrize(
    "words",
    [
        ("table", "RUN", "--csv"),
        ("table", "RUN", "--parquet"),
        ("table", "RUN", "--markdown"),
        ("report", "RUN", "--out"),
        ("card", "RUN", "tiny:vit", "--out"),
        ("compare", "RUN", "AGAIN", "--html"),
        ("train", "tiny_cnn", "--out"),
    ],
)
def test_files_beside_a_run_are_written_to_this_disk_only(
    words: tuple[str, ...], local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = {"RUN": str(local), "AGAIN": str(local.parent / "again")}
    assert cli.main([*(runs.get(word, word) for word in words), "s3://bucket/a.csv"]) == 2
    assert "A path of this disk must be no URL. Got 's3:/bucket/a.csv'." in " ".join(capsys.readouterr().err.split())
    assert not [*tmp_path.iterdir()]


@pytest.mark.usefixtures("no_report")
def test_two_processes_share_a_bucket_and_one_is_killed(
    bucket: str, tmp_path: Path, toy_backbone: str, toy_images: str, toy_study: str
) -> None:
    out, alone = f"{bucket}/runs/two", str(tmp_path / "alone")
    words = [toy_backbone, "--data", toy_images, "--studies", f"clean,{toy_study}"]
    batches = ["--batch-size", "6"]  # the last bit of a sum of products depends on it, on some processors
    assert cli.main(["audit", *words, "--out", alone, *batches]) == 0
    assert cli.main(["plan", *words, "--out", out]) == 0
    store, every = Store(located(out) / "store"), rows(alone)
    own = ["run", out, "--trust", *batches, "--device", "cpu"]
    other = subprocess.Popen(
        [sys.executable, "-m", "visionvitals", *own, "--shard", "1/2"],
        env=os.environ | {"VISIONVITALS_TOY_SLEEP": "1.5"},
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 120
        while not (begun := store.ids()) and time.monotonic() < until:
            time.sleep(0.2)
        assert cli.main([*own, "--shard", "0/2"]) == 0
        other.send_signal(signal.SIGKILL)
    finally:
        other.kill()
        other.wait()
    there = store.ids()
    assert 0 < len(begun) < len(there) < len(every)
    assert cli.main(["run", out, "--trust", *batches]) == 0
    assert rows(out) == every
    named = {f"{cell.id}/{part['file']}" for cell in store.cells() for part in cell.facts["parts"]}
    lying = {"/".join(name.split("/")[1:]) for name in (located(out) / "store").files() if name.endswith(".parquet")}
    assert lying == named, "no file twice, and none that no cell names"


@pytest.mark.usefixtures("no_report")
def test_shares_of_the_parts_of_one_cell_give_the_rows_of_one(
    tmp_path: Path, toy_backbone: str, toy_images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "SIZE", 8)
    words = ["plan", toy_backbone, "--data", toy_images, "--studies", "clean,corner"]
    outs = [str(tmp_path / "run"), "trying://runs/parts"]
    for out in outs:
        assert cli.main([*words, "--out", out]) == 0
        for index in (1, 0):
            assert cli.main(["run", out, "--trust", "--shard", f"{index}/2"]) == 0
    found = [rows(out) for out in outs]
    assert found[0] == found[1]
    assert any(len(cell.facts["parts"]) == 3 for cell in Store(located(outs[1]) / "store").cells())
    assert not [n for n in (located(outs[1]) / "store").files() if n.endswith("-8.json")], "documents of parts are gone"


class Killed(BaseException):
    """What ends a process at once."""


@pytest.mark.usefixtures("no_report")
def test_a_writer_that_is_killed_at_any_write_loses_its_cell_only(
    tmp_path: Path, toy_backbone: str, toy_images: str
) -> None:
    words = ["audit", toy_backbone, "--data", toy_images, "--studies", "clean,corner"]
    assert cli.main([*words, "--out", str(tmp_path / "run")]) == 0
    expected, out = rows(tmp_path / "run"), "trying://runs/killed"
    for after in (1, 9, 20):
        left = after

        def refuse(verb: str, path: str) -> None:
            nonlocal left
            left -= verb == "pipe"
            if left < 0:
                raise Killed

        Trying.refuse = staticmethod(refuse)
        with pytest.raises(Killed):
            cli.main([*words, "--out", out])
        Trying.refuse = staticmethod(lambda verb, path: None)
        assert all(expected[identifier] == found for identifier, found in rows(out).items())
    assert 0 < len(rows(out)) < len(expected)
    assert cli.main([*words, "--out", out]) == 0
    assert rows(out) == expected


def test_two_writers_of_one_cell_keep_the_first_document(bucket: str) -> None:
    for place in (located(f"{bucket}/twice"), located("memory://twice")):
        both = [threading.Thread(target=keep, args=(place, {"a": 1.0, "b": 0.0})) for _ in range(2)]
        for each in both:
            each.start()
        for each in both:
            each.join()
        (cell,) = Store(place / "store").cells()
        cell.verify()
        before = read_regular(place / "store" / "holes" / cell.id / "cell.json")
        write_safely(place / "store" / "holes" / cell.id / "cell.json", b"another", replace=False)
        assert read_regular(place / "store" / "holes" / cell.id / "cell.json") == before


def test_status_of_many_cells_makes_a_request_a_cell(capsys: Any) -> None:
    count, out = 300, located("trying://runs/many")
    ids = [keep(out, {"a": 1.0}, fraction=k / count) for k in range(count)]
    asked = {"backbones": ["tiny:vit"], "data": ["shapes:test"], "studies": [{"name": "holes"}], "preset": "quick"}
    work = {"study": "holes", "condition": {}, "backbone": "tiny:vit", "images": "shapes:test"}
    content = requests.document(asked, command=["vitals"], cells=[{"id": name, **work} for name in ids])
    write_safely(out / "plan.json", json.dumps(content))
    Trying.asked.clear()
    assert cli.main(["status", str(out)]) == 0
    assert "300" in capsys.readouterr().out
    assert sum(Trying.asked.values()) < count + 20, dict(Trying.asked)
    Trying.asked.clear()
    assert len(results.load(out).points) == count
    assert sum(Trying.asked.values()) < count + 20, dict(Trying.asked)


@pytest.mark.usefixtures("no_report")
def test_a_damaged_cell_on_a_store_is_found_and_measured_again(
    tmp_path: Path, toy_backbone: str, toy_images: str
) -> None:
    words = ["audit", toy_backbone, "--data", toy_images, "--studies", "clean,corner", "--out", "memory://runs/hurt"]
    assert cli.main(words) == 0
    before, out = rows("memory://runs/hurt"), located("memory://runs/hurt")
    one, two = [name for name in (out / "store").files() if name.endswith(".parquet")][:2]
    content = bytearray(read_regular(out / "store" / one))
    content[100] ^= 1
    write_safely(out / "store" / one, bytes(content))
    write_safely(out / "store" / two, read_regular(out / "store" / two)[:-1])
    assert sum(each.done for each in status.of(out)[0]) == len(before) - 1, "a short file is seen by its size"
    assert cli.main(words) == 0
    assert rows("memory://runs/hurt") == before
    assert len([name for name in (out / "store").files() if name.endswith(".damaged")]) == 2
    assert cli.main(["clean", str(out)]) == 0
    assert not [name for name in (out / "store").files() if name.endswith(".damaged")]


def test_what_times_out_is_tried_again(local: Path) -> None:
    errors = itertools.cycle([TimeoutError(), ConnectionResetError(), OSError(5, "server error")])
    failed: collections.Counter[tuple[str, str]] = collections.Counter()

    def refuse(verb: str, path: str) -> None:
        failed[verb, path] += 1
        if failed[verb, path] % 2:
            raise next(errors)

    Trying.refuse = staticmethod(refuse)
    assert cli.main(["audit", *ASKED, "--out", "trying://runs/slow", "--reuse", str(local)]) == 0
    assert rows("trying://runs/slow") == rows(local)


@pytest.mark.usefixtures("no_report")
def test_a_store_that_never_answers_ends_the_run_and_costs_nothing(
    tmp_path: Path, toy_backbone: str, toy_images: str, capsys: Any
) -> None:
    out = "trying://runs/gone"
    words = ["audit", toy_backbone, "--data", toy_images, "--studies", "clean,corner", "--out", out]
    assert cli.main([*words[:5], "clean", "--out", out]) == 0
    before, done = dict(Trying.store), rows(out)

    def silent(verb: str, path: str) -> None:
        raise TimeoutError

    Trying.refuse = staticmethod(silent)
    for command in (words, ["run", out], ["status", out], ["table", out], ["note", out, "x"], ["report", out]):
        assert cli.main(command) == 2
        said = capsys.readouterr().err
        assert f"{out}/plan.json must be readable. Got: TimeoutError." in " ".join(said.split())
    assert dict(Trying.store) == before

    def no_new_cell(verb: str, path: str) -> None:
        if verb == "pipe" and "/corner/" in path:
            raise TimeoutError

    Trying.refuse = staticmethod(no_new_cell)
    assert cli.main(words) == 2
    assert "Results must be writable under trying://runs/gone/store" in " ".join(capsys.readouterr().err.split())
    Trying.refuse = staticmethod(lambda verb, path: None)
    assert rows(out) == done
    assert not [n for n in (located(out) / "store").files() if n.endswith("failed.json")], "no cell has failed"
    assert cli.main(words) == 0
    assert rows(out).keys() > done.keys()


def test_a_store_that_fails_while_it_is_read_is_not_taken_for_damaged(local: Path, capsys: Any) -> None:
    assert cli.main(["audit", *ASKED, "--out", "trying://runs/half", "--reuse", str(local)]) == 0
    before = dict(Trying.store)

    def no_cells(verb: str, path: str) -> None:
        if verb == "cat" and path.endswith(("cell.json", "studies.json")):
            raise TimeoutError

    Trying.refuse = staticmethod(no_cells)
    for command in (["table", "trying://runs/half"], ["run", "trying://runs/half"]):
        assert cli.main(command) == 2
        assert "must be readable" in capsys.readouterr().err
    assert Trying.store.keys() == before.keys(), "nothing is set aside"


def test_a_short_upload_does_not_count() -> None:
    path, tries = located("trying://runs/short") / "a.json", []

    def cut(verb: str, name: str) -> None:
        if verb == "info" and len(tries) < 2:
            tries.append(name)
            Trying.store["/runs/short/a.json"].truncate(1)

    Trying.refuse = staticmethod(cut)
    write_safely(path, b"content")
    assert (len(tries), read_regular(path)) == (2, b"content")
    tries[:] = []
    Trying.refuse = staticmethod(lambda verb, name: tries.clear() or cut(verb, name))
    with pytest.raises(OSError, match="1 of 7 bytes arrived"):
        write_safely(path, b"content")
    Trying.refuse = staticmethod(lambda verb, name: None)
    assert not path.exists()


def test_a_bucket_that_cannot_be_written_is_said_before_anything_is_measured(
    toy_backbone: str, toy_images: str, capsys: Any
) -> None:
    def read_only(verb: str, path: str) -> None:
        if verb == "pipe":
            raise PermissionError("Access Denied")

    Trying.refuse = staticmethod(read_only)
    words = ["audit", toy_backbone, "--data", toy_images, "--studies", "clean", "--out", "trying://runs/no"]
    assert cli.main(words) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "`--out` must be a folder that can be written. Got trying://runs/no: Access Denied." in said


def test_a_bucket_that_is_not_there_and_no_credentials_are_a_sentence_each(
    bucket: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["audit", "tiny:cnn", "--data", "shapes:test?n=8", "--studies", "clean", "--out"]
    assert cli.main([*words, "s3://nobucket/run"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said == (
        "vitals: `--out` must be a folder that can be read. Got s3://nobucket/run: The specified bucket does not exist."
    )
    assert cli.main(["status", "s3://nobucket/run"]) == 2
    assert "must hold a `plan.json`. Got 's3://nobucket/run'" in " ".join(capsys.readouterr().err.split())
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(key)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    assert cli.main([*words, f"{bucket}/run"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "s3://bucket/run/plan.json must be readable. Got: Unable to locate credentials." in said
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("s3://key:word@bucket/run", "without a password, a query or a chain. Got 's3://...'"),
        ("az://box/run?sig=word", "without a password, a query or a chain. Got 'az://...'"),
        ("simplecache::s3://bucket/run", "without a password, a query or a chain"),
        ("s4://bucket/run", "Got 's4://bucket/run': Protocol not known: s4"),
        ("s3://", "A run folder must be a path, or a URL such as s3://bucket/run"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_secrets(name: str, sentence: str) -> None:
    with pytest.raises(VitalsError) as caught:
        located(name)
    assert sentence in str(caught.value)
    assert "word" not in str(caught.value).replace("password", "")


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(VitalsError, match=r"pip install 'visionvitals\[gs\]'"):
        located("gs://bucket/run")


def test_paths_stay_paths(tmp_path: Path) -> None:
    assert located("runs/1") == Path("runs/1")
    assert located(f"file://{tmp_path}/a b") == tmp_path / "a b"
    assert located(tmp_path) is not None
    assert isinstance(located("memory://runs/1"), RemotePath)


@pytest.mark.usefixtures("no_report")
def test_code_of_a_run_elsewhere_needs_trust_where_it_was_not_begun_here(
    toy_backbone: str, toy_images: str, capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ["plan", toy_backbone, "--data", toy_images, "--studies", "clean", "--out", "memory://runs/code"]
    assert cli.main(words) == 0
    assert cli.main(["run", "memory://runs/code"]) == 0
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert cli.main(["run", "memory://runs/code"]) == 2
    assert "If you trust it, give `--trust`" in capsys.readouterr().err
    assert cli.main(["run", "memory://runs/code", "--trust"]) == 0


def test_python_takes_a_url(local: Path) -> None:
    run = vv.audit(
        "tiny:vit", data="shapes:test?n=16", studies="clean,corner", preset="quick", out="memory://runs/py", reuse=local
    )
    assert run == vv.Run("memory://runs/py")
    assert run.signs() == vv.Run(local).signs()
    assert run.note("ship")[0].endswith("ship")
    assert str(run.report()) == "memory://runs/py/report.html"
    served = live.Live(run.folder)
    assert served.progress()["done"] == len(rows("memory://runs/py"))
    assert len(served.report()) > 100_000
    before = served.progress()["state"]
    run.note("again")
    assert served.progress()["state"] != before


@pytest.mark.usefixtures("no_report")
def test_a_run_that_grows_until_its_rules_are_decided(
    tmp_path: Path, toy_backbone: str, toy_images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nsign = "clean top-1"\nat_least = 0.24\n')
    words = [
        "audit",
        toy_backbone,
        "--data",
        toy_images.replace("24", "300"),
        "--studies",
        "clean",
        "--rules",
        str(rules),
    ]
    outs = [str(tmp_path / "run"), "memory://runs/grows"]
    codes = [cli.main([*words, "--until-decided", "--out", out]) for out in outs]
    assert codes[0] == codes[1]
    assert rows(outs[0]) == rows(outs[1])
    assert not (located(outs[1]) / "warnings.256-images.json").exists()
