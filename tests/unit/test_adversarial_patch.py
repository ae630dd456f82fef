"""The universal patch: its size and poses, pasting, that training makes an attack of it, and that a killed training goes on."""

import dataclasses
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load
from torch import Tensor, nn

from visionvitals import randomness
from visionvitals.core import NO_IMAGES, Backbone, BackboneCard, Preprocess
from visionvitals.errors import VitalsError
from visionvitals.job import Forgetful, Job
from visionvitals.perturb import adversarial_patch as patches
from visionvitals.perturb.adversarial_patch import Placement
from visionvitals.perturb.limits import extent, patch_side
from visionvitals.plan import planner
from visionvitals.plan.request import Plan, Section
from visionvitals.run import runner
from visionvitals.studies import _universal_patch
from visionvitals.studies import adversarial_patch as study

SIZE = (32, 32)
CLASSES = 4


def test_the_sizes_are_the_papers() -> None:
    """Known answers: shares of the area of 224 x 224 px."""
    assert [patch_side(a, "circle", (224, 224)) for a in (0.05, 0.15, 0.25)] == [56, 96, 126]
    assert [patch_side(a, "square", (224, 224)) for a in (0.05, 0.15, 0.25)] == [50, 86, 112]
    assert patch_side(1.0, "square", (32, 32)) == 32


def keys(n: int = 64) -> Tensor:
    return randomness.stream(0, [f"i{k}" for k in range(n)], "pose")


@pytest.mark.parametrize("shape", ["circle", "square"])
@pytest.mark.parametrize("where", ["free", "fixed"])
def test_a_patch_is_wholly_inside_and_covers_its_area(shape: Any, where: Any) -> None:
    placement = Placement(shape=shape, side=30, where=where, rotation=180.0, scale=(0.5, 1.2))
    pose = patches.poses(keys(), placement, (64, 80))
    _, inside = patches.paste(torch.zeros(64, 3, 64, 80), torch.ones(3, 30, 30), pose, shape)
    area = 30**2 * pose.scale.square() * (np.pi / 4 if shape == "circle" else 1)
    torch.testing.assert_close(inside.double().sum(dim=(1, 2)), area, rtol=0.12, atol=0)
    border = torch.cat([inside[:, 0], inside[:, :, 0]], dim=1)
    assert where == "free" or not border.any(), "it lies in the lower right corner"
    assert extent(30, shape, rotation=180.0, scale=1.2) <= 64
    assert len({*pose.y.tolist()}) > 16


def test_an_unturned_patch_is_copied_and_everything_else_stays() -> None:
    patch = torch.rand(3, 10, 10, generator=torch.Generator().manual_seed(0))
    images = torch.rand(64, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    placement = Placement(shape="square", side=10)
    pose = patches.poses(keys(), placement, SIZE)
    seen, inside = patches.paste(images, patch, pose, "square")
    for k in range(64):
        top, left = int(pose.y[k] - 5), int(pose.x[k] - 5)
        torch.testing.assert_close(seen[k, :, top : top + 10, left : left + 10], patch, atol=1e-5, rtol=0)
        assert inside[k].sum() == 100
    assert torch.equal(torch.where(inside[:, None], images, seen), images)


def test_a_quarter_turn_turns_the_patch() -> None:
    patch = torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(0))
    pose = patches.Pose(*(torch.tensor([v], dtype=torch.float64) for v in (16.5, 16.5, np.pi / 2, 1.0)))
    seen, _ = patches.paste(torch.zeros(1, 3, *SIZE), patch, pose, "square")
    shown = seen[0, :, 12:21, 12:21]
    turned = [torch.rot90(patch, k, (1, 2)) for k in (1, 3)]
    assert min(float((shown - t).abs().max()) for t in turned) < 1e-5


