"""Spellings, plug-ins by file, and the short names that tables show."""

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from visionvitals import registry, short_names
from visionvitals.errors import VitalsError, require

FAMILIES = ["timm", "tiny", "python"]


def test_a_spelling_has_five_parts() -> None:
    spec = registry.parse("timm:resnet50.tv_in1k@/a/w.pth?crop=0.9&mean=.5,.5,.5", families=FAMILIES)
    assert (spec.family, spec.name, spec.checkpoint) == ("timm", "resnet50.tv_in1k", "/a/w.pth")
    assert spec.options == {"crop": "0.9", "mean": ".5,.5,.5"}
    assert registry.parse("tiny:vit", families=FAMILIES).checkpoint is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("resnet50", "must be `family:name"),
        ("timn:resnet50", "Did you mean .*timm"),
        ("timm:resnet50?crop", "Options must read"),
    ],
)
def test_a_wrong_spelling_says_what_to_write(text: str, said: str) -> None:
    with pytest.raises(VitalsError, match=said):
        registry.parse(text, families=FAMILIES)


def test_an_unknown_option_lists_the_near_ones() -> None:
    spec = registry.parse("timm:resnet50?crp=0.9", families=FAMILIES)
    with pytest.raises(VitalsError, match=r"has no option `crp`. Did you mean crop\?"):
        spec.only("crop", "mean")


def test_an_unknown_plug_in_lists_the_near_ones() -> None:
    with pytest.raises(VitalsError, match=r"called `oclusion`. Did you mean occlusion[,?]"):
        registry.load("studies", "oclusion")
    with pytest.raises(VitalsError, match="called `_grids`"):
        registry.load("studies", "_grids")


def test_a_file_named_by_its_path_is_a_plug_in(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text('"""My study.\n\nMore."""\nVERSION = 7\n')
    assert registry.load("studies", str(path)).VERSION == 7
    assert registry.summary("studies", str(path)) == "My study."
    with pytest.raises(VitalsError, match="must be a Python file"):
        registry.load("studies", str(tmp_path / "none.py"))


@pytest.mark.parametrize("kind", ["backbones", "datasets", "studies"])
def test_every_plug_in_has_a_first_line(kind: registry.Kind) -> None:
    assert registry.names(kind)
    for name in registry.names(kind):
        assert registry.summary(kind, name).endswith((".", ":")) or len(registry.summary(kind, name)) > 10


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        (["tiny:vit", "tiny:cnn"], ["tiny:vit", "tiny:cnn"]),
        (["timm:deit_tiny_patch16_224@/x/w.pth", "timm:mobilenetv2_100@/x/v.pth?mean=.5,.5,.5"], ["deit_tiny_patch16_224", "mobilenetv2_100"]),
        (["timm:resnet50.tv_in1k@/x/a.pth", "timm:resnet50.tv_in1k@/x/b.pth"], ["resnet50.tv_in1k@a", "resnet50.tv_in1k@b"]),
        (["checkpoint:runs/a/weights.safetensors", "checkpoint:runs/b/weights.pth?size=256"], ["a", "b"]),
        (["checkpoint:runs/b/weights.pth?token=class", "checkpoint:runs/b/weights.pth?token=shape"], ["b?token=class", "b?token=shape"]),
        (["deit_tiny_patch16_224?pretrained=false", "deit_tiny_patch16_224"], ["deit_tiny_patch16_224?pretrained=false", "deit_tiny_patch16_224"]),
        (["folder:/data/imagenet/validation", "csv:/data/imagenet/nips17/labels.csv"], ["validation", "nips17/labels.csv"]),
        (["timm:resnet50.tv_in1k@/x/a.pth", "timm:resnet50.tv_in1k@/y/a.pth"], ["timm:resnet50.tv_in1k@/x/a.pth", "timm:resnet50.tv_in1k@/y/a.pth"]),
        (["tiny:vit", "folder:/data/experiments/2026-november/tiny:vit"], ["tiny:vit", "folder:/data/experiments/2026-november/tiny:vit"]),
        (["memory:runs/experiment_2026/epoch.0010", "memory:net"], ["memory:runs/experiment_2026/epoch.0010", "memory:net"]),
    ],
)  # fmt: skip
def test_labels_are_short_and_tell_spellings_apart(texts: list[str], labels: list[str]) -> None:
    assert list(short_names.labels(texts).values()) == labels
    for some in itertools.permutations(texts):
        assert len(set(short_names.labels(some).values())) == len(texts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Every type that an option may have."""

    rate: float | None = registry.option(None, "a rate")
    count: int = registry.option(3, "a count")
    on: bool = registry.option(False, "a flag")
    where: Path | None = registry.option(None, "a file")
    how: Literal["near", "far"] = registry.option("near", "a way")
    model: Mapping[str, Any] = registry.free("anything")


def read(query: str) -> Options:
    return registry.options(registry.parse(f"tiny:vit{query}", families=FAMILIES), Options)


def test_options_are_read_once_with_their_types() -> None:
    assert read("") == Options()
    assert read("?rate=0.90&count=07&on=TRUE&where=/a/b&how=far") == Options(
        rate=0.9, count=7, on=True, where=Path("/a/b"), how="far"
    )
    assert read("?model.x=1e-2&model.y=none&model.z=(1,2)&model.name=abc").model == {
        "x": 0.01,
        "y": None,
        "z": (1, 2),
        "name": "abc",
    }
    assert registry.described(Options)[1:3] == [("count", "3", "a count"), ("on", "False", "a flag")]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("rate=nan", "`tiny:vit?rate=nan`: `rate` must be a number of at least 0. Got 'nan'."),
        ("rate=inf", "`rate` must be a number of at least 0. Got 'inf'."),
        ("rate=-1", "`rate` must be a number of at least 0. Got '-1'."),
        ("rate=", "`rate` must be a number of at least 0. Got ''."),
        ("count=1.5", "`count` must be a whole number of at least 0. Got '1.5'."),
        ("on=1", "`on` must be `true` or `false`. Got '1'."),
        ("how=nearly", "`how` must be one of near, far. Got 'nearly'."),
        ("raet=1", "`tiny:` has no option `raet`. Did you mean rate?"),
        ("rate.x=1", "`tiny:` has no option `rate.x`."),
        ("model.=1", "`tiny:` has no option `model.`."),
        ("rate=1&on=true&rate=1", "an option must be given once. Got 'rate'."),
    ],
)
def test_an_option_that_cannot_be_is_one_clear_line(query: str, said: str) -> None:
    with pytest.raises(VitalsError) as caught:
        read(f"?{query}")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_errors_get_their_spelling_in_one_place() -> None:
    @registry.reads(Options)
    def load(spec: registry.Spec, options: Options, *, device: str) -> str:
        require(options.count < 5, "`count` must be below 5", options.count)
        return f"{device} {options.count}"

    def spelled(text: str) -> registry.Spec:
        return registry.parse(text, families=FAMILIES)

    assert load(spelled("tiny:vit?count=4"), device="cpu") == "cpu 4"
    with pytest.raises(VitalsError, match=r"^`tiny:vit\?count=6`: `count` must be below 5. Got 6.$"):
        load(spelled("tiny:vit?count=6"), device="cpu")
    with pytest.raises(VitalsError, match=r"^`tiny:vit\?count=x`: `count` must be a whole"):
        load(spelled("tiny:vit?count=x"), device="cpu")
