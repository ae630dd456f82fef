"""Studies that look inside: known answers, one pass over the images, and reasons where they cannot be."""

import dataclasses
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from measured import measured
from torch import Tensor

from visionvitals import randomness, registry
from visionvitals import study as kit
from visionvitals.core import NO_IMAGES, Backbone, ImageSetCard
from visionvitals.errors import VitalsError
from visionvitals.job import Job
from visionvitals.perturb import lesion as perturb
from visionvitals.perturb import patches
from visionvitals.probes import attention as probe
from visionvitals.studies import _maps, _superclasses, attention, correlation, depth, lesion, tokens

SIZE, N = (32, 32), 6
VIT = (
    "timm:deit_tiny_distilled_patch16_224?pretrained=false&model.img_size=32&model.patch_size=8&model.depth=3"
    "&model.embed_dim=24&model.num_heads=2&model.num_classes=7"
)
CNN = "timm:test_resnet?pretrained=false&size=32&model.num_classes=7"


def load(text: str) -> Backbone:
    spec = registry.parse(text, families=registry.names("backbones"))
    found = registry.load("backbones", spec.family).load(spec, device=torch.device("cpu"))
    assert isinstance(found, Backbone)
    return found


@pytest.fixture(scope="module")
def vit() -> Backbone:
    return load(VIT)


@pytest.fixture(scope="module")
def cnn() -> Backbone:
    return load(CNN)


def job(backbone: Backbone, condition: Any, **more: Any) -> Job:
    given: dict[str, Any] = {
        "ids": [f"i{k}" for k in range(N)],
        "pixels": np.random.default_rng(0).integers(0, 256, (N, *SIZE, 3), dtype=np.uint8),
        "labels": np.arange(N) % 7,
        "batch_size": 4,
    }
    return Job(backbone=backbone, condition=condition, **(given | more))


def images(made: Job) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(made.pixels)).permute(0, 3, 1, 2) / 255


def values(study: ModuleType, made: Job, metric: str) -> dict[tuple[str, tuple[Any, ...]], float]:
    return {(item, at): value for (item, name, at), value in measured(study, made).items() if name == metric}


def counted(backbone: Backbone) -> tuple[Backbone, list[int]]:
    """The backbone, and how many images each of its forward passes had."""
    passes: list[int] = []

    def logits(x: Tensor) -> Tensor:
        passes.append(len(x))
        return backbone.logits(x)

    return dataclasses.replace(backbone, logits=logits), passes


# --- lesion


def test_nothing_cut_is_the_clean_answer_at_every_block(vit: Backbone, cnn: Backbone) -> None:
    for backbone, places in ((vit, 3), (cnn, cnn.card.blocks + 1)):
        made = job(backbone, lesion.Condition(ratio=0.0))
        found = values(lesion, made, "cross_entropy")
        clean = torch.nn.functional.cross_entropy(backbone.logits(images(made)), torch.arange(N) % 7, reduction="none")
        assert {at for _, at in found} == {(b,) for b in range(1, places + 1)}
        for (item, _), value in found.items():
            assert value == pytest.approx(float(clean[int(item[1:])]), abs=1e-5)


def test_the_first_block_is_cut_as_by_hand(vit: Backbone) -> None:
    """Known answer 5: int(r * T) of the patch tokens are zeroed, T with the prefix tokens, which stay."""
    made = job(vit, lesion.Condition(ratio=0.5, blocks=(1,)))
    module: Any = vit.module
    p = vit.card.preprocess
    x = (images(made) - torch.tensor(p.mean).view(3, 1, 1)) / torch.tensor(p.std).view(3, 1, 1)
    dropped = perturb.token_mask(randomness.stream(0, made.ids, "lesion/run=0"), 16, 9)  # int(0.5 * 18)
    sequence = module._pos_embed(module.patch_embed(x)).clone()
    sequence[:, 2:][dropped] = 0
    logits = module.forward_head(module.norm(module.blocks(sequence)))
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(N) % 7, reduction="none")
    found = values(lesion, made, "cross_entropy")
    assert [found[i, (1,)] for i in made.ids] == pytest.approx(expected.tolist(), abs=1e-5)