def test_aligned_means_whole_cells_and_unaligned_half_a_cell_off() -> None:
    for where, off in (("aligned", 0), ("unaligned", 8)):
        placement = Placement(shape="square", side=48, where=where, cell=16)  # type: ignore[arg-type]
        pose = patches.poses(keys(), placement, (224, 224))
        corners = torch.cat([pose.y, pose.x]) - 24
        assert set((corners % 16).tolist()) == {off}
        assert corners.min() == off
        assert corners.max() == 224 - 48 - (16 - off if off else 0)


def test_a_patch_larger_than_the_image_is_refused() -> None:
    with pytest.raises(VitalsError, match="must fit into the 32x32 image"):
        patches.poses(keys(), Placement(shape="square", side=33), SIZE)
    big = study.Condition(area=0.9, shape="square", rotation=45.0)
    assert "larger than the 32x32 image" in str(study.refusal(big, card(), NO_IMAGES))
    assert study.refusal(dataclasses.replace(big, rotation=0.0), card(), NO_IMAGES) is None
    assert "larger than" in str(study.refusal(study.Condition(scale=(1.0, 3.0)), card(), NO_IMAGES))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"area": 15.0}, r"`area` is a share of the image.*For 15 % write 0.15"),
        ({"area": 0.0}, "`area` is a share"),
        ({"shape": "star"}, "`shape` must be one of circle, square"),
        ({"where": "aligned"}, "neither turned nor scaled"),
        ({"rotation": 200.0}, r"in \[0, 180\]"),
        ({"scale": (1.0, 0.5)}, "smallest, largest"),
        ({"lr": 5.0}, "scale of pixel values"),
        ({"content": "grey"}, "`content` must be one of"),
        ({"epochs": 0}, "`epochs` must be positive"),
    ],
)
def test_a_condition_refuses_what_has_no_meaning(values: dict[str, Any], said: str) -> None:
    with pytest.raises(VitalsError, match=said):
        study.Condition(**values)


def test_what_cannot_be_measured_is_a_skip() -> None:
    on_grid = study.Condition(shape="square", where="aligned", rotation=0.0)
    plain = dataclasses.replace(card(), patch_grid=None)
    assert "has none" in str(study.refusal(on_grid, plain, NO_IMAGES))
    assert study.refusal(on_grid, card(), NO_IMAGES) is None
    assert "smaller than the network's own" in str(
        study.refusal(dataclasses.replace(on_grid, area=0.05), card(), NO_IMAGES)
    )
    assert "not among the 4 outputs" in str(study.refusal(study.Condition(target=4), card(), NO_IMAGES))
    assert "at least 2 classes" in str(
        study.refusal(study.Condition(), dataclasses.replace(card(), outputs=1), NO_IMAGES)
    )


