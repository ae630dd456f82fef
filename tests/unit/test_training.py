"""Training: exact resume, the schedule, the recipes, what a training leaves behind, and the embedded networks."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from visionvitals import registry, weight_files
from visionvitals.errors import VitalsError
from visionvitals.training.recipe import Recipe, learning_rate, load_recipe, override, recipes

torch = pytest.importorskip("torch")

SMALL = "?model.embed_dim=16&model.depth=1&model.num_heads=2&model.proj_drop_rate=0.1&model.pos_drop_rate=0.1"
RECIPE = Recipe(name="small", model=f"tiny:vit{SMALL}", train="a", test="b", epochs=2, batch=8, lr=3e-3, seed=3)


@pytest.fixture(scope="module")
def loop():
    from visionvitals.training import loop

    return loop


@pytest.fixture(scope="module")
def pictures():
    """Reddish and bluish noise: two classes that a few steps can tell apart."""
    from visionvitals.training.data import Pictures

    noise = np.random.default_rng(0).integers(0, 120, (40, 64, 64, 3), dtype=np.uint8)
    labels = np.arange(40, dtype=np.int64) % 2
    noise[labels == 0, ..., 0] += 120
    noise[labels == 1, ..., 2] += 120
    return Pictures(pixels=noise, labels=labels, classes=("red", "blue"), digest="d" * 64, spec="two")


def weights(folder: Path):
    return weight_files.read(folder / "weights.safetensors").state


class Killed(BaseException):
    """Stands for kill -9: nothing in the loop may catch it."""


def stopped_after(loop, monkeypatch, steps: int):
    """Make the loop die at the start of a step, with a checkpoint after every step before it."""
    done = iter(range(steps))
    real = loop.data.batch

    def batch(*arguments):
        if next(done, None) is None:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(loop.data, "batch", batch)
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0)


@pytest.mark.parametrize("steps", [3, 5, 7])
def test_a_resumed_training_equals_the_uninterrupted_one(loop, pictures, tmp_path, monkeypatch, steps) -> None:
    """Five steps make an epoch here: in its middle, at its end, in the next one. Dropout and augmentation included."""
    loop.fit(RECIPE, pictures, pictures, out=tmp_path / "whole", report=lambda _: None)
    with monkeypatch.context() as patch:
        stopped_after(loop, patch, steps)
        with pytest.raises(Killed):
            loop.fit(RECIPE, pictures, pictures, out=tmp_path / "cut", report=lambda _: None)
    said: list[str] = []
    loop.fit(RECIPE, pictures, pictures, out=tmp_path / "cut", report=said.append)
    assert said[0] == f"small: going on from step {steps}"
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    metrics = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "cut")]
    assert metrics[0] == metrics[1]
    assert [json.loads(line)["epoch"] for line in metrics[0].splitlines()] == [1, 2]


def test_a_finished_training_is_not_repeated(loop, pictures, tmp_path) -> None:
    first = loop.fit(RECIPE, pictures, pictures, out=tmp_path, report=lambda _: None)
    before = weights(tmp_path)
    said: list[str] = []
    assert loop.fit(RECIPE, pictures, pictures, out=tmp_path, report=said.append) == first
    assert said == ["small: complete, 10 steps: nothing is left to do"]
    assert all(torch.equal(before[key], value) for key, value in weights(tmp_path).items())


def test_another_recipe_in_the_same_folder_is_refused(loop, pictures, tmp_path) -> None:
    loop.fit(RECIPE, pictures, pictures, out=tmp_path, report=lambda _: None)
    other = dataclasses.replace(RECIPE, lr=1e-3)
    with pytest.raises(VitalsError, match=r"another training: lr is 0\.003 there and 0\.001 here"):
        loop.fit(other, pictures, pictures, out=tmp_path)
    with pytest.raises(VitalsError, match="digest of test is"):
        loop.fit(RECIPE, pictures, dataclasses.replace(pictures, digest="e" * 64), out=tmp_path)
    loop.fit(other, pictures, pictures, out=tmp_path, resume=False, report=lambda _: None)


def test_it_learns_and_leaves_the_callers_generator_alone(loop, pictures, tmp_path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=8, ema=0.8, flip=False)
    state = torch.get_rng_state()
    loop.fit(recipe, pictures, pictures, out=tmp_path, report=lambda _: None)
    assert torch.equal(state, torch.get_rng_state())
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["top1"] == 1.0


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(loop, pictures, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0)
    real = loop.data.batch

    def batch(learn, indices, recipe, epoch):
        images, labels = real(learn, indices, recipe, epoch)
        return (images * math.nan if epoch == 1 else images), labels

    monkeypatch.setattr(loop.data, "batch", batch)
    with pytest.raises(VitalsError, match=r"must be finite\. Got nan in epoch 2, step 6") as error:
        loop.fit(RECIPE, pictures, pictures, out=tmp_path, report=lambda _: None)
    assert f"kept in {tmp_path}" in str(error.value)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 5
    assert all(value.isfinite().all() for value in state["model"].values())
    assert all(value.isfinite().all() for value in weights(tmp_path).values())


def test_pictures_without_finite_logits_are_not_right(pictures) -> None:
    """The highest of NaN is class 0, the label of half of them."""
    from visionvitals.training import distributed, measure

    class Network(torch.nn.Module):
        def __init__(self, lost: int) -> None:
            super().__init__()
            self.lost = lost

        def forward(self, images):
            out = torch.tensor([1.0, 0.0]).repeat(len(images), 1)
            out[: self.lost] = torch.nan
            return out

    many = dataclasses.replace(
        pictures, pixels=np.tile(pictures.pixels, (5, 1, 1, 1)), labels=np.tile(pictures.labels, 5)
    )
    team = distributed.join("cpu")
    assert int(measure.right(Network(0), many, RECIPE, team)["top1"].sum()) == 100
    assert int(measure.right(Network(1), many, RECIPE, team)["top1"].sum()) == 98, "one in each of two passes"
    with pytest.raises(VitalsError, match=r"no finite logits. Got '6 of 200'"):
        measure.right(Network(3), many, RECIPE, team)


def test_a_damaged_checkpoint_is_named(loop, pictures, tmp_path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\3\4 cut")
    with pytest.raises(VitalsError, match=r"checkpoint\.pt is not a whole checkpoint"):
        loop.fit(RECIPE, pictures, pictures, out=tmp_path)


def test_too_few_pictures_and_other_classes_are_refused(loop, pictures, tmp_path) -> None:
    with pytest.raises(VitalsError, match="at least one batch of 64 pictures"):
        loop.fit(dataclasses.replace(RECIPE, batch=64), pictures, pictures, out=tmp_path)
    with pytest.raises(VitalsError, match="must have the same classes"):
        loop.fit(RECIPE, pictures, dataclasses.replace(pictures, classes=("a", "b")), out=tmp_path)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("tiny:vitt", "no network `tiny:vitt`. Did you mean vit"),
        ("tiny:vit?embed_dim=8", "has no option `embed_dim`"),
        ("tiny:vit?model.embed_dimm=8", "cannot be made.*embed_dimm"),
        ("tiny:vit@a.safetensors", "without `@`"),
        ("hf:x", "known family"),
    ],
)
def test_a_wrong_model_is_refused_before_anything_is_decoded(loop, model, message, tmp_path) -> None:
    with pytest.raises(VitalsError, match=message):
        loop.train(dataclasses.replace(RECIPE, model=model), out=tmp_path)


def test_the_weights_file_says_what_it_is_and_loads_as_a_backbone(loop, pictures, tmp_path) -> None:

    path = loop.fit(RECIPE, pictures, pictures, out=tmp_path, report=lambda _: None)
    said = weight_files.read(path).metadata
    assert said["arch"] == "tiny:vit"
    assert json.loads(said["classes"]) == ["red", "blue"]
    assert Recipe(**json.loads(said["recipe"])) == RECIPE
    assert json.loads(said["data"]) == {"train": "d" * 64, "test": "d" * 64}
    assert json.loads(said["metrics"]) == json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert {value.dtype for value in weight_files.read(path).state.values()} == {torch.float16, torch.int64}
    average = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["average"]
    for text in (f"tiny:vit@{path}", f"checkpoint:{path}"):
        spec = registry.parse(text, families=["tiny", "checkpoint"])
        backbone = registry.load("backbones", spec.family).load(spec, device=torch.device("cpu"))
        assert backbone.card.classes == ("red", "blue")
        assert backbone.card.preprocess.size == (64, 64)
        assert backbone.card.preprocess.resize is None
        assert all(
            torch.equal(value, average[key].half().float()) for key, value in backbone.module.state_dict().items()
        )


def test_the_average_follows_its_equation(loop, pictures, tmp_path, monkeypatch) -> None:
    """average_t = d_t average_(t-1) + (1 - d_t) weights_t, d_t = min(ema, 1 - t^(-2/3)), counted from 0 at the first step."""
    from visionvitals.training import state

    seen: list[torch.Tensor] = []
    real = state.ModelEmaV3

    def watched(*arguments, **options):
        average = real(*arguments, **options)
        update = average.update
        average.update = lambda module, step: (seen.append(module.head.weight.detach().clone()), update(module, step))
        return average

    monkeypatch.setattr(state, "ModelEmaV3", watched)
    recipe = dataclasses.replace(RECIPE, epochs=1, ema=0.5)
    loop.fit(recipe, pictures, pictures, out=tmp_path, report=lambda _: None)
    expected = seen[0]
    for t, value in enumerate(seen[1:], start=1):
        decay = min(0.5, 1 - (1 + t) ** (-2 / 3))
        expected = decay * expected + (1 - decay) * value
    average = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["average"]["head.weight"]
    torch.testing.assert_close(average, expected, rtol=1e-6, atol=1e-8)


def test_only_matrices_and_kernels_decay(loop) -> None:
    from visionvitals.training import state

    module, _ = loop.network.make(RECIPE, outputs=2)
    groups = state.create_optimizer_v2(module, opt="adamw", lr=1e-3, weight_decay=0.05).param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] > 0 for p in group["params"]}
    names = {name for name, p in module.named_parameters() if id(p) in decayed}
    assert names == {n for n, p in module.named_parameters() if p.ndim > 1 and n not in ("pos_embed", "cls_token")}


def test_augmentation_belongs_to_the_picture_and_the_epoch(pictures) -> None:
    from visionvitals.training.data import batch, order

    every = np.arange(40)
    together, labels = batch(pictures, every, RECIPE, 0)
    backwards, _ = batch(pictures, every[::-1].copy(), RECIPE, 0)
    assert torch.equal(together, backwards.flip(0))
    assert torch.equal(labels, torch.from_numpy(pictures.labels))
    assert not torch.equal(together, batch(pictures, every, RECIPE, 1)[0])
    assert 0 <= together.min() <= together.max() <= 1
    assert sorted(order(RECIPE, 0, 40)) == list(range(40))
    assert list(order(RECIPE, 0, 40)) != list(order(RECIPE, 1, 40))


def test_augmentation_turned_off_is_the_identity(pictures) -> None:
    from visionvitals.training.data import batch

    plain = dataclasses.replace(RECIPE, crop=0, flip=False, jitter=0.0)
    images, _ = batch(pictures, np.arange(5), plain, 0)
    assert torch.equal(images, torch.from_numpy(pictures.pixels[:5]).permute(0, 3, 1, 2) / 255)


def test_shifts_and_flips_are_those_of_the_picture(pictures) -> None:
    """Each augmented picture is one of the 2 x 9 x 9 crops of its mirrored extension, and all kinds occur."""
    from visionvitals.training.data import batch

    images, _ = batch(pictures, np.arange(40), dataclasses.replace(RECIPE, jitter=0.0), 0)
    seen = set()
    for picture, image in zip(pictures.pixels, images, strict=True):
        wide = np.pad(picture, ((4, 4), (4, 4), (0, 0)), mode="reflect")
        got = (image.permute(1, 2, 0) * 255).round().byte().numpy()
        at = [
            (dy, dx, flip)
            for dy in range(9)
            for dx in range(9)
            for flip in (False, True)
            if np.array_equal(got, wide[dy : dy + 64, dx : dx + 64][:, :: -1 if flip else 1])
        ]
        assert len(at) == 1
        seen |= set(at)
    assert {flip for *_, flip in seen} == {False, True}
    assert {dy for dy, *_ in seen} == {dx for _, dx, _ in seen} == set(range(9))


def test_learning_rate_at_known_steps() -> None:
    recipe = dataclasses.replace(RECIPE, lr=1.0, min_lr=0.1, warmup=0.1)
    rates = [learning_rate(recipe, step, 101) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)  # ten steps of warm-up
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.55)  # half way from 10 to 100
    assert rates[100] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert learning_rate(dataclasses.replace(recipe, warmup=0.0), 0, 1) == 1.0


def test_every_recipe_reads() -> None:
    assert {"tiny_cnn", "tiny_vit"} <= set(recipes())
    for name in recipes():
        assert load_recipe(name).name == name


def test_the_pair_differs_in_the_network_and_the_epochs_alone() -> None:
    """Same pictures, same optimiser; the transformer learns more slowly and has more epochs, which the recipes say."""
    vit, cnn = dataclasses.asdict(load_recipe("tiny_vit")), dataclasses.asdict(load_recipe("tiny_cnn"))
    assert {key for key in vit if vit[key] != cnn[key]} == {"name", "model", "epochs"}


def test_an_unknown_recipe_lists_near_names(tmp_path) -> None:
    with pytest.raises(VitalsError, match=r"tiny_vitt`\. Did you mean tiny_vit"):
        load_recipe("tiny_vitt")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(VitalsError, match="must set `RECIPE"):
        load_recipe(str(tmp_path / "empty.py"))


def test_override_reads_each_field_as_its_type() -> None:
    changed = override(RECIPE, {"epochs": "3", "lr": "2e-4", "flip": "False", "train": "folder:x", "ema": "0"})
    assert (changed.epochs, changed.lr, changed.flip, changed.train, changed.ema) == (3, 2e-4, False, "folder:x", 0.0)
    assert override(RECIPE, {}) == RECIPE


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epoch", "3", "no field `epoch`. Did you mean epochs"),
        ("epochs", "3.5", "`epochs` must be a whole number. Got '3.5'"),
        ("epochs", "0", "`epochs` must be at least 1"),
        ("lr", "fast", "`lr` must be a number"),
        ("lr", "nan", "`lr` must be a finite number"),
        ("min_lr", "1", "`min_lr` must not be above `lr`"),
        ("flip", "no", "`flip` must be `true` or `false`"),
        ("warmup", "1", r"`warmup` must be in \[0, 1\)"),
        ("crop", "64", r"`crop` must be in \[0, size\)"),
    ],
)
def test_override_refuses(key, value, message) -> None:
    with pytest.raises(VitalsError, match=message):
        override(RECIPE, {key: value})


@pytest.fixture(scope="module")
def embedded():
    from visionvitals.backbones import tiny

    specs = [registry.parse(text, families=["tiny"]) for text in tiny.EXAMPLES]
    return {spec.name: tiny.load(spec, device=torch.device("cpu")) for spec in specs}


@pytest.fixture(scope="module")
def shapes():
    """The first 200 test pictures at the recipes' size, decoded as an audit does."""
    from visionvitals.datasets.base.decode import decode
    from visionvitals.training.data import preprocess

    spec = registry.parse("shapes:test?n=200", families=["shapes"])
    images = registry.load("datasets", "shapes").open(spec)
    how = preprocess(load_recipe("tiny_vit"))
    examples = [images[i] for i in range(200)]
    pixels = np.stack([decode(example.image, how) for example in examples])
    labels = torch.tensor([example.label for example in examples])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255, labels


