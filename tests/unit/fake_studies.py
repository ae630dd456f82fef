"""Four studies for tests of what shows results: conditions and records like those of the real ones, without a network. Their version is one
that no installed study has, so that what the run says of them is read."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from visionvitals.core import BackboneCard
from visionvitals.figure import Chart, Published, Record, Sign

VERSION = 1000
CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")
FILLS = ("black", "mean", "token")


@dataclass(frozen=True, kw_only=True)
class Clean:
    """The image as it is."""


@dataclass(frozen=True, kw_only=True)
class Occlusion:
    fraction: float = 0.0
    grid: tuple[int, int] = (14, 14)
    fill: str = "black"
    offset: int = 0
    run: int = 0


@dataclass(frozen=True, kw_only=True)
class Shuffle:
    grid: tuple[int, int] = (1, 1)
    run: int = 0


@dataclass(frozen=True, kw_only=True)
class Corner:
    corner: str = "top-left"
    inner: tuple[int, int] = (128, 128)


@dataclass(frozen=True, kw_only=True)
class FakeStudy(Record):
    """A record with what a plan asks of a study."""

    conditions: Callable[[str, tuple[int, int]], list[Any]]
    refusal: Callable[[Any, BackboneCard], str | None] = lambda condition, backbone: None
    passes: Callable[[Any], float] = lambda condition: 1
    per_image: bool = False
    source: str = ""

    def splits(self, condition: Any) -> bool:
        return False


def _occlusion(preset: str, size: tuple[int, int]) -> list[Any]:
    grid = (size[0] // 16, size[1] // 16)
    fractions: Sequence[float] = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9)
    fills, runs = FILLS, 3
    if preset == "quick":
        fractions, fills, runs = (0.0, 0.25, 0.5, 0.75), ("black",), 1
    if preset == "paper":
        fractions, fills, runs = tuple(d / 10 for d in range(10)), ("black",), 5
        grid = (14, 14)
    found = [
        Occlusion(fraction=f, grid=grid, fill=fill, run=run)
        for fill in fills
        for f in fractions
        for run in range(runs if f > 0 else 1)
    ]
    if preset == "paper":
        found += [Occlusion(fraction=f, grid=other) for other in ((4, 4), (7, 7)) for f in fractions]
        found += [Occlusion(fraction=f, offset=8) for f in (0.3, 0.5, 0.7, 0.9)]
    return found


def _tokens(condition: Any, backbone: BackboneCard) -> str | None:
    if condition.fill != "token" or "token_removal" in backbone.provides:
        return None
    return f"`fill = token` needs patch tokens that can be removed; {backbone.architecture} has none"


def _shuffle(preset: str, size: tuple[int, int]) -> list[Any]:
    if preset == "quick":
        return [Shuffle(grid=grid) for grid in ((1, 1), (2, 2), (4, 4), (8, 8))]
    grids = ((2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (14, 14), (16, 16))
    return [Shuffle(), *(Shuffle(grid=grid, run=run) for grid in grids for run in range(3))]


def _of(name: str, condition: Any, **parts: Any) -> FakeStudy:
    default = condition()
    defaults = {f.name: getattr(default, f.name) for f in dataclasses.fields(default)}
    return FakeStudy(name=name, version=VERSION, defaults=defaults, **parts)


_TINY, _HALF = ("deit_tiny_patch16_224",), {"fraction": 0.5, "fill": "black", "grid": (14, 14), "offset": 0}
STUDIES = {
    "clean": _of(
        "clean",
        Clean,
        title="Clean accuracy",
        asks="What is recognised of the images as they are?",
        charts=(Chart(x="", reads="Top-1 accuracy on the images as they are."),),
        signs=(Sign(title="clean top-1", kind="mean"),),
        published=(
            Published(model="DeiT-Ti", architectures=_TINY, where={}, value=0.722),
            Published(model="DeiT-Ti", architectures=_TINY, where={}, value=0.911, metric="top5"),
        ),
        conditions=lambda preset, size: [Clean()],
    ),
    "occlusion": _of(
        "occlusion",
        Occlusion,
        title="Occlusion",
        asks="PatchDrop: how much is still recognised when a random share of the image's patches is removed.",
        choices={"fill": FILLS},
        charts=(
            Chart(
                x="fraction",
                x_title="part of the patches that is removed",
                x_unit="share",
                facet=("fill", "grid", "offset"),
                reads="Higher is more robust. Bands are 95 % intervals over images; each image's runs are averaged first.",
            ),
        ),
        signs=(
            Sign(
                title="kept at half",
                kind="kept",
                where={"fraction": 0.5, "fill": "black", "offset": 0},
                at="at 50 % occlusion",
            ),
            Sign(title="area under occlusion", kind="area", where={"fill": "black", "offset": 0}, x="fraction"),
        ),
        published=(Published(model="ResNet50", architectures=("resnet50",), where=_HALF, value=0.001),),
        conditions=_occlusion,
        refusal=_tokens,
    ),
    "shuffle": _of(
        "shuffle",
        Shuffle,
        title="Patch shuffle",
        asks="Does a network need to know where things are?",
        charts=(Chart(x="grid", x_title="grid of shuffled cells", reads="1x1 is the unchanged image."),),
        signs=(Sign(title="kept at 4x4 shuffle", kind="kept", where={"grid": (4, 4)}),),
        conditions=_shuffle,
    ),
    "corner": _of(
        "corner",
        Corner,
        title="Object in a corner",
        asks="Is an object found wherever it is?",
        choices={"corner": CORNERS},
        charts=(Chart(x="corner", x_title="corner that holds the image", facet=("inner",)),),
        signs=(Sign(title="in the bottom-right corner", kind="mean", where={"corner": "bottom-right"}),),
        conditions=lambda preset, size: [Corner(corner=c) for c in (CORNERS[::3] if preset == "quick" else CORNERS)],
    ),
}


def comb(count: int) -> FakeStudy:
    """A study of so many words, whose chart has a row for each."""
    corners = tuple(f"word {k:02d}" for k in range(count))
    return dataclasses.replace(
        STUDIES["corner"],
        charts=(Chart(x="corner"),),
        choices={"corner": corners},
        conditions=lambda preset, size: [Corner(corner=corner) for corner in corners],
    )


def with_signs(count: int) -> FakeStudy:
    """The study of corners with so many vital signs."""
    where = [{"corner": corner} for corner in CORNERS]
    signs = tuple(Sign(title=f"sign {k}", kind="mean", where=where[k % len(where)]) for k in range(count))
    return dataclasses.replace(STUDIES["corner"], signs=signs)
