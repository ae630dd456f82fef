"""Laws and known answers of what `lesion` puts in the place of tokens."""

import dataclasses
import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from measured import measured
from PIL import Image
from test_inside_studies import CNN, VIT, N, counted, images, job, load, values
from torch import Tensor

from visionvitals import randomness, study
from visionvitals.core import NO_IMAGES, Backbone, Cell, ImageSetCard
from visionvitals.errors import VitalsError
from visionvitals.job import Job
from visionvitals.perturb import lesion as perturb
from visionvitals.plan.identity import identity
from visionvitals.probes import tokens
from visionvitals.results import read
from visionvitals.run import parts
from visionvitals.run.memo import DiskMemos
from visionvitals.studies import _replacements, lesion

REGISTERS = (
    "timm:vit_small_patch14_reg4_dinov2?pretrained=false&size=32&model.patch_size=8&model.depth=3"
    "&model.embed_dim=24&model.num_heads=2&model.num_classes=7"
)
SET = ImageSetCard(spec="folder:x", digest="0", n=N, classes=("a",), class_names=("a",))
OTHERS = ("mean", "noise", "swap")
ALL = slice(None)
DATA = Path(os.environ.get("VISIONVITALS_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
DEIT = DATA / "weights" / "deit_tiny_patch16_224.safetensors"


@pytest.fixture(scope="module")
def vit() -> Backbone:
    return load(VIT)


@pytest.fixture(scope="module")
def registered() -> Backbone:
    return load(REGISTERS)


def control(**more: Any) -> lesion.Condition:
    return lesion.Condition(**({"ratio": 1.0} if more.get("which", "patches") != "patches" else {}) | more)


def clean(made: Job) -> list[float]:
    logits = made.backbone.logits(images(made))
    return torch.nn.functional.cross_entropy(logits, torch.as_tensor(made.labels), reduction="none").tolist()  # type: ignore[no-any-return]


def put(made: Job, place: int, which: slice = ALL) -> Tensor:
    """What the condition puts into each image at a place, (n, m, d)."""
    given = _replacements.given(made, tokens.layout(made.backbone), which)
    return torch.cat([given(batch, place) for batch in made.batches()])


def own(made: Job, place: int) -> Tensor:
    with torch.inference_mode():
        return _replacements.passing(made, tokens.layout(made.backbone), images(made), (place,))[1][place]


@pytest.mark.parametrize("replace", ["zero", *OTHERS])
@pytest.mark.parametrize(("which", "at"), list(itertools.product(["patches", "registers", "class"], ["one", "every"])))
def test_nothing_replaced_is_the_clean_answer(registered: Backbone, replace: Any, which: Any, at: Any) -> None:
    made = job(registered, lesion.Condition(ratio=0.0, replace=replace, which=which, at=at))
    found = values(lesion, made, "cross_entropy")
    expected = dict(zip(made.ids, clean(made), strict=True))
    assert {place for _, place in found} == ({(0,)} if at == "every" else {(1,), (2,), (3,)})
    assert all(value == pytest.approx(expected[item], abs=1e-5) for (item, _), value in found.items())
    if lesion.Condition(ratio=0.0) != made.condition:
        assert list(values(lesion, made, "token_cosine").values()) == pytest.approx([1.0] * len(found), abs=1e-6)


def test_the_default_is_what_it_always_was(vit: Backbone) -> None:
    """Its cells keep their identity, its rows their columns, its images are measured one by one."""
    condition = lesion.Condition(ratio=0.25, run=1)
    cell = Cell(study="lesion", version=1, condition=condition, backbone=vit.card, images=SET)
    assert identity(cell)["condition"] == {"ratio": 0.25, "run": 1}
    found = measured(lesion, job(vit, condition))
    assert "token_cosine" not in {metric for _, metric, _ in found}
    made = study.load("lesion")
    for preset in ("quick", "default", "paper"):
        for each in made.conditions(preset, (224, 224)):  # type: ignore[arg-type]
            assert made.splits(each)
            assert (each.replace, each.which, each.at, each.mean_over) == ("zero", "patches", "one", "place")
    assert parts.of(made, condition, 10_000) == [range(4096), range(4096, 8192), range(8192, 10_000)]


def test_cells_that_were_measured_before_there_were_controls_are_those_without() -> None:
    """So that charts and signs find them, and they stand beside new ones."""
    kept = {"ratio": 0.25, "blocks": [], "run": 3}
    now = {"ratio": 0.25, "blocks": (), "replace": "zero", "which": "patches", "at": "one", "mean_over": "place"}
    assert dict(read._condition(kept, study.load("lesion"))) == now
    assert dict(read._condition(now | {"run": 0}, study.load("lesion"))) == now
    assert dict(read._condition(kept, "a study that is no longer there")) == {"ratio": 0.25, "blocks": ()}


@pytest.mark.parametrize("replace", OTHERS)
def test_what_is_of_other_images_is_measured_whole(replace: Any) -> None:
    assert parts.of(study.load("lesion"), control(replace=replace), 10_000) == [range(10_000)]


def test_a_token_replaced_by_itself_stays() -> None:
    x = torch.randn(4, 7, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, False, True, False]] * 4)
    assert torch.equal(perturb.replace_tokens(x, mask, x[:, 2:6], start=2), x)
    other = perturb.replace_tokens(x, mask, -x[:, 2:6], start=2)
    assert torch.equal((other != x).any(dim=2), torch.tensor([[False, False, True, False, True, False, False]] * 4))
    with pytest.raises(VitalsError, match=r"`start` must leave 4 tokens. Got 4"):
        perturb.replace_tokens(x, mask, x[:, 3:7], start=4)


