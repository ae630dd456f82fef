"""Fine-tuning from any backbone, a teacher that is a recipe, and the recipes of docs/student.md on a budget of seconds."""

import dataclasses
import json

import numpy as np
import pytest

import visionvitals
from visionvitals import registry, weight_files
from visionvitals.errors import VitalsError
from visionvitals.training.recipe import Recipe, load_recipe, recipes

torch = pytest.importorskip("torch")

STUDENT = ("tiny_texture_free", "tiny_shape_distill", "tiny_no_position", "tiny_teacher")
NOTHING = {"crop": 0, "flip": False, "jitter": 0.0}


def backbone(text: str):
    from visionvitals.plan.planner import load_backbone

    return load_backbone(text, device=torch.device("cpu"))


def begun(recipe: Recipe, classes: tuple[str, ...]):
    """The state dict of a recipe's network before its first step."""
    from visionvitals.core import ImageSetCard
    from visionvitals.training import network, start

    images = ImageSetCard(spec="s", digest="d", n=1, classes=classes, class_names=classes)
    found = start.load(recipe, images, report=lambda _: None)
    made, _ = network.make(recipe, outputs=len(classes), start=found)
    return made.state_dict()


@pytest.fixture(scope="module")
def shapes():
    return backbone("tiny:vit").card.classes


@pytest.mark.parametrize("name", STUDENT)
def test_before_the_first_step_the_weights_are_those_of_the_start(name, shapes) -> None:
    """Bit for bit; the second token is the class token once more, with its place and its classifier; no position where it is taken out."""
    recipe = load_recipe(name)
    given, found = backbone(recipe.start).module.state_dict(), begun(recipe, shapes)
    two, without = name == "tiny_shape_distill", name == "tiny_no_position"
    assert set(found) - set(given) == ({"dist_token", "head_dist.weight", "head_dist.bias"} if two else set())
    assert set(given) - set(found) == ({"pos_embed"} if without else set())
    same = (set(given) & set(found)) - ({"pos_embed"} if two else set())
    assert all(torch.equal(found[key], given[key]) for key in same)
    if two:
        assert torch.equal(found["dist_token"], given["cls_token"])
        assert torch.equal(found["head_dist.weight"], given["head.weight"])
        assert torch.equal(found["pos_embed"][:, 1:], given["pos_embed"])
        assert torch.equal(found["pos_embed"][:, 0], given["pos_embed"][:, 0])