def test_the_pool_reads_what_is_left_of_the_last_stage(cnn: Backbone) -> None:
    """With everything zeroed before the pool, the logits are the classifier's bias."""
    made = job(cnn, lesion.Condition(ratio=1.0, blocks=(cnn.card.blocks + 1,)))
    bias = cnn.module.fc.bias  # type: ignore[union-attr]
    assert isinstance(bias, Tensor)
    expected = torch.nn.functional.cross_entropy(bias.expand(N, -1), torch.arange(N) % 7, reduction="none")
    assert list(values(lesion, made, "cross_entropy").values()) == pytest.approx(expected.tolist(), abs=1e-5)


def test_the_worst_block_is_the_lowest_mean_over_blocks() -> None:
    (sign,) = kit.load("lesion").signs
    assert (sign.kind, sign.x, sign.metric, sign.index) == ("lowest", "block", "top1", None)


def test_blocks_that_are_not_there_are_left_out_and_named_where_none_is(vit: Backbone) -> None:
    found = values(lesion, job(vit, lesion.Condition(blocks=(2, 99))), "top1")
    assert {at for _, at in found} == {(2,)}
    said = lesion.refusal(lesion.Condition(blocks=(99,)), vit.card, NO_IMAGES)
    assert said == "deit_tiny_distilled_patch16_224 has blocks 1 to 3; `blocks` asks for (99,)"
    assert "would zero 18 of 16 patch tokens" in (
        lesion.refusal(lesion.Condition(ratio=1.0), vit.card, NO_IMAGES) or ""
    )


# --- correlation


def test_an_unchanged_image_correlates_with_itself(vit: Backbone, cnn: Backbone) -> None:
    """Known answer 9."""
    for backbone in (vit, cnn):
        made = job(backbone, correlation.Condition(fraction=0.0, grid=(4, 4)))
        found = values(correlation, made, "correlation")
        assert {at[1] for _, at in found} == {"A", "B", "C"}
        for (_, (_, definition, _)), value in found.items():
            if definition != "B":
                assert value == pytest.approx(1, abs=1e-5)
        for block in {at[0] for _, at in found}:  # B of one image is not bounded, its mean over the set is 1
            whole = [v for (_, at), v in found.items() if at == (block, "B", "all")]
            assert np.mean(whole) == pytest.approx(1, abs=1e-5)


def test_the_last_place_is_what_the_head_reads(vit: Backbone) -> None:
    """All three definitions against numpy, on the class token after the final norm."""
    made = job(vit, correlation.Condition(fraction=0.5, grid=(4, 4)))
    drop = patches.random_drop(randomness.stream(0, made.ids, "occlusion/run=0"), 16, 8)
    changed = images(made) * ~patches.to_pixels(drop, (4, 4), SIZE)
    module: Any = vit.module
    p = vit.card.preprocess
    mean, std = torch.tensor(p.mean).view(3, 1, 1), torch.tensor(p.std).view(3, 1, 1)
    u, v = (module.forward_features((x - mean) / std)[:, 0].double().numpy() for x in (images(made), changed))
    a = [np.corrcoef(x, y)[0, 1] for x, y in zip(u, v, strict=True)]
    b = (((u - u.mean(0)) / u.std(0)) * ((v - v.mean(0)) / v.std(0))).mean(axis=1)
    c = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(u, v, strict=True)]
    found = values(correlation, made, "correlation")
    for name, expected in (("A", a), ("B", b), ("C", c)):
        assert [found[i, (4, name, "all")] for i in made.ids] == pytest.approx(list(expected), abs=1e-4)


def test_it_shows_what_occlusion_shows(vit: Backbone) -> None:
    kept: dict[str, Tensor] = {}
    condition = correlation.Condition(fraction=0.3, grid=(4, 4), run=2)
    made = job(vit, condition, seed=5, exhibits=frozenset({"i0", "i5"}), keep=kept.__setitem__)
    list(correlation.measure(made))
    drop = patches.random_drop(randomness.stream(5, made.ids, "occlusion/run=2"), 16, 4)
    changed = images(made) * ~patches.to_pixels(drop, (4, 4), SIZE)
    assert kept.keys() == made.exhibits
    assert all(torch.equal(picture, changed[int(item[1:])]) for item, picture in kept.items())