@pytest.mark.parametrize("replace", OTHERS)
def test_among_equal_images_every_replacement_is_clean(vit: Backbone, replace: Any) -> None:
    same = np.repeat(np.random.default_rng(3).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8), N, axis=0)
    for which, at in itertools.product(("patches", "class"), ("one", "every")):
        made = job(vit, control(replace=replace, which=which, at=at), pixels=same)
        expected = dict(zip(made.ids, clean(made), strict=True))
        for (item, _), value in values(lesion, made, "cross_entropy").items():
            assert value == pytest.approx(expected[item], abs=2e-4)


def test_noise_has_the_mean_and_the_variance_that_it_is_given() -> None:
    n, d = 400, 50
    keys = randomness.stream(0, [str(k) for k in range(n)], "noise")
    mean, variance = torch.full((n, 1, d), 3.0), torch.full((n, 1, d), 4.0)
    drawn = perturb.gaussian(keys, mean, variance).double()
    count = n * d
    assert abs(float(drawn.mean()) - 3) < 4 * 2 / count**0.5
    assert abs(float(drawn.var()) - 4) < 4 * 4 * (2 / count) ** 0.5
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(perturb.gaussian(keys[5:6], mean[:1], variance[:1]).double(), drawn[5:6])


def test_moments_are_those_of_the_other_half(vit: Backbone) -> None:
    made = job(vit, control(replace="mean"))
    side = _replacements.halves(made)
    assert sorted(side.tolist()) == [0, 0, 0, 1, 1, 1]
    kept = _replacements._moments(made, tokens.layout(vit), side)
    for place in range(4):
        x = own(made, place)
        for k, other in enumerate((side == 0, side == 1)):
            np.testing.assert_allclose(kept["mean"][k, place], x[other].mean(dim=0), atol=1e-5)
            np.testing.assert_allclose(kept["variance"][k, place], x[other].var(dim=0, correction=0), atol=1e-5)
        given = put(made, place)
        for k in range(N):
            np.testing.assert_allclose(given[k], x[side != side[k]].mean(dim=0), atol=1e-5)


def test_the_mean_leaves_what_a_linear_readout_says_of_the_set(vit: Backbone) -> None:
    """With two halves of one size; the class token at the last place, and any linear head."""
    made = job(vit, control(replace="mean", which="class", at="every"))
    head = torch.randn(24, 5, generator=torch.Generator().manual_seed(1))
    given, x = put(made, 3, slice(0, 1))[:, 0] @ head, own(made, 3)[:, 0] @ head
    torch.testing.assert_close(given.mean(dim=0), x.mean(dim=0), atol=1e-4, rtol=1e-4)


