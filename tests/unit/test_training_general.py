"""Training beyond the embedded pair: teachers, accumulation, processes, timm's augmentation, what a training leaves behind."""

import dataclasses
import errno
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionvitals import files, randomness, registry, weight_files
from visionvitals.errors import VitalsError
from visionvitals.training.recipe import Recipe, facts, load_recipe, override, recipes

torch = pytest.importorskip("torch")

VIT = (
    "timm:vit_tiny_patch16_224?model.img_size=32&model.patch_size=8&model.embed_dim=16&model.depth=1&model.num_heads=2"
)
TWO = "timm:deit_tiny_distilled_patch16_224?model.img_size=32&model.patch_size=8&model.embed_dim=16&model.depth=1&model.num_heads=2"
PLAIN = {"crop": 0, "flip": False, "jitter": 0.0}
RECIPE = Recipe(name="general", model=VIT, train="a", test="b", size=32, epochs=2, batch=8, lr=3e-3, ema=0.5, **PLAIN)


@pytest.fixture(scope="module")
def loop():
    from visionvitals.training import loop

    return loop


@pytest.fixture(scope="module")
def pictures():
    from visionvitals.training.data import Pictures

    noise = np.random.default_rng(0).integers(0, 120, (24, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(24, dtype=np.int64) % 2
    noise[labels == 0, ..., 0] += 120
    noise[labels == 1, ..., 2] += 120
    ids = tuple(f"p{k}" for k in range(24))
    return Pictures(pixels=noise, labels=labels, classes=("red", "blue"), digest="d" * 64, spec="two", ids=ids)


def quiet(_line: str) -> None: ...


def weights(folder: Path):
    return weight_files.read(folder / "weights.safetensors").state


def metadata_of(folder: Path):

    return weight_files.read(folder / "weights.safetensors").metadata


def losses_of(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def backbone(text: str):
    spec = registry.parse(text, families=registry.names("backbones"))
    return registry.load("backbones", spec.family).load(spec, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def distilled(loop, pictures, tmp_path_factory):
    """A student whose teacher calls every picture blue."""
    out = tmp_path_factory.mktemp("distilled")
    recipe = dataclasses.replace(RECIPE, model=TWO, teacher="x:blue", distil="hard", epochs=6, lr=1e-2)
    says_blue = loop.teacher.Teacher(lambda images: torch.tensor([[0.0, 9.0]]).expand(len(images), 2), "t" * 64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.teacher, "load", lambda *_, **__: says_blue)
        loop.fit(recipe, pictures, pictures, out=out, report=quiet)
    return out


def test_each_head_learns_from_its_own_source(distilled) -> None:
    """The class head learns the labels, the second head what the teacher says: one class, right for half of the pictures."""
    last = json.loads((distilled / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["top1"] == 1.0
    assert last["top1_extra"] == 0.5


def test_the_heads_of_a_checkpoint_are_asked_apart(distilled, pictures) -> None:
    path = distilled / "weights.safetensors"
    images = torch.from_numpy(pictures.pixels).permute(0, 3, 1, 2) / 255
    first, second, shape, mean = (
        backbone(f"checkpoint:{path}{option}") for option in ("?token=class", "?token=distillation", "?token=shape", "")
    )
    assert (second.logits(images).argmax(1) == 1).all()
    assert torch.equal(first.logits(images).argmax(1), torch.from_numpy(pictures.labels))
    assert torch.equal(second.logits(images), shape.logits(images))
    torch.testing.assert_close(mean.logits(images), (first.logits(images) + second.logits(images)) / 2)
    assert len({one.card.digest for one in (first, second, mean)}) == 3, "results of the heads must not mix"
    assert second.card.digest == shape.card.digest
    assert any("mean of its class head" in note for note in mean.card.notes)
    torch.testing.assert_close(first.module.head(first.features(images)), first.logits(images))
    torch.testing.assert_close(second.module.head_dist(second.features(images)), second.logits(images))
    with pytest.raises(VitalsError, match=r"`token` must be one of class, distillation, shape\. Got 'shap'"):
        backbone(f"checkpoint:{path}?token=shap")
    with pytest.raises(VitalsError, match="needs a network with a distillation token"):
        backbone("timm:test_vit?pretrained=false&size=64&token=class")


def test_the_teacher_is_part_of_the_training(distilled, loop, pictures, monkeypatch) -> None:
    said = json.loads(metadata_of(distilled)["data"])
    assert said["teacher"] == "t" * 64
    other = loop.teacher.Teacher(lambda images: images, "u" * 64)
    recipe = dataclasses.replace(RECIPE, model=TWO, teacher="x:blue", distil="hard", epochs=6, lr=1e-2)
    monkeypatch.setattr(loop.teacher, "load", lambda *_, **__: other)
    with pytest.raises(VitalsError, match="digest of teacher is 'tttt"):
        loop.fit(recipe, pictures, pictures, out=distilled, report=quiet)


def test_a_teacher_of_other_classes_is_refused(loop, pictures, tmp_path) -> None:
    recipe = dataclasses.replace(RECIPE, model=TWO, teacher="tiny:cnn", distil="hard")
    with pytest.raises(
        VitalsError, match=r"must know the classes of the student: 2 of the 2 classes of `two` are not among"
    ):
        loop.fit(recipe, pictures, pictures, out=tmp_path, report=quiet)


def test_a_student_without_a_second_token_is_refused(loop, pictures, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(loop.teacher, "load", lambda *_, **__: loop.teacher.Teacher(lambda images: images, "t"))
    recipe = dataclasses.replace(RECIPE, teacher="x:y", distil="hard")
    with pytest.raises(VitalsError, match="A student needs a second token"):
        loop.fit(recipe, pictures, pictures, out=tmp_path, report=quiet)


def test_the_teacher_is_asked_for_the_classes_of_the_set(pictures) -> None:
    """In the order of the set, at the teacher's own size, without a gradient."""
    from visionvitals.core import ImageSetCard
    from visionvitals.training import teacher

    cnn = backbone("tiny:cnn")
    names = tuple(reversed(cnn.card.classes))
    card = ImageSetCard(spec="s", digest="d", n=1, classes=names, class_names=names)
    found = teacher.load("tiny:cnn", card, device=torch.device("cpu"), report=quiet)
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    torch.testing.assert_close(found.logits(images), cnn.logits(images).flip(1))
    assert not found.logits(images).requires_grad
    assert found.logits(images[..., :32, :32]).shape == (3, len(names))
    assert found.digest == cnn.card.digest


@pytest.mark.parametrize("more", [{}, {"mixup": 0.8, "cutmix": 1.0}], ids=["plain", "mixed"])
def test_accumulated_parts_are_the_whole_batch(loop, pictures, tmp_path, more) -> None:
    """Without mixing. With it, each part is mixed by its own draw, so the parts are another, equally valid batch."""
    recipe = dataclasses.replace(RECIPE, **more)
    loop.fit(recipe, pictures, pictures, out=tmp_path / "whole", report=quiet)
    loop.fit(recipe, pictures, pictures, out=tmp_path / "parts", micro=2, report=quiet)
    close = np.allclose(losses_of(tmp_path / "whole"), losses_of(tmp_path / "parts"), rtol=1e-5)
    assert close == (not more)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_full_precision(loop, pictures, tmp_path, precision) -> None:
    loop.fit(RECIPE, pictures, pictures, out=tmp_path / "full", report=quiet)
    loop.fit(dataclasses.replace(RECIPE, precision=precision), pictures, pictures, out=tmp_path / "half", report=quiet)
    full, half = losses_of(tmp_path / "full"), losses_of(tmp_path / "half")
    assert half != full
    assert half == pytest.approx(full, rel=0.03)
    state = torch.load(tmp_path / "half" / "checkpoint.pt", weights_only=True)
    assert {v.dtype for v in state["model"].values()} == {torch.float32}


def test_plain_gradient_descent_follows_its_equation(loop, pictures, tmp_path) -> None:
    """One step: w - lr (g + weight_decay w); biases do not decay."""
    recipe = dataclasses.replace(
        RECIPE,
        optimizer="sgd",
        lr=0.1,
        min_lr=0.1,
        warmup=0.0,
        weight_decay=0.5,
        clip=0.0,
        epochs=1,
        batch=24,
        smoothing=0.0,
    )
    torch.manual_seed(int(randomness.stream(0, ["weights"], "train/init")))
    module, _ = loop.network.make(recipe, outputs=2)
    images = torch.from_numpy(pictures.pixels).permute(0, 3, 1, 2) / 127.5 - 1
    torch.nn.functional.cross_entropy(module(images), torch.from_numpy(pictures.labels)).backward()
    loop.fit(recipe, pictures, pictures, out=tmp_path, report=quiet)
    after = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"]
    for name, decay in (("blocks.0.mlp.fc1.weight", 0.5), ("blocks.0.mlp.fc1.bias", 0.0)):
        w = module.get_parameter(name)
        torch.testing.assert_close(after[name], w - 0.1 * (w.grad + decay * w), rtol=1e-4, atol=1e-6)


def test_parts_must_fit_the_batch(loop, pictures, tmp_path) -> None:
    with pytest.raises(VitalsError, match=r"must be a multiple of `--micro-batch`\. Got 3"):
        loop.fit(RECIPE, pictures, pictures, out=tmp_path, micro=3)
    with pytest.raises(VitalsError, match="a part must have an even number"):
        loop.fit(dataclasses.replace(RECIPE, mixup=0.8), pictures, pictures, out=tmp_path, micro=1)


def test_a_killed_training_with_everything_on_resumes_exactly(loop, pictures, tmp_path, monkeypatch) -> None:
    """timm's augmentation, mixing, drop path, bfloat16, repeats: the curve after a kill is that of the uninterrupted one."""
    recipe = dataclasses.replace(
        RECIPE,
        model=VIT + "&model.drop_path_rate=0.2&model.proj_drop_rate=0.1",
        augment="rand-m9-mstd0.5-inc1",
        scale=0.5,
        erase=0.5,
        mixup=0.8,
        cutmix=1.0,
        repeats=2,
        precision="bfloat16",
    )
    loop.fit(recipe, pictures, pictures, out=tmp_path / "whole", micro=4, report=quiet)
    real, done = loop.data.batch, iter(range(9))

    def batch(*arguments):
        if next(done, None) is None:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop.data, "batch", batch)
        patch.setattr(loop, "SAVE_SECONDS", 0)
        with pytest.raises(KeyboardInterrupt):
            loop.fit(recipe, pictures, pictures, out=tmp_path / "cut", micro=4, report=quiet)
    torch.rand(7)  # whatever the process does in between
    loop.fit(recipe, pictures, pictures, out=tmp_path / "cut", micro=4, report=quiet)
    assert losses_of(tmp_path / "whole") == losses_of(tmp_path / "cut")
    assert all(torch.equal(v, weights(tmp_path / "cut")[k]) for k, v in weights(tmp_path / "whole").items())


def test_timms_augmentation_belongs_to_the_picture_and_leaves_the_generators_alone(pictures) -> None:
    import random

    from visionvitals.training.data import batch

    recipe = dataclasses.replace(RECIPE, augment="rand-m9-mstd0.5-inc1", scale=0.3, erase=0.5, flip=True)
    entries = np.arange(24)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    together, labels = batch(pictures, entries, recipe, 0)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])
    backwards, _ = batch(pictures, entries[::-1].copy(), recipe, 0)
    assert torch.equal(together, backwards.flip(0))
    assert torch.equal(labels, torch.from_numpy(pictures.labels))
    assert not torch.equal(together, batch(pictures, entries, recipe, 1)[0])
    copies, _ = batch(pictures, entries + 24, recipe, 0)
    assert not torch.equal(together, copies)


def test_workers_do_not_change_what_is_learned(pictures) -> None:
    from visionvitals.training.data import stream

    recipe = dataclasses.replace(RECIPE, augment="rand-m9-mstd0.5-inc1", scale=0.3)
    places = [(1, k, k + 8) for k in (0, 8, 16)]
    here, there = (list(stream(pictures, recipe, places, workers=w, pin=False)) for w in (0, 2))
    assert all(
        torch.equal(a, b) for first, second in zip(here, there, strict=True) for a, b in zip(first, second, strict=True)
    )


def test_repeated_augmentation_sees_each_picture_in_copies() -> None:
    from visionvitals.training.data import order

    entries = order(dataclasses.replace(RECIPE, repeats=3), 0, 30)
    assert len(entries) == 30
    assert len(set((entries % 30).tolist())) == 10
    assert (entries.reshape(10, 3) // 30 == [0, 1, 2]).all()
    assert (entries.reshape(10, 3) % 30 == entries.reshape(10, 3)[:, :1] % 30).all()


def test_mixing_keeps_pictures_and_labels_together() -> None:
    """Mixed: w x + (1 - w) x reversed, with the same w for the labels; cut: pixels of either one, by their share."""
    from visionvitals.training import augment

    recipe = dataclasses.replace(RECIPE, mixup=0.8, cutmix=1.0, smoothing=0.0)
    labels = torch.arange(4)
    kinds = set()
    for part in range(20):
        images = labels.float().view(4, 1, 1, 1).expand(4, 3, 32, 32).clone()
        mixed, target = augment.mix(images, labels, recipe, part=str(part), outputs=4)
        torch.testing.assert_close(target.sum(1), torch.ones(4))
        torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), target @ torch.arange(4.0))
        kinds.add(len(mixed[0].unique()) > 1)
        again, _ = augment.mix(
            labels.float().view(4, 1, 1, 1).expand(4, 3, 32, 32).clone(), labels, recipe, part=str(part), outputs=4
        )
        assert torch.equal(mixed, again)
    assert kinds == {True, False}


def test_an_interrupted_write_keeps_the_checkpoint_before(loop, pictures, tmp_path, monkeypatch) -> None:
    loop.fit(RECIPE, pictures, pictures, out=tmp_path, report=quiet)
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def cut(state, file):
        file.write(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(loop.checkpoints.torch, "save", cut)
    with pytest.raises(OSError, match="no space left"):
        loop.checkpoints.save(tmp_path, {})
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_what_a_killed_training_left_half_written_goes_after_a_day(loop, pictures, tmp_path) -> None:
    old, young = (files.temporary_beside(tmp_path / "checkpoint.pt") for _ in range(2))
    for leftover in (old, young):
        leftover.write_bytes(b"half of it")
    os.utime(old, (0, time.time() - 1.1 * files.ABANDONED))
    loop.fit(RECIPE, pictures, pictures, out=tmp_path, report=quiet)
    assert not old.exists()
    assert young.exists(), "another process, on whichever machine, may still write it"


def test_timm_loads_the_weights_of_its_own_networks(loop, pictures, tmp_path) -> None:
    import timm

    path = loop.fit(RECIPE, pictures, pictures, out=tmp_path, report=quiet)
    kwargs = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2, "num_classes": 2}
    theirs = timm.create_model("vit_tiny_patch16_224", checkpoint_path=str(path), **kwargs).eval()
    ours = backbone(f"checkpoint:{path}")
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(theirs((images - 0.5) / 0.5), ours.logits(images))


def test_a_network_without_position_is_trained_and_comes_back_without(loop, pictures, tmp_path) -> None:
    from visionvitals.perturb import position

    for model, key in ((VIT, False), (TWO, True)):
        out = tmp_path / str(key)
        path = loop.fit(
            dataclasses.replace(RECIPE, model=f"{model}&position=none"), pictures, pictures, out=out, report=quiet
        )
        assert ("pos_embed" in weights(out)) == key
        found = backbone(f"checkpoint:{path}")
        assert position.change(found.module, size=(32, 32)) < 1e-5
        with_position = loop.fit(
            dataclasses.replace(RECIPE, model=model), pictures, pictures, out=out / "with", report=quiet
        )
        assert position.change(backbone(f"checkpoint:{with_position}").module, size=(32, 32)) > 1e-4


def test_the_folder_of_a_training_is_read_as_a_run(loop, pictures, distilled) -> None:
    from visionvitals import results
    from visionvitals.report import build
    from visionvitals.results import table

    run = results.load(distilled)
    rows = table.rows(run)
    curve = {(r["epoch"], r["head"]): r for r in rows if r["metric"] == "top1"}
    assert set(curve) == {(epoch, head) for epoch in range(1, 7) for head in ("class", "extra")}
    assert curve[6, "class"]["value"] == 1.0
    assert curve[6, "class"]["n"] == 24
    assert curve[6, "class"]["low"] < 0.95
    assert [r["value"] for r in rows if r["metric"] == "training_loss"] == pytest.approx(losses_of(distilled))
    assert list(run.studies) == ["curves"]
    page = build.build(run).read_text()
    assert "Training curves" in page


def launch(out: Path, processes: int, *more: str) -> subprocess.CompletedProcess[str]:
    words = [
        "train",
        "tiny_vit",
        "--data",
        "shapes:train?n=32&size=32",
        "--test",
        "shapes:test?n=16&size=32",
        "--device",
        "cpu",
    ]
    words += [
        "--out",
        str(out),
        "--set",
        f"model={VIT}&model.proj_drop_rate=0.1",
        "--set",
        "size=32",
        "--set",
        "batch=8",
        "--set",
        "epochs=2",
    ]
    start = (
        ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", "29571"]
        if processes > 1
        else []
    )
    source = str(Path(__file__).parents[2] / "src")
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": source}
    command = [sys.executable, *start, "-m", "visionvitals", *words, *more]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


@pytest.mark.slow
def test_two_processes_train_the_network_that_one_does(tmp_path) -> None:
    """With dropout: what is drawn belongs to the part of the batch, not to the process."""
    two, one = launch(tmp_path / "two", 2), launch(tmp_path / "one", 1, "--micro-batch", "4")
    assert (two.returncode, one.returncode) == (0, 0), two.stderr + one.stderr
    assert losses_of(tmp_path / "two") == pytest.approx(losses_of(tmp_path / "one"), rel=1e-5)
    a, b = weights(tmp_path / "two"), weights(tmp_path / "one")
    assert all(torch.allclose(a[k].float(), b[k].float(), atol=1e-3) for k in a)
    assert two.stdout.count("weights.safetensors") == 1, "one process speaks for all"


def test_a_wrong_environment_is_refused(monkeypatch) -> None:
    from visionvitals.training import distributed

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(VitalsError, match="`RANK` must be below `WORLD_SIZE`"):
        distributed.join("cpu")
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(VitalsError, match="WORLD_SIZE must be a number"):
        distributed.join("cpu")
    team = distributed.Team(0, 3, torch.device("cpu"))
    with pytest.raises(VitalsError, match="multiple of the number of processes"):
        distributed.share(8, team, None)
    assert distributed.share(24, team, 4) == (2, 4)


def test_the_recipes_of_the_paper_say_what_they_are() -> None:
    from visionvitals.training import recipes as folder

    named = {"deit", "texture_free", "shape_distill", "no_position", "patch_size", "cnn"}
    assert named <= set(recipes())
    for name in named:
        text = (Path(folder.__path__[0]) / f"{name}.py").read_text()
        assert all(word in text for word in ("Command:", "Hardware:", "Time:", "Expected:", "Sources."))
    deit, free = load_recipe("deit"), load_recipe("texture_free")
    assert (deit.batch, deit.lr, deit.epochs, deit.mixup, deit.cutmix, deit.erase) == (1024, 1e-3, 300, 0.8, 1.0, 0.25)
    assert not any((free.by_timm, free.mixup, free.cutmix, free.smoothing, free.flip, free.crop, free.jitter))
    assert {k for k, v in facts(load_recipe("no_position")).items() if facts(deit).get(k) != v} == {"name", "model"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "distil",
            "soft",
            "`distil` must be one of none, hard, soft_batch, soft_elements. Got 'soft'. Did you mean soft_batch",
        ),
        ("distil", "hard", "`teacher` and `distil` go together"),
        ("alpha", "2", r"`alpha` must be in \[0, 1\]"),
        ("tau", "0", "`tau` must be positive"),
        ("precision", "float8", "`precision` must be one of"),
        ("mean", "0.1,0.2", "`mean` must be one number or three"),
        ("scale", "0", r"`scale` must be in \(0, 1\]"),
        ("stored", "64", "needs random crops"),
        ("jitter", "0.1", None),
    ],
)
def test_override_refuses(key, value, message) -> None:
    if message is None:
        with pytest.raises(VitalsError, match="`crop` and `jitter` must be 0 with timm's augmentation"):
            override(dataclasses.replace(RECIPE, scale=0.5), {key: value})
        return
    with pytest.raises(VitalsError, match=message):
        override(RECIPE, {key: value})


def test_a_command_names_its_image_sets(tmp_path) -> None:
    from visionvitals.training.recipe import asked

    assert asked("deit", ["epochs=3"], data="folder:a", test="folder:b").train == "folder:a"
    assert asked("tiny_vit", ()).test == load_recipe("tiny_vit").test
    with pytest.raises(VitalsError, match="`--data` must name an image set, because the recipe `deit` has none"):
        asked("deit", ())
    with pytest.raises(VitalsError, match="by `--test` or by `--set test=`, not both"):
        asked("tiny_vit", ["test=folder:x"], test="folder:y")
    with pytest.raises(VitalsError, match=r"no field `epoch`\. Did you mean epochs"):
        asked("tiny_vit", ["epoch=1"])


def test_channels_are_read_one_or_three() -> None:
    changed = override(RECIPE, {"mean": "0.485,0.456,0.406", "std": "0.25"})
    assert changed.channels("mean") == (0.485, 0.456, 0.406)
    assert changed.channels("std") == (0.25,) * 3
    assert Recipe(**json.loads(json.dumps(facts(changed)))) == changed


def test_a_full_disk_under_a_checkpoint_is_said_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's archive is closed after the error of the disk, and raises one of its own."""
    opened = Path.open

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() + len(data) > 20_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    from visionvitals.training import checkpoints

    monkeypatch.setattr(
        Path, "open", lambda self, mode="r", **kw: Full(self, mode) if mode == "xb" else opened(self, mode, **kw)
    )
    with pytest.raises(OSError, match="No space left on device"):
        checkpoints.save(tmp_path, {"a": torch.zeros(10_000)})
    assert list(tmp_path.iterdir()) == []