def test_groups_are_places_of_their_own(vit: Backbone, tmp_path: Path) -> None:
    file = tmp_path / "groups.csv"
    file.write_text("class,group\nk0,even\nk2,even\nsecond,odd\n")
    keys = tuple(f"k{i}" for i in range(7))
    card = ImageSetCard(spec="folder:x", digest="0", n=N, classes=keys, class_names=("k0", "second", *keys[2:]))
    condition = correlation.Condition(grid=(4, 4), groups=str(file))
    assert correlation.refusal(condition, vit.card, card) is None
    made = job(vit, condition, images=card)
    whole, found = values(correlation, made, "correlation"), values(correlation, made, "group_correlation")
    for (item, at), value in found.items():
        assert at[0] == 0
        assert at[2] == {"i0": "even", "i2": "even", "i1": "odd"}[item]
        assert value == whole[item, (4, at[1], "all")]
    assert len(found) == 3 * 3
    file.write_text("class,group\nnobody,even\n")
    assert "must have the content" in (correlation.refusal(condition, vit.card, card) or "")
    changed = correlation.Condition(grid=(4, 4), groups=str(file))
    assert changed != condition
    assert "must name classes of `folder:x`" in (correlation.refusal(changed, vit.card, card) or "")
    assert correlation.Condition(grid=(4, 4), groups=changed.groups) == changed
    file.write_text("\ufeffclass,group\nk0,even\n", encoding="utf-8")
    assert _superclasses.read(str(file)) == {"k0": "even"}, "as spreadsheets save it"
    file.write_bytes("class,group\nk0,ähnlich\n".encode("latin-1"))
    latin = correlation.Condition(grid=(4, 4), groups=str(file))
    assert "must be a csv in UTF-8" in (correlation.refusal(latin, vit.card, card) or "")
    file.write_text("class;group\nk0;even\n")
    with pytest.raises(VitalsError, match="must have the head `class,group`"):
        _superclasses.read(str(file))


def test_superclasses_agree_with_the_definitions_of_their_classes() -> None:
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    keys, told = info.label_names(), info.label_descriptions(detailed=True)
    of = {key: _superclasses.superclass(key) for key in keys}
    assert Counter(of.values()) == {
        "artefacts": 525, "dogs": 118, "other mammals": 100, "birds": 59, "food": 48, "reptiles": 36,
        "other invertebrates": 34, "insects": 27, "fish": 16, "plants and fungi": 15, "landscapes": 11, "amphibians": 8,
        "people": 3,
    }  # fmt: skip
    words = {
        "insects": ("insect", "butterfly", "beetle"),
        "fish": ("shark", "fish"),
        "reptiles": ("snake", "lizard", "turtle"),
    }
    for group, names in words.items():
        naming = [of[k] for k, text in zip(keys, told, strict=True) if any(f" {n} " in f" {text} " for n in names)]
        assert Counter(naming)[group] >= 0.4 * len(naming), (group, Counter(naming))
    assert of["n02099601"] == "dogs"  # golden retriever
    assert of["n01440764"] == "fish"  # tench
    assert of["n12267677"] == "plants and fungi"  # acorn


# --- attention


def test_visible_attention_is_the_sum_over_visible_patches(vit: Backbone) -> None:
    made = job(vit, attention.Condition(fraction=0.5, grid=(4, 4)))
    drop = patches.random_drop(randomness.stream(0, ["the one mask"], "attention/run=0"), 16, 8)
    changed = images(made) * ~patches.to_pixels(drop, (4, 4), SIZE)
    rows = probe.patch_rows(vit, changed, block=1)
    mean = rows.mean(dim=1)
    mean = mean[:, ~drop[0]].sum(dim=1) / mean.sum(dim=1)
    expected = rows[:, :, ~drop[0]].sum(dim=2) / rows.sum(dim=2)
    found = values(attention, made, "visible_attention")
    assert [found[i, (2, "1", "masked")] for i in made.ids] == pytest.approx(expected[:, 0].tolist(), abs=1e-5)
    assert [found[i, (2, "mean", "masked")] for i in made.ids] == pytest.approx(mean.tolist(), abs=1e-5)
    assert {at for _, at in found} == {
        *((b, h, "masked") for b in (1, 2, 3) for h in ("mean", "1", "2")),
        *((b, "mean", "plain") for b in (1, 2, 3)),
    }