def test_over_all_places_patches_share_one_mean_and_variance(vit: Backbone) -> None:
    made = job(vit, control(replace="mean", mean_over="all"))
    side, x = _replacements.halves(made), own(made, 1)[:, 2:]
    given = put(made, 1, slice(2, 18))
    for k in range(N):
        expected = x[side != side[k]].flatten(0, 1).mean(dim=0).expand(16, -1)
        torch.testing.assert_close(given[k], expected, atol=1e-5, rtol=1e-5)
    many = torch.cat(
        [put(job(vit, control(replace="noise", mean_over="all", run=run)), 1, slice(2, 18)) for run in range(25)]
    )
    mine = many.view(25, N, 16, 24)[:, side == 0].flatten(0, 2)
    theirs = x[side == 1].flatten(0, 1)
    assert ((mine.mean(dim=0) - theirs.mean(dim=0)).abs() < 5 * theirs.std(dim=0) / len(mine) ** 0.5).all()
    assert (mine.var(dim=0) / theirs.var(dim=0, correction=0) - 1).abs().max() < 5 * (2 / len(mine)) ** 0.5


def test_nothing_of_an_image_is_put_into_itself(vit: Backbone) -> None:
    """Of two images each gets the other's tokens, by the mean and by a swap."""
    two = {"ids": ["a", "b"], "labels": np.array([0, 1])}
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    for replace in ("mean", "swap", "noise"):  # one image has no variance
        made = job(vit, control(replace=replace), pixels=pixels, **two)
        torch.testing.assert_close(put(made, 2), own(made, 2).flip(0), atol=1e-5, rtol=1e-5)


def test_copies_of_a_picture_are_on_one_side_and_count_once(vit: Backbone) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (N, 32, 32, 3), dtype=np.uint8)
    pixels[[3, 4, 5]] = pixels[0]
    copies = {"i3": "i0", "i4": "i0", "i5": "i0"}
    for seed in range(6):
        made = job(vit, control(replace="mean"), pixels=pixels, copies=copies, seed=seed)
        side = _replacements.halves(made)
        assert len(set(side[[0, 3, 4, 5]])) == 1
        assert {side[0], side[1], side[2]} == {0, 1}
        x, given = own(made, 0), put(made, 0)
        for k in range(N):
            rows = [row for row in range(3) if side[row] != side[k]]
            torch.testing.assert_close(given[k], x[rows].mean(dim=0), atol=1e-5, rtol=1e-5)
    with pytest.raises(VitalsError, match=r"Two different pictures are needed.*Got 1"):
        _replacements.halves(job(vit, control(replace="swap"), copies={f"i{k}": "i0" for k in range(1, N)}))


def test_a_partner_is_of_the_other_half_and_another_one_at_each_place(vit: Backbone) -> None:
    many = 40
    given = {"ids": [f"i{k}" for k in range(many)], "labels": np.arange(many) % 7}
    pixels = np.random.default_rng(0).integers(0, 256, (many, 32, 32, 3), dtype=np.uint8)
    made = job(vit, control(replace="swap"), pixels=pixels, **given)
    side, partners = _replacements.halves(made), []
    for place in (0, 1):
        x, of = own(made, place).flatten(1), put(made, place).flatten(1)
        partners.append(torch.cdist(of, x).argmin(dim=1))
        assert torch.allclose(of, x[partners[-1]], atol=1e-4)
        assert (side[partners[-1]] != side).all()
    assert (partners[0] != partners[1]).float().mean() > 0.8
    again = put(dataclasses.replace(made, condition=control(replace="swap", run=1)), 0).flatten(1)
    assert not torch.equal(again, put(made, 0).flatten(1))


CONTROLS = [
    *(control(replace=replace) for replace in OTHERS),
    *(control(replace=replace, which="class", at="every") for replace in ("zero", *OTHERS)),
    control(replace="noise", mean_over="all", at="every"),
    control(replace="swap", at="every"),
]


