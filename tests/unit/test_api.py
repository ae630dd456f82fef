"""The functions for a notebook do what the command line does, with networks and pictures that live in Python."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import visionvitals as vv
from visionvitals import cli
from visionvitals.errors import VitalsError
from visionvitals.run import keeping

torch = pytest.importorskip("torch")

SIDE = 32


class Brightest(torch.nn.Module):
    """Says which quarter of the picture is the brightest; its weights make it more or less sure."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain))
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.drop(self.gain * torch.nn.functional.adaptive_avg_pool2d(images.mean(dim=1), 2).flatten(1))


def quarters(n: int) -> tuple[np.ndarray, list[int]]:
    """Pictures of which one quarter is brighter, uint8 (n, h, w, 3)."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 120, (n, SIDE, SIDE, 3), dtype=np.uint8)
    labels = [k % 4 for k in range(n)]
    for picture, label in zip(pictures, labels, strict=True):
        row, column = divmod(label, 2)
        picture[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] += 100
    return pictures, labels


NAMES = ("upper left", "upper right", "lower left", "lower right")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[vv.Run, torch.nn.Module]:
    net = Brightest().train()
    pictures, labels = quarters(24)
    data = vv.images(pictures, labels, name="quarters", classes=NAMES)
    one = vv.backbone(net, name="net", classes=NAMES, size=SIDE, resize=SIDE)
    out = tmp_path_factory.mktemp("api") / "run"
    two = vv.backbone(Brightest(-1.0), name="other", classes=NAMES, size=SIDE, resize=SIDE)
    run = vv.audit([one, two], data=data, studies=["clean", "occlusion"], preset="quick", out=out, device="cpu")
    return run, net


def test_a_module_and_arrays_are_audited(asked: tuple[vv.Run, torch.nn.Module]) -> None:
    run, net = asked
    (own, other) = run.signs()
    assert (own["backbone"], own["data"], own["clean top-1"].value, own["clean top-1"].n) == (
        "memory:net",
        "memory:quarters",
        1.0,
        24,
    )
    assert other["clean top-1"].value < 0.25
    assert net.training, "the user's own module stays in its mode"
    assert all(p.requires_grad for p in net.parameters())
    table = run.table(study="clean", metric="top1")
    assert table.column("value").to_pylist() == [1.0, other["clean top-1"].value]
    assert next(d.title for d in run.compare("net", "other") if not d.condition) == "clean top-1"
    shown = run._repr_html_()
    assert "<th>memory:net</th>" in shown
    assert shown.count("<svg") == 2, "a chart of each study"
    assert "| clean top-1, % | 100.0 (86–100) | " in str(run)
    assert run.frame(study="clean", metric="top1")["n"].tolist() == [24, 24]
    groups = run.frame(study="clean", metric="top1", by="class")
    assert groups[groups["backbone"] == "memory:net"]["n"].tolist() == [6, 6, 6, 6]
    assert len(groups) == run.table(study="clean", metric="top1", by="class").num_rows == 8
    with pytest.raises(VitalsError, match=r"A row by image has no groups, so `by` must be left out. Got 'class'"):
        run.table(by="class", per_image=True)
    assert run.chart("occlusion").to_dict()["$schema"].startswith("https://vega.github.io")
    assert (run.folder / "report.html").stat().st_size > 0
    with pytest.raises(
        VitalsError, match=r"must be of a study of the run that has one. Got 'oclusion'. Did you mean occlusion"
    ):
        run.chart("oclusion")


def test_what_is_there_is_not_measured_again_and_changed_weights_are_noticed(
    asked: tuple[vv.Run, torch.nn.Module], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, net = asked
    copy = shutil.copytree(run.folder, tmp_path / "run")
    call = {"data": "memory:quarters", "studies": ["clean"], "preset": "quick", "out": copy, "device": "cpu"}
    before = sorted((p, p.stat().st_mtime_ns) for p in copy.glob("store/*/*/cell.json"))
    vv.audit("memory:net", **call)  # type: ignore[arg-type]
    assert sorted((p, p.stat().st_mtime_ns) for p in copy.glob("store/*/*/cell.json")) == before
    with torch.no_grad():
        net.gain.mul_(2)  # type: ignore[operator]
    vv.audit("memory:net", **call)  # type: ignore[arg-type]
    assert "another\n  weights of memory:net" in capsys.readouterr().err
    left = [p.study for p in vv.Run(copy).results.points if p.backbone.endswith("net")]
    assert left == ["clean"], "what the old weights gave is left out"
    with torch.no_grad():
        net.gain.div_(2)  # type: ignore[operator]


def test_advice_on_a_module_names_what_its_user_can_give(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Fixed(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert len(images) == 8, "batch must be 8"
            return images.mean(dim=(2, 3))

    def audited(name: str, **more: Any) -> None:
        one = vv.backbone(more.pop("module", Brightest()), name=name, size=SIDE, resize=SIDE, **more)
        vv.audit(one, data=data, studies="clean", out=tmp_path / "run", device="cpu")

    pictures, labels = quarters(24)
    data = vv.images(pictures, labels, name="advice", classes=NAMES)
    with pytest.raises(
        VitalsError,
        match=r"batch must be 8[\s\S]*\. Where another size is meant, give it: `visionvitals\.backbone\(\.\.\., size=\.\.\.\)`",
    ):
        audited("fixed", module=Fixed())
    with pytest.raises(
        VitalsError,
        match=r"as many classes\. Got 2\. Give them in output order: `visionvitals\.backbone\(\.\.\., classes=",
    ):
        audited("two", classes=["a", "b"])
    audited("net")
    assert "`visionvitals.backbone(..., classes=...)` says it" in " ".join(capsys.readouterr().err.split())
    audited("net", classes=NAMES)
    said = " ".join(capsys.readouterr().err.split())
    assert "there is now another order of the classes of memory:net" in said
    assert "or the same call where it lives in Python" in said
    assert "?" not in said


def test_readers_work_without_the_module_and_going_on_names_the_call(
    asked: tuple[vv.Run, torch.nn.Module], tmp_path: Path
) -> None:
    run, _ = asked
    code = "import sys; from visionvitals.cli import main; sys.exit(main(sys.argv[1:]))"

    def vitals(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)

    table = vitals("table", run.folder)
    assert (table.returncode, "memory:net" in table.stdout) == (0, True)
    assert vitals("report", run.folder, "--out", tmp_path / "a.html").returncode == 0
    for cell in run.folder.glob("store/occlusion/*/cell.json"):
        cell.rename(cell.with_name("gone.json"))
        break
    on = vitals("run", run.folder, "--device", "cpu")
    cell.with_name("gone.json").rename(cell)
    assert on.returncode == 2
    assert "go on there with `visionvitals.audit(...)`" in on.stderr
    call = "visionvitals.audit(['memory:net', 'memory:other'], data='memory:quarters', studies='clean,occlusion', preset='quick', "
    assert f"It was begun by: {call}out={str(run.folder)!r})" in on.stderr
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert f'<code id="command">{call}out='.replace("'", "&#39;") in page


def test_a_call_that_is_stopped_leaves_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure, done = keeping.measured, []

    def interrupted(*args: Any) -> Any:
        done.append(1)
        if len(done) == 3:
            raise KeyboardInterrupt
        return measure(*args)

    monkeypatch.setattr(keeping, "measured", interrupted)
    call: dict[str, Any] = {"data": "shapes:test?n=4", "studies": "clean,occlusion", "preset": "quick", "device": "cpu"}
    with pytest.raises(KeyboardInterrupt):
        vv.audit("tiny:cnn", **call, out=tmp_path / "run")
    assert "Stopped. 2 of 5 cells are kept. To go on: the same call again" in capsys.readouterr().err
    assert "are not measured yet" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_a_run_of_python_is_judged_like_any_other(asked: tuple[vv.Run, torch.nn.Module], tmp_path: Path) -> None:
    run, _ = asked
    (tmp_path / "rules.toml").write_text('[[rule]]\nsign = "clean top-1"\nat_least = 0.8\nbackbone = "memory:net"\n')
    verdict = vv.gate(run, tmp_path / "rules.toml")
    assert (verdict.status, verdict.exit_code) == ("pass", 0)
    assert cli.main(["gate", str(run.folder), "--rules", str(tmp_path / "rules.toml")]) == 0
    assert vv.gate(run, tmp_path / "rules.toml", baseline=run).status == "pass"


def test_pictures_may_be_arrays_tensors_pillow_images_or_a_data_set() -> None:
    pictures, labels = quarters(4)
    forms = {
        "pillow": [Image.fromarray(p) for p in pictures],
        "channels first": list(pictures.transpose(0, 3, 1, 2)),
        "floats": list(pictures.astype(np.float32) / 255),
        "tensor": torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()).float() / 255,
    }
    from visionvitals.datasets import memory

    digests = set()
    for name, given in forms.items():
        vv.images(given, labels, name=name, classes=NAMES)
        digests.add(memory._held[name].card.digest)
    vv.images([(Image.fromarray(p), k) for p, k in zip(pictures, labels, strict=True)], name="pairs", classes=NAMES)
    digests.add(memory._held["pairs"].card.digest)
    assert len(digests) == 1
    vv.images(pictures, [NAMES[k] for k in labels], name="named", classes=NAMES)
    assert memory._held["named"].card.digest in digests
    red, blue = (Image.new("P", (4, 4)) for _ in range(2))
    red.putpalette([255, 0, 0] * 256)
    blue.putpalette([0, 0, 255] * 256)
    for name, picture in (("red", red), ("blue", blue)):
        vv.images([picture], [0], name=name)
    assert memory._held["red"].card.digest != memory._held["blue"].card.digest, "the same indices of another palette"
    wanted = torch.zeros(3, 4, 4, requires_grad=True)
    vv.images([wanted, wanted.detach().bfloat16()], [0, 1], name="tensors")
    pictures[:] = 0
    assert np.asarray(memory._held["pillow"][0].image).max() > 100, "a copy was kept"


@pytest.mark.parametrize(
    ("pictures", "labels", "classes", "said"),
    [
        ([], [], None, r"must have a picture"),
        ([np.zeros((4, 4, 3), np.uint8)], [0, 1], None, r"Each picture must have a label. Got \(1, 2\)"),
        (
            [np.zeros((4, 4), np.uint8)],
            [0],
            None,
            r"Picture 0 must be a Pillow image, or an array .* Got 'uint8 \(4, 4\)'",
        ),
        ([np.zeros((4, 4, 3), np.int64)], [0], None, r"Picture 0 must be .* Got 'int64"),
        ([np.full((4, 4, 3), 7.0)], [0], None, r"Picture 0 must be .* Got 'values from 7 to 7'"),
        ([np.full((4, 4, 3), np.nan)], [0], None, r"Picture 0 must be .* Got 'values from nan to nan'"),
        ([np.zeros((0, 4, 3), np.uint8)], [0], None, r"Picture 0 must be .* Got 'uint8 \(0, 4, 3\)'"),
        ([[[1], [2, 3]]], [0], None, r"Picture 0 must be a Pillow image or an array"),
        ([np.zeros((4, 4, 3), np.uint8)], [10**9], None, r"A label must be below 1,000,000. Got 1000000000"),
        ([np.zeros((4, 4, 3), np.uint8)], [0], (1, 2), r"`classes` must be names"),
        ([np.zeros((4, 4, 3), np.uint8)] * 2, [0, "a"], None, r"all whole numbers, or all names"),
        ([np.zeros((4, 4, 3), np.uint8)], [2], ("a", "b"), r"must be one of the classes. Got 2"),
        ([np.zeros((4, 4, 3), np.uint8)], [-1], None, r"must be one of the classes. Got -1"),
        ([np.zeros((4, 4, 3), np.uint8)], ["c"], ("a", "b"), r"must be one of the classes. Got 'c'"),
    ],
)
def test_pictures_of_another_form_are_refused(
    pictures: list[np.ndarray], labels: list[object], classes: object, said: str
) -> None:
    with pytest.raises(VitalsError, match=said):
        vv.images(pictures, labels, name="bad", classes=classes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((None, []), "Pictures must be a list, an array, or a torch data set. Got 'NoneType'"),
        ((None, None), "Pictures must be .* Got 'NoneType'"),
        ((iter([]), [0]), "Pictures must be .* of an iterator a list"),
        (([np.zeros((4, 4, 3), np.uint8)], iter([0])), "Labels must be a list"),
        (
            (torch.utils.data.DataLoader([(torch.zeros(3, 4, 4), 0)]), None),
            "Got 'DataLoader'. Of a DataLoader give its `dataset`",
        ),  # type: ignore[arg-type]
        (
            ([{"image": 1, "label": 0}], None),
            "must be a pair of a picture and its label. Got 'dict'. Give both as lists",
        ),
        (([Image.new("RGB", (4, 4))], None), "must be a pair of a picture and its label. Got 'Image'"),
        ((np.zeros((4, 4, 4, 3), np.uint8), None), "must be a pair of a picture and its label. Got 'ndarray'"),
        (([torch.zeros(3, 4, 4, device="meta")], [0]), "Picture 0 must be a Pillow image or an array. Got Tensor"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pictures_that_cannot_be_counted_or_parted_are_refused(given: tuple[Any, Any], said: str) -> None:
    with pytest.raises(VitalsError, match=said):
        vv.images(*given, name="bad")


def test_a_picture_whose_file_ends_early_is_named(tmp_path: Path) -> None:
    Image.fromarray(quarters(1)[0][0]).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-400])
    with (
        Image.open(tmp_path / "a.png") as torn,
        pytest.raises(VitalsError, match="Picture 0 must be readable as RGB"),
    ):
        vv.images([torn], [0], name="torn")


@pytest.mark.parametrize("mode", ["I", "F", "La"])
def test_a_picture_that_has_no_colours_is_named_when_it_is_given(mode: str) -> None:
    with pytest.raises(VitalsError, match=f"Picture 1 must be readable as RGB. Got mode {mode}: "):
        vv.images([Image.new("RGB", (4, 4)), Image.new(mode, (4, 4))], [0, 1], name="odd")


def test_pictures_in_memory_have_the_notes_of_pictures_of_files(tmp_path: Path) -> None:
    from visionvitals.datasets import memory
    from visionvitals.plan import planner

    turned, glass = Image.fromarray(quarters(1)[0][0]), Image.new("RGBA", (SIDE, SIDE), (9, 9, 9, 7))
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.full((SIDE, SIDE), 300, np.uint16))
    (tmp_path / "cat").mkdir()
    turned.save(tmp_path / "cat" / "a.png", exif=exif)
    glass.save(tmp_path / "cat" / "b.png")
    deep.save(tmp_path / "cat" / "c.png")
    opened = [Image.open(path) for path in sorted((tmp_path / "cat").glob("*.png"))]
    vv.images(opened, ["cat"] * 3, name="noted")
    own = memory._held["noted"].card.notes
    files = planner.open_images(f"folder:{tmp_path}").card.notes
    way = "`PIL.ImageOps.exif_transpose`", "`?exif=apply`"
    assert len(own) == 3
    assert [note.replace(*way) for note in own] == [note for note in files if "pictures" in note]


def test_a_compiled_module_is_the_one_that_was_compiled(tmp_path: Path) -> None:
    from visionvitals.backbones import memory

    net = Brightest()
    vv.backbone(torch.compile(net), name="compiled", size=SIDE)  # type: ignore[arg-type]
    assert memory._held["compiled"].module is net


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path: Path) -> None:
    from visionvitals.backbones import memory

    mean, std = np.array([0.5, 0.25, 0.125]), torch.full((3,), 0.5)
    vv.backbone(Brightest(), name="arrays", size=np.int64(SIDE), mean=mean, std=std, resize=np.int32(40))  # type: ignore[arg-type]
    vv.backbone(Brightest(), name="lists", size=(SIDE, SIDE), mean=(0.5, 0.25, 0.125), std=(0.5,) * 3, resize=40)
    assert memory._held["arrays"].preprocess == memory._held["lists"].preprocess
    call: dict[str, Any] = {"data": "shapes:test?n=8", "studies": "clean", "preset": "quick"}
    machine = {"device": torch.device("cpu"), "batch_size": np.int64(2), "workers": np.int64(1)}
    run = vv.audit("tiny:cnn", **call, limit=np.int64(4), seed=np.int64(1), out=tmp_path / "a", **machine)
    assert run.table(metric="top1")["n"].to_pylist() == [4]
    vv.audit("tiny:cnn", **call, limit=4, seed=1, out=tmp_path / "b", reuse=str(tmp_path / "a"), device="cpu")
    cells = [path.name for path in (tmp_path / "b").glob("store/*/*/cell.json")]
    assert cells == ["cell.json"], "the same cell"


def test_a_data_set_alone_brings_its_classes() -> None:
    from visionvitals.datasets import memory

    class Folder(list[tuple[np.ndarray, int]]):
        classes = ("cat", "dog")

    vv.images(Folder([(np.zeros((4, 4, 3), np.uint8), 1)]), name="folder")
    assert memory._held["folder"].card.classes == ("cat", "dog")


NOT_LABELS = (
    0.9,
    float("nan"),
    None,
    True,
    np.float32(1),
    np.array([1]),
    torch.tensor([1]),
    torch.tensor(1.0),
    np.bool_(1),
    (1,),
)


@pytest.mark.parametrize("label", NOT_LABELS, ids=repr)
def test_a_label_that_is_no_whole_number_is_named(label: object) -> None:
    """0.9 was taken as 0."""
    with pytest.raises(VitalsError, match=r"^Label 2 must be a whole number or the name of a class\. Got "):
        vv.images([np.zeros((4, 4, 3), np.uint8)] * 3, [0, 1, label], name="bad")


def test_whole_numbers_of_numpy_and_torch_are_labels() -> None:
    from visionvitals.datasets import memory

    vv.images([np.zeros((4, 4, 3), np.uint8)] * 4, [1, np.int64(0), np.uint8(2), torch.tensor(1)], name="whole")
    assert memory._held["whole"].labels == (1, 0, 2, 1)


def test_what_was_not_given_is_named(tmp_path: Path) -> None:
    with pytest.raises(VitalsError, match=r"must have been given in this process. Got 'memory:nett'"):
        vv.audit("memory:nett", data="shapes:test?n=4", studies=["clean"], out=tmp_path / "run", device="cpu")
    with pytest.raises(VitalsError, match=r"A name must be a word without"):
        vv.backbone(Brightest(), name="a?b")
    odd: list[tuple[Any, dict[str, Any], str]] = [
        (Brightest(), {"mean": (0.5,)}, "`mean` must have three numbers"),
        (Brightest(), {"std": 0.5}, "`std` must have three numbers"),
        (Brightest(), {"size": 16.5}, "`size` must be pixels"),
        (Brightest(), {"size": (16, 16, 3)}, "`size` must be pixels"),
        (Brightest(), {"interpolation": "bicubc"}, "Did you mean bicubic"),
        (Brightest, {}, "must be a torch.nn.Module. Got 'type'"),
        (lambda x: x, {}, "must be a torch.nn.Module. Got 'function'"),
        (
            torch.jit.script(torch.nn.Linear(1, 2)),
            {},
            "must not be TorchScript. Got .* Give the module that it was made of",
        ),
        (Brightest(), {"resize": "a"}, "`resize` must be a whole number"),
        (Brightest(), {"classes": "abcd"}, "`classes` must be names. Got 'abcd'"),
        (Brightest(), {"classes": [1, 2]}, r"`classes` must be names. Got 1, 2"),
        (Brightest(), {"classes": 4}, "`classes` must be names. Got 4"),
        (Brightest(), {"name": "a\nb"}, "at most 100 characters, all printable. Got 'a"),
        (Brightest(), {"name": "a" * 101}, "at most 100 characters"),
    ]
    for module, more, said in odd:
        with pytest.raises(VitalsError, match=said):
            vv.backbone(module, **({"name": "a"} | more))
    call: dict[str, Any] = {"data": "shapes:test?n=4", "out": tmp_path / "run", "studies": "clean"}
    for more, said in (
        ({"data": None}, "`data` must be a spelling, or several"),
        ({"studies": [None]}, "`studies` must be a spelling, or several"),
        ({"limit": "3"}, "`limit` must be a whole number from 1 to 2147483647. Got '3'"),
        ({"limit": True}, "`limit` must be a whole number"),
        ({"seed": 1.5}, "`seed` must be a whole number .* Got 1.5"),
        ({"seed": None}, "`seed` must be a whole number .* Got none"),
        ({"seed": 2**63}, "`seed` must be a whole number"),
        ({"decoder": "fastt"}, "`decoder` must be one of pillow, fast. Got 'fastt'"),
        ({"studies": "claen"}, "Did you mean clean"),
        ({"data_for": ["clean"]}, "`data_for` must name image sets by study"),
        ({"data_for": {"clean": 3}}, "`data_for` must be a spelling, or several"),
        ({"out": None}, "`out` must be a path. Got none"),
        ({"rules": 3}, "`rules` must be a path"),
        ({"baseline": 3}, "`baseline` must be a path"),
        ({"reuse": 3}, "`reuse` must be a path"),
        ({"reuse": "runs/none", "out": tmp_path / "begun"}, "`--reuse` must name run folders. Got 'runs/none'"),
        ({"batch_size": "4"}, "`batch_size` must be a whole number"),
        ({"workers": 0}, "`workers` must be a whole number from 1 to 4096"),
        ({"device": torch.device("cuda:77")}, "`--device` must be one of this machine's"),
    ):
        with pytest.raises(VitalsError, match=said):
            vv.audit("tiny:cnn", **(call | more))
    for run, rules, said in ((None, "a", "`run` must be a path. Got none"), ("a", 3, "`rules` must be a path. Got 3")):
        with pytest.raises(VitalsError, match=said):
            vv.gate(run, rules)  # type: ignore[arg-type]
    with pytest.raises(VitalsError, match="A run must be given by its folder, a path"):
        vv.Run(None)  # type: ignore[arg-type]
    with pytest.raises(
        VitalsError, match=r"Only one module of a class .* Got 'Brightest'. Give each a name: `visionvitals.backbone"
    ):
        vv.audit([Brightest(), Brightest()], **call)
    assert not (tmp_path / "run").exists()