@pytest.mark.parametrize("name", ["vit", "cnn"])
def test_the_embedded_networks_are_small(embedded, name) -> None:
    from visionvitals.backbones import tiny
    from visionvitals.datasets.shapes import SHAPES

    card = embedded[name].card
    assert card.parameters < 2_000_000
    assert (tiny.WEIGHTS / f"tiny_{name}.safetensors").stat().st_size < 4_000_000
    assert card.classes == SHAPES
    assert card.outputs == len(SHAPES)
    assert card.preprocess.size == (64, 64)
    assert "features" in card.provides


def test_the_pair_is_of_about_equal_size(embedded) -> None:
    ratio = embedded["vit"].card.parameters / embedded["cnn"].card.parameters
    assert 0.9 < ratio < 1.1


@pytest.mark.parametrize("name", ["vit", "cnn"])
def test_the_embedded_weights_are_those_of_the_recipe(embedded, name) -> None:
    from visionvitals.backbones import tiny

    said = weight_files.read(tiny.WEIGHTS / f"tiny_{name}.safetensors").metadata
    recipe = load_recipe(f"tiny_{name}")
    assert Recipe(**json.loads(said["recipe"])) == recipe
    assert json.loads(said["metrics"])["epoch"] == recipe.epochs


def test_all_tokens_visible_is_the_plain_forward_pass(embedded, shapes) -> None:
    images = shapes[0][:8]
    everything = torch.ones(8, 64, dtype=torch.bool)
    vit = embedded["vit"]
    assert vit.card.patch_grid == (8, 8)
    torch.testing.assert_close(vit.visible_logits(images, everything), vit.logits(images), rtol=1e-5, atol=1e-5)
    assert embedded["cnn"].visible_logits is None