@pytest.mark.parametrize("condition", CONTROLS, ids=str)
def test_the_numbers_depend_neither_on_the_batch_nor_on_the_order(vit: Backbone, condition: Any) -> None:
    first = job(vit, condition, batch_size=64)
    whole = measured(lesion, first)
    assert {item for item, _, _ in whole} == set(first.ids), "every image is scored"
    order = np.array([4, 1, 5, 0, 3, 2])
    turned: dict[str, Any] = {
        "ids": [first.ids[k] for k in order],
        "pixels": first.pixels[order],
        "labels": np.asarray(first.labels)[order],
    }
    for more in ({"batch_size": 1}, {"batch_size": 4}, turned):
        found = measured(lesion, job(vit, condition, **more))
        assert found.keys() == whole.keys()
        assert all(found[key] == pytest.approx(whole[key], abs=1e-5) for key in whole)


def test_a_class_token_that_is_gone_everywhere_leaves_one_answer(vit: Backbone, registered: Backbone) -> None:
    """What leaves the last block is replaced too: the head reads zero, or one mean for each half."""
    made = job(registered, control(which="class", at="every"))
    module: Any = registered.module
    with torch.inference_mode():
        logits = module.head(module.fc_norm(module.norm(torch.zeros(1, 1, 24))[:, 0])).expand(N, -1)
    expected = torch.nn.functional.cross_entropy(logits, torch.as_tensor(made.labels), reduction="none")
    assert list(values(lesion, made, "cross_entropy").values()) == pytest.approx(expected.tolist(), abs=1e-5)
    means = job(registered, control(which="class", at="every", replace="mean"), labels=np.zeros(N, dtype=np.int64))
    side = _replacements.halves(means)
    found = np.array(list(values(lesion, means, "cross_entropy").values()))
    assert all(np.ptp(found[side == s]) < 1e-5 for s in (0, 1))
    assert abs(found[side == 0][0] - found[side == 1][0]) > 1e-6


def test_registers_are_replaced_and_nothing_else(registered: Backbone) -> None:
    card, where = registered.card, tokens.layout(registered)
    assert (card.prefix_tokens, card.registers, where.prefix) == (5, 4, 5)
    x = torch.ones(2, 21, 3)
    for which, gone in (("registers", range(1, 5)), ("class", range(1))):
        c = control(which=which)
        out = lesion._cut(c, where, lesion._span(c, card, where), torch.zeros(2, dtype=torch.int64), None, x)
        assert [k for k in range(21) if not out[0, k].any()] == list(gone)


def test_zeroed_tokens_have_nothing_in_common_with_what_they_were(vit: Backbone) -> None:
    """9 of 16 patches leave the last block as zeros; the others have changed."""
    found = values(lesion, job(vit, control(at="every")), "token_cosine")
    assert len(found) == N
    assert all(0 < value <= 7 / 16 + 1e-6 for value in found.values())


@pytest.mark.parametrize(
    ("condition", "three_blocks", "twelve"),
    [
        (control(), 3, 12),
        (control(replace="mean"), 5, 14),  # moments, clean, each block
        (control(replace="swap"), 7, 25),  # clean, and two for each block
        (control(which="class", at="every"), 2, 2),
        (control(which="class", at="every", replace="noise"), 3, 3),
        (control(which="class", at="every", replace="swap"), 5, 14),
    ],
)
def test_passes_are_as_many_as_are_announced(vit: Backbone, condition: Any, three_blocks: int, twelve: int) -> None:
    backbone, seen = counted(vit)
    list(lesion.measure(job(backbone, condition)))
    assert sum(seen) == three_blocks * N
    assert lesion.passes(condition) == twelve