def test_a_head_that_looks_at_no_patch_counts_nothing_in_the_mean(
    vit: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = probe.over_patches

    def faint(each: Any, card: Any) -> Tensor:
        rows = honest(each, card).clone()
        rows[:, 0] *= 1e-6
        return rows

    monkeypatch.setattr(probe, "over_patches", faint)
    found = values(attention, job(vit, attention.Condition(grid=(4, 4))), "visible_attention")
    places = [(item, block) for item, (block, head, view) in found if (head, view) == ("mean", "masked")]
    mean, first, second = (
        np.array([found[item, (block, head, "masked")] for item, block in places]) for head in ("mean", "1", "2")
    )
    np.testing.assert_allclose(mean, second, atol=1e-5)
    assert np.abs(first - second).max() > 1e-3


def test_mean_maps_are_kept_as_pictures(vit: Backbone) -> None:
    kept: dict[tuple[str, Any], Tensor] = {}

    said: dict[tuple[str, Any], str] = {}

    def keep(item: str, picture: Tensor, at: Any = (), says: str = "") -> None:
        kept[item, at], said[item, at] = picture, says

    made = job(vit, attention.Condition(grid=(4, 4)), exhibits=frozenset({"i0"}), keep=keep)
    list(attention.measure(made))
    mean = probe.patch_rows(vit, images(made), block=2).double()
    mean = mean.mean(dim=1)
    mean = (mean / mean.sum(dim=1, keepdim=True)).mean(dim=0).view(4, 4)
    grey = kept["mean map, plain", (3, "mean", "masked")][0, ::8, ::8]
    assert (grey - mean / max(mean.max(), 2 * mean.mean())).abs().max() < 1 / 250
    assert said["mean map, plain", (3, "mean", "masked")] == (
        "flat: nearly even" if mean.max() < 1.5 * mean.mean() else ""
    )
    assert len(kept) == 2 * 3 * 3


def test_a_flat_map_is_mid_grey_and_a_peak_is_white() -> None:
    flat = torch.full((2, 2), 0.25, dtype=torch.float64)
    assert _maps.picture(flat).unique().tolist() == [pytest.approx(128 / 255)]
    peak = torch.tensor([[0.7, 0.1], [0.1, 0.1]], dtype=torch.float64)
    assert _maps.picture(peak)[0, 0, 0] == 1
    assert _maps.picture(peak)[0, 15, 15] == pytest.approx(round(255 / 7) / 255)


def test_an_image_whose_map_is_negative_has_no_value(vit: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = probe.over_patches

    def negative(each: Any, card: Any) -> Tensor:
        rows = honest(each, card).clone()
        rows[1, 0, 0, 3] = -0.1
        return rows

    made = job(vit, attention.Condition(grid=(4, 4)), exhibits=frozenset({"i0"}))
    whole = values(attention, made, "visible_attention")
    monkeypatch.setattr(probe, "over_patches", negative)
    found = values(attention, made, "visible_attention")
    assert found == {key: value for key, value in whole.items() if key[0] not in ("i1", "i5")}, "second of each batch"


# --- depth and tokens


def test_the_last_block_answers_as_the_network_does() -> None:
    backbone = load("timm:test_vit?pretrained=false&size=32&model.num_classes=7")
    made = job(backbone, depth.Condition())
    expected = torch.nn.functional.cross_entropy(backbone.logits(images(made)), torch.arange(N) % 7, reduction="none")
    found = values(depth, made, "cross_entropy")
    last = backbone.card.blocks
    assert [found[i, (last, 0, 0)] for i in made.ids] == pytest.approx(expected.tolist(), abs=1e-5)
    assert {at for _, at in found} == {(b, 0, 0) for b in range(1, last + 1)}


def test_patches_that_overflow_are_neither_right_nor_wrong() -> None:
    broken = load(VIT)

    def overflow(_m: Any, _a: Any, x: Tensor) -> Tensor:
        return x if len(x) == 1 else torch.full_like(x, torch.inf)  # one image alone is the trial of `tokens.layout`

    broken.module.blocks[2].register_forward_hook(overflow)  # type: ignore[index, union-attr]
    found = values(depth, job(broken, depth.Condition(tokens="patches"), batch_size=N), "patch_share")
    assert {at[0] for (_, at), value in found.items() if np.isnan(value)} == {3}


def test_the_share_of_patches_is_the_mean_of_the_map(vit: Backbone) -> None:
    made = job(vit, depth.Condition(tokens="patches"))
    share, found = values(depth, made, "patch_share"), values(depth, made, "patch_top1")
    module: Any = vit.module
    p = vit.card.preprocess
    x = (images(made) - torch.tensor(p.mean).view(3, 1, 1)) / torch.tensor(p.std).view(3, 1, 1)
    right = module.head(module.forward_features(x)[:, 2:]).argmax(dim=2) == (torch.arange(N) % 7)[:, None]
    for i in range(N):
        upright = [found[f"i{i}", (3, r, c)] for r in (4, 3, 2, 1) for c in range(1, 5)]
        assert upright == right[i].double().tolist()
        assert share[f"i{i}", (3, 0, 0)] == pytest.approx(np.mean(upright))


def test_two_copies_of_a_token_stay_one(vit: Backbone) -> None:
    """Where the distillation token equals the class token and both have one position, their cosine is 1 at every depth."""
    twin = load(VIT)
    module: Any = twin.module
    module.dist_token.data.copy_(module.cls_token)
    module.pos_embed.data[:, 1] = module.pos_embed[:, 0]
    alike, apart = (values(tokens, job(b, tokens.Condition()), "token_cosine") for b in (twin, vit))
    assert list(alike.values()) == pytest.approx([1.0] * len(alike), abs=1e-5)
    assert {at for _, at in alike} == {(b, 1) for b in (1, 2, 3, 4)}
    assert max(apart.values()) < 0.99


# --- all


@pytest.mark.parametrize(
    ("study", "condition", "per_image"),
    [
        (correlation, correlation.Condition(grid=(4, 4)), 2),
        (attention, attention.Condition(grid=(4, 4)), 2),
        (depth, depth.Condition(), 1),
        (depth, depth.Condition(tokens="patches"), 1),
        (tokens, tokens.Condition(), 1),
        (lesion, lesion.Condition(), 3),
    ],
)
def test_one_pass_serves_all_blocks_heads_and_definitions(
    vit: Backbone, study: ModuleType, condition: Any, per_image: int
) -> None:
    """A lesion needs a pass for each of the three blocks; beside them one image tells where the blocks are."""
    backbone, passes = counted(vit)
    list(study.measure(job(backbone, condition)))
    assert sum(passes) in (per_image * N, per_image * N + 1)


@pytest.mark.parametrize(
    ("study", "condition", "reason"),
    [
        (attention, attention.Condition(grid=(4, 4)), "test_resnet has no attention map over a patch grid"),
        (depth, depth.Condition(), "test_resnet has no patch tokens by block"),
        (tokens, tokens.Condition(), "test_resnet has no patch and prefix tokens"),
    ],
)
def test_a_network_that_lacks_it_is_told_why(cnn: Backbone, study: ModuleType, condition: Any, reason: str) -> None:
    assert study.refusal(condition, cnn.card, NO_IMAGES) == reason


def test_what_does_not_fit_is_told_why(vit: Backbone) -> None:
    one = dataclasses.replace(vit.card, prefix_tokens=1)
    assert "has 1 prefix tokens; it needs one besides the class token" in (
        tokens.refusal(tokens.Condition(), one, NO_IMAGES) or ""
    )
    assert "there is no query 2" in (
        attention.refusal(attention.Condition(grid=(4, 4), query=2), vit.card, NO_IMAGES) or ""
    )
    fine = attention.refusal(attention.Condition(grid=(8, 8)), vit.card, NO_IMAGES)
    assert fine == "the mask needs cells of whole patches; the patch grid is (4, 4)"
    flat = dataclasses.replace(vit.card, provides=())
    for study in (lesion, correlation):
        assert "neither blocks of patch tokens nor stages" in (
            study.refusal(study.Condition(grid=(4, 4)) if study is correlation else study.Condition(), flat, NO_IMAGES)
            or ""
        )
    assert "does not read its logits from one normed token" in (
        depth.refusal(depth.Condition(), dataclasses.replace(vit.card, provides=("tokens",)), NO_IMAGES) or ""
    )


def test_an_image_that_overflows_is_counted_and_spoils_no_other(vit: Backbone) -> None:
    """Features of one image are infinite, as float16 makes them: that image is NaN, the others are as without it."""
    broken = load(VIT)

    def overflow(_m: Any, _a: Any, output: Tensor) -> Tensor:
        return output if len(output) == 1 else torch.cat([torch.full_like(output[:1], float("inf")), output[1:]])

    broken.module.blocks[1].register_forward_hook(overflow)  # type: ignore[index, union-attr]
    made = job(broken, correlation.Condition(grid=(4, 4)), batch_size=N)
    found = values(correlation, made, "correlation")
    for block in (2, 3, 4):
        assert np.isnan(found["i0", (block, "A", "all")])
        assert all(np.isfinite(found[f"i{k}", (block, d, "all")]) for k in range(1, N) for d in "ABC")
