"""Other numerics than float32: part of a cell, measured before the run, and never in the way of what needs float32."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import visionvitals as vv
from visionvitals import results, study
from visionvitals.cli import main
from visionvitals.core import Backbone, Cell, ImageSetCard
from visionvitals.errors import VitalsError
from visionvitals.job import Embeddings, Job
from visionvitals.numerics import FP32, Numerics, said
from visionvitals.plan import plan_file, planner
from visionvitals.plan.identity import cell_id, identity
from visionvitals.results import comparability, compare
from visionvitals.run import documents, precision, requests, runner, worker
from visionvitals.run.dealing import Task

CPU = torch.device("cpu")
BF16 = Numerics(precision="bf16")


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return planner.load_backbone("tiny:vit", device=CPU)


def pictures(n: int = 5) -> Tensor:
    return torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def job(backbone: Backbone, **more: Any) -> Job:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    condition = more.pop("condition", None)
    return Job(
        backbone=backbone,
        condition=condition,
        ids=tuple("abcde"),
        pixels=pixels,
        labels=np.arange(5),
        batch_size=2,
        **more,
    )


def test_the_default_is_not_part_of_an_identity_and_everything_else_is(tiny: Backbone) -> None:
    data = ImageSetCard(spec="folder:val", digest="0a", n=2, classes=("n01",), class_names=("cat",))
    clean = study.load("clean")
    cell = Cell(study="clean", version=1, condition=clean.Condition(), backbone=tiny.card, images=data)
    assert identity(cell)["options"] == {}
    others = [BF16, Numerics(precision="fp16"), Numerics(compile=True), Numerics(channels_last=True)]
    ids = {cell_id(dataclasses.replace(cell, numerics=each)) for each in (FP32, *others)}
    assert len(ids) == 5
    assert cell_id(dataclasses.replace(cell, numerics=Numerics())) == cell_id(cell)


def test_a_plan_keeps_its_numerics_and_writes_no_default(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(
        'backbones = ["tiny:vit"]\ndata = ["shapes:test?n=8"]\nstudies = ["clean"]\nprecision = "bf16"\ncompile = true\n'
    )
    plan = plan_file.read(tmp_path / "plan.toml")
    assert plan.numerics == Numerics(precision="bf16", compile=True)
    values = plan_file.to_dict(plan)
    assert plan_file.from_dict(values, source="here") == plan
    usual = plan_file.to_dict(dataclasses.replace(plan, numerics=FP32))
    assert values.keys() - usual.keys() == {"precision", "compile"}
    for line in ('precision = "fp8"', "compile = 1"):
        (tmp_path / "bad.toml").write_text(f'backbones = ["tiny:vit"]\ndata = ["shapes:test?n=8"]\n{line}\n')
        with pytest.raises(VitalsError, match="line 3"):
            plan_file.read(tmp_path / "bad.toml")


def test_only_what_is_scored_is_computed_so(tiny: Backbone) -> None:
    fast = precision.answering(tiny, BF16)
    images = pictures()
    with torch.inference_mode():
        exact, other = tiny.logits(images), fast.logits(images)
    assert other.dtype == torch.float32
    assert not torch.equal(exact, other)
    assert float((exact - other).abs().max() / exact.abs().max()) < 0.05
    fractions = [
        study.load("occlusion").Condition(fraction=0.25, grid=(8, 8), fill=fill) for fill in ("black", "token")
    ]
    for name, condition in (("clean", study.load("clean").Condition()), *(("occlusion", c) for c in fractions)):
        alone, scored = (
            [list(study.load(name).measure(job(tiny, condition=condition, scorer=s)))] for s in (None, fast)
        )
        entropy = [
            torch.cat([torch.as_tensor(b.values["cross_entropy"]) for b in found[0]]) for found in (alone, scored)
        ]
        assert not torch.equal(*entropy)
        torch.testing.assert_close(*entropy, rtol=0.2, atol=0.2)
    attack = study.load("attack")
    condition = attack.Condition(method="fgsm", eps=0.01)
    alone, scored = (list(attack.measure(job(tiny, condition=condition, scorer=s))) for s in (None, fast))
    for a, b in zip(alone, scored, strict=True):
        assert all(torch.equal(torch.as_tensor(a.values[m]), torch.as_tensor(b.values[m])) for m in a.values)


def test_a_compiled_network_sees_one_size_of_batch() -> None:
    sizes: list[int] = []

    def run(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return images.mean(dim=(2, 3))

    filled, images = precision._filled(run), pictures(7)
    found = torch.cat([filled(images[:4]), filled(images[4:])])
    assert torch.equal(found, images.mean(dim=(2, 3)))
    assert sizes == [4, 4]


def test_what_a_device_lacks_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    precision.check(FP32, CPU)
    precision.check(BF16, CPU)

    def lacks(*_: object, **__: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(precision, "_autocast", lacks)
    with pytest.raises(
        VitalsError, match=r"`--precision fp16` needs a device that computes so\. Got cpu: no such kernel"
    ):
        precision.check(Numerics(precision="fp16"), CPU)
    monkeypatch.undo()
    monkeypatch.setattr(torch, "compile", lacks)
    with pytest.raises(VitalsError, match="`--compile` needs a compiler"):
        vv.audit("tiny:cnn", data="shapes:test?n=8", studies="clean", compile=True, out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_what_they_change_is_measured_kept_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    how: dict[str, Any] = {"data": "shapes:test?n=40", "studies": "clean", "out": out, "device": "cpu"}
    run = vv.audit("tiny:cnn", precision="bf16", **how)
    (path,) = out.glob("numerics.*.json")
    kept = documents.read(path, documents.NUMERICS)
    assert (kept["backbone"], kept["n"], kept["numerics"]) == ("tiny:cnn", 40, dataclasses.asdict(BF16))
    assert 0 < kept["error"] < 0.1
    assert kept["speed"] > 0
    low, high = kept["changed"][1:]
    assert low <= kept["changed"][0] <= high
    (cell,) = out.glob("store/clean/*/cell.json")
    assert json.loads(cell.read_text())["cell"]["numerics"] == dataclasses.asdict(BF16)
    (line,) = precision.lines(out)
    assert "tiny:cnn answers by bf16" in line
    assert main(["status", str(out)]) == 0
    assert "tiny:cnn answers by bf16" in capsys.readouterr().out
    page = (out / "report.html").read_text()
    assert "tiny:cnn answers by bf16" in page
    with pytest.raises(VitalsError, match='precision: "bf16" there, null here'):
        vv.audit("tiny:cnn", **how)
    before = path.read_bytes()
    again = vv.audit("tiny:cnn", precision="bf16", **{**how, "studies": "clean,shuffle"}, preset="quick")
    assert path.read_bytes() == before
    assert run.folder == again.folder
    path.write_text("{}")
    assert precision.lines(out) == []


def test_float32_is_what_it_always_was_and_may_be_compared_with_others(tmp_path: Path) -> None:
    how: dict[str, Any] = {"data": "shapes:test?n=40", "studies": "clean", "device": "cpu"}
    plain = vv.audit("tiny:cnn", out=tmp_path / "a", **how)
    other = vv.audit("tiny:cnn", precision="bf16", out=tmp_path / "b", **how)
    assert list(plain.folder.glob("numerics.*")) == []
    both = results.load(plain.folder, other.folder)
    assert {p.settings["numerics"] for p in both.points} == {"fp32", "bf16"}
    assert len(both.points) == 2  # never averaged
    (pair,) = compare.pairs(both)
    assert len(pair.matched[0]) == 1
    assert comparability.differing(pair) == ["numerics fp32 and bf16: compared as they are"]
    assert len(set(comparability.digests(pair))) == 2
    (cell,) = plain.folder.glob("store/clean/*/cell.json")
    assert json.loads(cell.read_text())["cell"]["numerics"] == dataclasses.asdict(FP32)


def test_cells_of_before_are_float32() -> None:
    assert said(None) == "fp32" == str(FP32)
    assert str(Numerics(precision="bf16", compile=True, channels_last=True)) == "bf16, compiled, channels last"
    with pytest.raises(VitalsError, match="`precision` must be one of"):
        Numerics(precision="int8")  # type: ignore[arg-type]


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_network_answers_the_same() -> None:
    small = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, stride=8), torch.nn.Flatten(), torch.nn.Linear(256, 7))
    backbone = planner.load_backbone(vv.backbone(small, name="small", size=64), device=CPU)
    images = pictures(3)
    with torch.inference_mode():
        exact = backbone.logits(images)
        found = precision.answering(backbone, Numerics(compile=True)).logits(images)
    assert float((exact - found).abs().max() / exact.abs().max()) < 1e-4


def test_a_compiled_network_whose_memory_ran_out_sees_the_smaller_batch() -> None:
    def run(images: Tensor) -> Tensor:
        if len(images) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return images.mean(dim=(2, 3))

    filled, images = precision._filled(run), pictures(4)
    with pytest.raises(torch.OutOfMemoryError):
        filled(images)
    assert torch.equal(filled(images[:2]), images[:2].mean(dim=(2, 3)))


def test_memory_that_runs_out_where_numerics_are_tried_costs_no_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = planner.load_backbone

    def small(text: str, *, device: torch.device) -> Backbone:
        found = own(text, device=device)

        def logits(images: Tensor) -> Tensor:
            if len(images) > 4:
                raise torch.OutOfMemoryError("out of memory")
            return found.logits(images)

        return dataclasses.replace(found, logits=logits)

    monkeypatch.setattr(planner, "load_backbone", small)
    how: dict[str, Any] = {"data": "shapes:test?n=12", "studies": "clean", "device": "cpu", "batch_size": 8}
    run = vv.audit("tiny:cnn", precision="bf16", out=tmp_path / "run", **how)
    assert len(list(run.folder.glob("store/clean/*/cell.json"))) == 1
    assert len(precision.lines(run.folder)) == 1


def test_a_process_that_gets_task_after_task_tries_its_numerics_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, made, tried = tmp_path / "run", list[Embeddings](), list[str]()
    own, keeps = runner.calibrated, runner.Embeddings

    def calibrated(*args: Any) -> Any:
        tried.append(args[1].card.spec)
        return own(*args)

    def embeddings(*args: Any) -> Embeddings:
        made.append(keeps(*args))
        return made[-1]

    monkeypatch.setattr(runner, "calibrated", calibrated)
    monkeypatch.setattr(runner, "Embeddings", embeddings)
    words = ["tiny:vit", "tiny:cnn", "--data", "shapes:test?n=8", "--studies", "clean,shuffle", "--preset", "quick"]
    assert main(["plan", *words, "--precision", "bf16", "--out", str(out)]) == 0
    content = requests.content_of(out)
    told: dict[str, Any] = {"command": (), "batch_size": 8, "workers": None, "reuse": (), "folder": str(tmp_path)}
    one = worker.Worker(out=str(out), plan=content["plan"], by="x", device="cpu", **told)
    for spec in ("tiny:vit", "tiny:cnn", "tiny:vit"):
        left = [cell for cell in content["cells"] if cell["backbone"] == spec]
        some = left[:2] if len(tried) == 0 else left[2:]
        for cell in some:
            done = one.do(Task(spec, ((cell["id"], 0),), 1.0))
            assert (list(done.cells), done.failed, done.error) == ([cell["id"]], {}, "")
    assert tried == ["tiny:vit", "tiny:cnn", "tiny:vit"]
    assert len(made) == 3