@pytest.mark.parametrize("condition", [CONTROLS[0], CONTROLS[1]], ids=str)
def test_what_the_cache_holds_changes_no_number(vit: Backbone, condition: Any) -> None:
    """Also where it holds what another seed has left, by which other images are on the other side."""
    expected = measured(lesion, job(vit, condition))
    memos = DiskMemos()
    measured(lesion, job(vit, condition, memos=memos, seed=1))
    for _ in range(2):
        assert measured(lesion, job(vit, condition, memos=memos)) == expected


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (control(which="registers"), "has no registers among its 2 prefix tokens"),
        (
            lesion.Condition(which="class"),
            "`which = class` takes all of these tokens: `ratio` must be 1 (or 0), not 0.5",
        ),
        (control(at="every", blocks=(1,)), "`at = every` takes all blocks, so that `blocks` must be empty"),
        (control(mean_over="all"), "`mean_over = all` needs the mean or noise of patches"),
        (
            control(mean_over="all", which="class", replace="mean"),
            "`mean_over = all` needs the mean or noise of patches",
        ),
        (lesion.Condition(ratio=1.0, replace="mean"), "would replace 18 of 16 patch tokens"),
    ],
)
def test_what_cannot_be_replaced_is_refused_with_the_reason(vit: Backbone, condition: Any, reason: str) -> None:
    assert reason in (lesion.refusal(condition, vit.card, SET) or "")


def test_another_image_and_a_class_token_are_needed(vit: Backbone, registered: Backbone) -> None:
    one = dataclasses.replace(SET, n=1)
    assert lesion.refusal(control(), vit.card, one) is None
    for replace in OTHERS:
        condition = control(replace=replace)
        assert lesion.refusal(condition, vit.card, SET) is None
        assert lesion.refusal(condition, vit.card, one) == f"`replace = {replace}` needs another image; the set has 1"
    bare = dataclasses.replace(registered.card, prefix_tokens=4)
    assert "has no class token among its 4 prefix tokens" in (lesion.refusal(control(which="class"), bare, SET) or "")
    late = dataclasses.replace(vit.card, late_prefix=True)
    assert "join after its blocks" in (lesion.refusal(control(which="class"), late, SET) or "")
    assert lesion.refusal(control(), late, SET) is None


def test_feature_maps_can_only_be_zeroed() -> None:
    cnn = load(CNN)
    for condition in (control(replace="mean"), control(which="class")):
        said = lesion.refusal(condition, cnn.card, NO_IMAGES) or ""
        assert said.startswith("test_resnet has feature maps, in which places can only be zeroed")
    assert lesion.refusal(control(at="every"), cnn.card, NO_IMAGES) is None
    nothing, much = (values(lesion, job(cnn, control(at="every", ratio=ratio)), "token_cosine") for ratio in (0.0, 0.5))
    assert list(nothing.values()) == pytest.approx([1.0] * N)
    assert all(value < 0.9 for value in much.values())


@pytest.mark.parametrize("name", ["replace", "which", "at", "mean_over"])
def test_an_unknown_word_is_refused(name: str) -> None:
    with pytest.raises(VitalsError, match=f"`{name}` must be one of .*Got 'median'"):
        lesion.Condition(**{name: "median"})


@pytest.mark.real
@pytest.mark.skipif(not DEIT.is_file(), reason="VISIONVITALS_REAL_DATA names no folder")
def test_deit_tiny_reads_the_content_of_its_class_token() -> None:
    """At every block, the mean of other images leaves nothing of the answer, as a zero does; a swap of one late block leaves the other's."""
    folders = sorted(folder for folder in (DATA / "imagenet_sample").iterdir() if folder.is_dir())[::30][:8]
    backbone = load(f"timm:deit_tiny_patch16_224@{DEIT}")
    assert backbone.card.classes is not None
    pictures = [Image.open(min(folder.iterdir())).convert("RGB").resize((224, 224)) for folder in folders]
    given = {
        "ids": [folder.name for folder in folders],
        "pixels": np.stack([np.asarray(picture) for picture in pictures]),
        "labels": np.array([backbone.card.classes.index(folder.name) for folder in folders]),
    }

    def right(condition: lesion.Condition) -> float:
        return float(np.mean(list(values(lesion, job(backbone, condition, **given), "top1").values())))

    assert right(lesion.Condition(ratio=0.0, blocks=(1,))) > 0.5
    for replace in ("zero", "mean"):
        assert right(control(which="class", at="every", replace=replace)) < 0.2
    assert right(control(which="class", blocks=(1,), replace="swap")) > 0.5, "the first class token is the same for all"