def test_a_removed_token_takes_all_of_its_pixels_with_it(embedded, shapes) -> None:
    """The stem sees one patch at a time: what stands in removed patches does not matter, what stands in visible ones does."""
    images = shapes[0][:4]
    visible = torch.rand(4, 64, generator=torch.Generator().manual_seed(0)).argsort(dim=1) < 24
    pixels = visible.view(4, 1, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    logits = embedded["vit"].visible_logits
    assert torch.equal(logits(torch.where(pixels, images, 1 - images), visible), logits(images, visible))
    assert not torch.allclose(logits(torch.where(pixels, 1 - images, images), visible), logits(images, visible))


def test_unknown_tiny_networks_and_options_are_refused() -> None:
    from visionvitals.backbones import tiny

    for text, message in (
        ("tiny:vitt", "no network `tiny:vitt`. Did you mean vit"),
        ("tiny:vit?size=32", "has no option `size`"),
        ("tiny:vit@nowhere.safetensors", "no weights file nowhere.safetensors"),
        (f"tiny:vit@{tiny.WEIGHTS / 'tiny_cnn.safetensors'}", "needs a weights file of `tiny:vit`.* Got 'tiny:cnn'"),
    ):
        with pytest.raises(VitalsError, match=message):
            tiny.load(registry.parse(text, families=["tiny"]), device=torch.device("cpu"))