def test_two_equal_tokens_give_one_answer(shapes) -> None:
    from visionvitals.backbones import tiny
    from visionvitals.inside import heads

    network = tiny.network("vit_distilled", num_classes=len(shapes)).eval()
    network.load_state_dict(begun(load_recipe("tiny_shape_distill"), shapes))
    first, second = heads.answers(network, torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(first, second)


def test_another_set_of_classes_gets_a_new_classifier_and_nothing_else() -> None:
    """Of as many classes too: outputs of other meaning are no start."""
    for recipe in (load_recipe("tiny_texture_free"), load_recipe("tiny_shape_distill")):
        given = backbone(recipe.start).module.state_dict()
        for n in (3, 16):
            found = begun(recipe, tuple(f"class {k}" for k in range(n)))
            new = {key for key in given if not torch.equal(given[key], found[key])} - {"pos_embed"}
            assert {"head.weight"} <= new <= {"head.weight", "head.bias"}
            assert all(found[key].shape[0] == n for key in found if key.startswith("head"))


def test_a_network_without_position_starts_one_without(shapes, tmp_path) -> None:
    from safetensors.torch import save_file

    from visionvitals.backbones import tiny

    recipe = load_recipe("tiny_no_position")
    state = {key: value.half().contiguous() for key, value in begun(recipe, shapes).items()}
    about = weight_files.read(tiny.WEIGHTS / "tiny_vit.safetensors").metadata | {"position": "none"}
    save_file(state, tmp_path / "w.safetensors", about)
    found = begun(dataclasses.replace(recipe, start=f"checkpoint:{tmp_path / 'w.safetensors'}"), shapes)
    assert all(torch.equal(value, state[key].to(value.dtype)) for key, value in found.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": "tiny:cnn"}, r"tiny:cnn does not fit `tiny:vit`.*missing: cls_token"),
        ({"model": "tiny:vit?model.depth=5"}, r"does not fit `tiny:vit\?model\.depth=5`.*unexpected: blocks\.5"),
        ({"mean": 0.4}, r"normalise pictures as what it starts from: `tiny:vit` has the mean \(0\.5"),
        ({"start": "tiny:vitt"}, "no network `tiny:vitt`. Did you mean vit"),
        ({"model": "tiny:vit@a.safetensors"}, "Name the weights to start from in `start`"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(changes, message, shapes) -> None:
    with pytest.raises(VitalsError, match=message):
        begun(dataclasses.replace(load_recipe("tiny_texture_free"), **changes), shapes)


def test_the_start_is_part_of_the_training(tmp_path, monkeypatch) -> None:
    from visionvitals.training import loop
    from visionvitals.training.data import Pictures

    noise = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), dtype=np.uint8)
    pictures = Pictures(pixels=noise, labels=np.arange(8) % 2, classes=("a", "b"), digest="d" * 64, spec="two")
    recipe = Recipe(name="x", model="tiny:cnn", train="a", test="b", epochs=1, batch=8, start="tiny:cnn", **NOTHING)
    loop.fit(recipe, pictures, pictures, out=tmp_path, report=lambda _: None)
    data = json.loads(weight_files.read(tmp_path / "weights.safetensors").metadata["data"])
    assert data.keys() == {"train", "test", "start"}
    assert len(data["start"]) == 64
    with pytest.raises(VitalsError, match="start is 'tiny:cnn' there and '' here"):
        loop.fit(dataclasses.replace(recipe, start=""), pictures, pictures, out=tmp_path, report=lambda _: None)
    other = loop.start.load(recipe, pictures.described(), report=lambda _: None)._replace(digest="e" * 64)
    monkeypatch.setattr(loop.start, "load", lambda *_, **__: other)
    with pytest.raises(VitalsError, match="digest of start is"):
        loop.fit(recipe, pictures, pictures, out=tmp_path, report=lambda _: None)


def test_what_is_learned_is_never_what_is_measured() -> None:
    """Of every recipe with image sets of its own; the splits have no picture in common (tests/unit/test_textured_shapes.py)."""
    own = [recipe for recipe in map(load_recipe, recipes()) if recipe.train]
    assert {recipe.name for recipe in own} >= {"tiny_vit", "tiny_cnn", *STUDENT}
    for recipe in own:
        train, test = (registry.parse(text, families=["shapes"]) for text in (recipe.train, recipe.test))
        assert (train.name, test.name) == ("train", "test")
        assert recipe.name not in STUDENT or int(train.options["n"]) <= 2000


def test_the_remedies_differ_from_their_counterparts_in_what_the_paper_changes() -> None:
    free, shape = load_recipe("tiny_texture_free"), load_recipe("tiny_shape_distill")
    assert not any((free.smoothing, free.crop, free.flip, free.jitter))
    assert "variant=random" in free.train
    assert "variant" not in shape.train
    differ = {
        name: {
            f.name for f in dataclasses.fields(Recipe) if getattr(load_recipe(name), f.name) != getattr(base, f.name)
        }
        for name, base in (("tiny_no_position", shape), ("tiny_teacher", free))
    }
    assert differ["tiny_no_position"] <= {"name", "model", "teacher", "distil", "epochs"}
    assert differ["tiny_teacher"] <= {"name", "model", "start", "epochs"}


@pytest.mark.parametrize("name", ["cnn", "tiny_shape_distill"])
def test_a_teacher_that_cannot_be_trained_by_itself_is_refused(name, tmp_path) -> None:
    """It has no image set, or would wait for itself."""
    from visionvitals.training import loop

    recipe = dataclasses.replace(load_recipe("tiny_shape_distill"), teacher=f"recipe:{name}")
    with pytest.raises(VitalsError, match=rf"image sets of its own.*Got '{name}'\. Train `{name}` by itself"):
        loop.train(recipe, out=tmp_path)


SECONDS = """
from dataclasses import replace
from visionvitals.training.recipes import tiny_teacher as whole
RECIPE = replace(whole.RECIPE, train="shapes:train?n=32&variant=random", test="shapes:test?n=16", epochs=1)
"""


def test_a_shape_token_is_trained_and_both_heads_are_audited(tmp_path) -> None:
    """In two steps: the recipe's teacher first, in the student's folder; again, and nothing is trained."""
    from visionvitals.training import loop

    (tmp_path / "seconds.py").write_text(SECONDS)
    small = {"train": "shapes:train?n=64", "test": "shapes:test?n=16", "epochs": 1}
    recipe = dataclasses.replace(load_recipe("tiny_shape_distill"), **small, teacher=f"recipe:{tmp_path}/seconds.py")
    said: list[str] = []
    path = loop.train(recipe, out=tmp_path / "shape", report=said.append)
    taught = tmp_path / "shape" / "teacher" / "weights.safetensors"
    ends = [line.partition(":")[0] for line in said if "done" in line]
    assert ends == ["tiny_teacher", "tiny_shape_distill"]
    about = weight_files.read(path).metadata
    assert json.loads(about["recipe"])["teacher"] == recipe.teacher, "where the folder lies is no part of the training"
    assert json.loads(about["data"])["teacher"] == backbone(f"checkpoint:{taught}").card.digest
    before = [weight_files.read(p).state for p in (path, taught)]
    (tmp_path / "shape").rename(tmp_path / "moved")
    path, taught = (tmp_path / "moved" / p.relative_to(tmp_path / "shape") for p in (path, taught))
    loop.train(recipe, out=tmp_path / "moved", report=lambda _: None)
    for was, now in zip(before, (path, taught), strict=True):
        assert all(torch.equal(value, weight_files.read(now).state[key]) for key, value in was.items())
    heads = [f"checkpoint:{path}?token={token}" for token in ("class", "shape")]
    run = visionvitals.audit(
        heads,
        data="shapes:test?n=32&variant=conflict",
        studies="clean,shape_bias",
        preset="quick",
        out=tmp_path / "run",
    )
    found = run.table()
    assert set(found["backbone"].to_pylist()) == set(heads)
    assert set(found["metric"].to_pylist()) >= {"top1", "shape_accuracy", "shape_choice"}


@pytest.mark.parametrize("name", ["tiny_texture_free", "tiny_no_position"])
def test_the_other_remedies_train(name, tmp_path) -> None:
    from visionvitals.training import loop

    variant = "&variant=random" if name == "tiny_texture_free" else ""
    small = {"train": f"shapes:train?n=64{variant}", "test": "shapes:test?n=16", "epochs": 1}
    path = loop.train(dataclasses.replace(load_recipe(name), **small), out=tmp_path, report=lambda _: None)
    start = backbone("tiny:vit").module.state_dict()
    moved = weight_files.read(path).state
    assert any(not torch.equal(moved[key].float(), start[key]) for key in moved if moved[key].is_floating_point())
    assert ("pos_embed" in moved) == (name != "tiny_no_position")