def card(size: tuple[int, int] = SIZE) -> BackboneCard:
    preprocess = Preprocess(size=size, resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    grid = (size[0] // 8, size[1] // 8)
    return BackboneCard(
        spec="x:y", architecture="y", digest="0", preprocess=preprocess, outputs=CLASSES, parameters=1, patch_grid=grid
    )


def network(size: tuple[int, int] = SIZE, *, gradients: bool = True) -> Backbone:
    """Its logits are how bright the quarters of the image are: right on every picture of `pictures`, and easily moved."""

    def logits(images: Tensor) -> Tensor:
        out = 20 * nn.functional.adaptive_avg_pool2d(images.mean(dim=1, keepdim=True) - 0.5, 2).flatten(1)
        return out if gradients else out.detach()

    return Backbone(card=card(size), device=torch.device("cpu"), logits=logits, module=nn.Identity())


def job(condition: study.Condition, n: int = 40, **more: Any) -> Job:
    generator = np.random.default_rng(0)
    labels = np.arange(n) % CLASSES
    pixels = generator.normal(110, 20, (n, *SIZE, 3))
    for image, label in zip(pixels, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] += 20
    values: dict[str, Any] = {
        "backbone": network(),
        "condition": condition,
        "ids": [f"i{k}" for k in range(n)],
        "pixels": pixels.clip(0, 255).astype(np.uint8),
        "labels": labels,
    }
    return Job(**(values | more))


def scores(j: Job, counted: str = "all", metric: str = "top1") -> dict[str, float]:
    """Of the images that have a value."""
    found: dict[str, float] = {}
    for block in study.measure(j):
        if block.at == (counted,):
            found.update(zip(block.items, torch.as_tensor(block.values[metric]).tolist(), strict=True))
    return {item: value for item, value in found.items() if value == value}


FIXED = study.Condition(where="fixed", shape="square", area=0.2, rotation=0.0, epochs=8)


def test_a_trained_patch_beats_noise_on_images_that_it_was_not_trained_on() -> None:
    trained, noise, gray = (scores(job(dataclasses.replace(FIXED, content=c))) for c in ("trained", "noise", "gray"))
    assert trained.keys() == noise.keys() == gray.keys()
    assert len(trained) == 20
    assert np.mean(list(noise.values())) - np.mean(list(trained.values())) > 0.4


def test_a_target_is_reached_and_its_class_left_out() -> None:
    aimed = dataclasses.replace(FIXED, target=3)
    reached = scores(job(aimed), metric="attack_success")
    assert np.mean(list(reached.values())) > 0.9
    assert not any(int(item[1:]) % CLASSES == 3 for item in reached)
    assert (
        np.mean(list(scores(job(dataclasses.replace(aimed, content="noise")), metric="attack_success").values())) < 0.5
    )


def test_the_first_correct_images_are_a_part_of_all() -> None:
    labels = np.arange(40) % CLASSES
    labels[::5] = (labels[::5] + 1) % CLASSES  # the network is wrong on these
    j = job(dataclasses.replace(FIXED, content="gray"), labels=labels)
    every, right = scores(j), scores(j, "first-correct")
    assert {item for item in every if int(item[1:]) % 5} == right.keys()


def test_the_sets_own_parts_are_kept() -> None:
    splits = ["train" if k % 4 == 1 else "test" for k in range(40)]
    found = scores(job(dataclasses.replace(FIXED, content="gray"), splits=splits))
    assert found.keys() == {f"i{k}" for k in range(40) if k % 4 != 1}


def test_no_picture_is_trained_on_and_scored() -> None:
    """Every picture is there twice; in a set with parts, one copy in each."""
    said: list[str] = []
    twice = job(FIXED, copies={f"i{k + 20}": f"i{k}" for k in range(20)}, warn=said.append)
    training, scored = _universal_patch.parts(twice, most=100, run=0)
    assert (len(training), len(scored)) == (10, 10)
    assert not {k % 20 for k in training} & {int(item[1:]) % 20 for item in scored}
    assert said == ["20 images are copies of others and are left out: no picture is trained on and scored"]
    known = dataclasses.replace(twice, splits=["train" if k < 25 else "test" for k in range(40)])
    training, scored = _universal_patch.parts(known, most=100, run=0)
    assert scored == {f"i{k}" for k in range(25, 40)}
    assert {k % 20 for k in training} == {0, 1, 2, 3, 4}
    with pytest.raises(VitalsError, match="others to score"):
        _universal_patch.parts(
            dataclasses.replace(twice, copies={f"i{k}": "i0" for k in range(1, 40)}), most=100, run=0
        )


def test_an_image_without_logits_is_not_right_without_a_patch() -> None:
    """`argmax` of NaN is 0, the label of a quarter of the images."""
    plain = network()

    def breaks(images: Tensor) -> Tensor:
        covered = images[:, 0, -1, -1] == 0.5
        return plain.logits(images).masked_fill(~covered[:, None], torch.nan)

    gray = dataclasses.replace(FIXED, content="gray")
    fragile = job(gray, backbone=dataclasses.replace(plain, logits=breaks))
    assert len(scores(fragile)) == 20
    assert scores(fragile, "first-correct") == {}
    none = _universal_patch._first_correct(fragile, fragile.backbone, np.arange(40), -1)
    assert none.tolist() == []


def test_each_run_splits_the_images_anew_and_all_contents_alike() -> None:
    scored = [
        {
            content: frozenset(scores(job(dataclasses.replace(FIXED, content=content, run=run, epochs=1))))
            for content in ("trained", "gray")
        }
        for run in range(3)
    ]
    assert all(one["trained"] == one["gray"] for one in scored)
    assert len({one["gray"] for one in scored}) == 3
    assert all(len(one["gray"]) == 20 for one in scored)


def test_every_preset_has_several_runs_of_each_patch() -> None:
    """One patch has no interval; a transfer matrix and a target are no exception."""
    for preset, least in (("quick", 5), ("default", 5), ("paper", 5)):
        found = study.conditions(preset, (224, 224))  # type: ignore[arg-type]
        runs = Counter(dataclasses.replace(c, run=0) for c in found)
        assert set(runs.values()) == {least}


def test_another_run_is_another_patch_and_the_files_are_the_patch() -> None:
    kept: list[dict[str, bytes]] = [{}, {}, {}]
    for files, run in zip(kept, (0, 0, 1), strict=True):
        scores(job(dataclasses.replace(FIXED, shape="circle", run=run), attach=files.__setitem__))
    assert kept[0] == kept[1]
    assert kept[0] != kept[2]
    patch = load(kept[0]["patch.safetensors"])["patch"]
    picture = np.asarray(Image.open(io.BytesIO(kept[0]["patch.png"])))
    assert picture.shape == (patch.shape[1], patch.shape[2], 4)
    assert np.array_equal(picture[..., :3], patch.mul(255).round().byte().permute(1, 2, 0).numpy())
    assert picture[0, 0, 3] == 0
    assert picture[patch.shape[1] // 2, patch.shape[1] // 2, 3] == 255


class Disk(Forgetful):
    """The rows of one memo stay, and how many are done; `kill` stops after so many."""

    def __init__(self, kill: int = 0) -> None:
        self.kill, self.done, self.begun = kill, 0, list[int]()
        self.arrays: dict[str, np.ndarray] = {}

    def rows(self, name: str, key: Any, n: int, columns: Any, fill: Any) -> Any:
        self.arrays = self.arrays or {k: np.zeros((n, *shape), dtype) for k, (shape, dtype) in columns.items()}
        self.begun.append(self.done)
        for done in fill(self.arrays, self.done) if self.done < n else ():
            self.done = done
            if done == self.kill:
                raise KeyboardInterrupt
        return self.arrays


def test_a_killed_training_goes_on_and_gives_the_same_patch() -> None:
    whole: dict[str, bytes] = {}
    expected = scores(job(FIXED, attach=whole.__setitem__))
    disk = Disk(kill=3)
    with pytest.raises(KeyboardInterrupt):
        scores(job(FIXED, memos=disk))
    disk.kill = 0
    files: dict[str, bytes] = {}
    for _ in range(2):
        assert scores(job(FIXED, memos=disk, attach=files.__setitem__)) == expected
        assert files == whole
    assert disk.begun == [0, 3, 8]


def test_a_patch_belongs_to_a_normalisation_a_class_order_and_the_training_images() -> None:
    """Its key differs wherever the patch can: a patch of another network in the cache is never taken for this one's."""
    keys: list[str] = []

    class Noted(Forgetful):
        def rows(self, name: str, key: Any, n: int, columns: Any, fill: Any) -> Any:
            keys.append(json.dumps([name, key, n], sort_keys=True))
            return super().rows(name, key, n, columns, fill)

    plain = network()
    wide = dataclasses.replace(card(), preprocess=dataclasses.replace(card().preprocess, std=(0.25,) * 3))
    short = dataclasses.replace(FIXED, epochs=1)
    named = dataclasses.replace(card(), classes=tuple("abcd"))
    turned = dataclasses.replace(card(), classes=tuple("badc"))
    for other in (plain, *(dataclasses.replace(plain, card=c) for c in (wide, named, turned))):
        scores(job(short, backbone=other, memos=Noted()))
    scores(job(short, memos=Noted(), splits=["train" if k % 4 == 1 else "test" for k in range(40)]))
    scores(job(short, memos=Noted(), labels=(np.arange(40) + 1) % CLASSES))
    scores(job(dataclasses.replace(short, lr=0.1), memos=Noted()))
    assert len(set(keys)) == len(keys) == 7


def test_a_patch_of_another_network_and_size_is_transferred() -> None:
    other = network((48, 48))
    asked = dataclasses.replace(FIXED, source="a:b")
    files: dict[str, bytes] = {}
    found = scores(job(asked, companion=lambda spec: other, attach=files.__setitem__))
    assert load(files["patch.safetensors"])["patch"].shape == (3, 14, 14)
    assert np.mean(list(found.values())) < 0.5
    few = dataclasses.replace(other.card, outputs=3)
    ours = dataclasses.replace(network().card, classes=("a", "b", "c", "d"))
    reordered = dataclasses.replace(other.card, classes=("b", "a", "c", "d"))
    for wrong in (few, reordered):
        assert "the same outputs, in the same order, in both networks" in str(study.unfit(asked, ours, wrong))
    assert study.unfit(asked, ours, dataclasses.replace(ours, spec="a:b")) is None


def test_bad_networks_are_named() -> None:
    with pytest.raises(VitalsError, match="needs gradients"):
        scores(job(FIXED, backbone=network(gradients=False)))
    disk, said = Disk(), list[str]()
    for _ in range(2):  # from the memo too
        wrong = (np.arange(40) + 1) % CLASSES
        scores(job(dataclasses.replace(FIXED, epochs=1), labels=wrong, warn=said.append, memos=disk))
    assert said == ["the network gets none of the 20 training images right: the patch is trained on all of them"] * 2
    assert scores(job(dataclasses.replace(FIXED, content="noise"), backbone=network(gradients=False)))


def test_an_image_that_breaks_the_network_has_no_value() -> None:
    plain = network()

    def breaks(images: Tensor) -> Tensor:
        seen = plain.logits(images)
        covered = images[:, 0, -1, -1] == 0.5  # the patch is gray, and no pixel of the images is exactly that
        return seen.masked_fill((covered & (images[:, 0, 0, 0] > 0.45))[:, None], torch.nan)

    gray = dataclasses.replace(FIXED, content="gray")
    fragile = dataclasses.replace(plain, logits=breaks)
    every, some = scores(job(gray)), scores(job(gray, backbone=fragile))
    assert 0 < len(some) < len(every)
    for metric in ("attack_success", "covered", "cross_entropy"):
        assert scores(job(gray, backbone=fragile), metric=metric).keys() == some.keys()


def test_a_run_keeps_the_patch_beside_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_backbone: str, toy_images: str
) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "cache"))
    sections = (Section(name="adversarial_patch", values={"content": ("trained", "noise"), "epochs": (2,)}),)
    planned = planner.make(
        Plan(backbones=(toy_backbone,), data=(toy_images,), studies=sections), device=torch.device("cpu")
    )
    outcome = runner.execute(planned, out=tmp_path / "run", device=torch.device("cpu"))
    assert outcome.failed == ()
    cells = sorted((tmp_path / "run" / "store" / "adversarial_patch").glob("*/cell.json"))
    assert len(cells) == 2
    for cell in cells:
        assert sorted(p.name for p in (cell.parent / "files").rglob("patch.*")) == ["patch.png", "patch.safetensors"]
        assert "patch" in [e["item"] for e in json.loads(cell.read_text(encoding="utf-8"))["exhibits"]]
