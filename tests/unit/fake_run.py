"""A run folder with invented numbers and drawn pictures, written by the code that writes real ones: cells by `Store.write`, the
plan by `run.folder.claim`. For tests of the report only."""

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from fake_studies import STUDIES, FakeStudy
from PIL import Image, ImageDraw

from visionvitals.core import BackboneCard, Cell, ImageSetCard, Preprocess, Scores
from visionvitals.figure import COMMON, Metric
from visionvitals.plan.identity import plain
from visionvitals.plan.planner import Planned, Skip
from visionvitals.plan.request import Plan, Section
from visionvitals.run import folder, groups, wide
from visionvitals.run.provenance import Provenance

CLASSES = (
    "goldfish",
    "tabby",
    "harp",
    "lighthouse",
    "acoustic guitar",
    "wombat",
    "teapot",
    "beacon",
    "otter",
    "violin",
)


class Images(NamedTuple):
    """As much of an image set as the plan writes down."""

    card: ImageSetCard


def backbone(spec: str, *, side: int = 224, outputs: int = 1000, notes: tuple[str, ...] = ()) -> BackboneCard:
    """A transformer with 16-px patches where the name says so, else a network without patches."""
    patches = "vit" in spec or "deit" in spec
    return BackboneCard(
        spec=spec,
        architecture=spec.partition(":")[2].partition(".")[0].partition("@")[0],
        digest=f"{zlib.crc32(spec.encode()):08x}" * 8,
        preprocess=Preprocess(
            size=(side, side),
            resize=side * 8 // 7,
            interpolation="bicubic",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        outputs=outputs,
        parameters=5_717_416 if patches else 25_557_032,
        provides=("features", "token_removal") if patches else ("features",),
        patch_grid=(side // 16, side // 16) if patches else None,
        prefix_tokens=int(patches),
        notes=notes,
    )


def write(
    out: Path,
    *,
    backbones: Sequence[BackboneCard] = (backbone("timm:deit_tiny_patch16_224"), backbone("timm:resnet50.tv_in1k")),
    data: Sequence[str] = ("folder:imagenet/val",),
    studies: Sequence[str | FakeStudy] = ("clean", "occlusion", "shuffle", "corner"),
    preset: Any = "default",
    n: int = 200,
    pictures: int = 4,
    fails: Mapping[str, str] | None = None,
    unreadable: Sequence[tuple[str, str]] = (),
    warnings: Sequence[str] = (),
    measured: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    more: Mapping[str, Callable[[int], np.ndarray]] = MappingProxyType({}),
    columns: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Path:
    """Write a run folder.

    Args:
        fails: study -> the error that all of its cells fail with.
        studies: names of `fake_studies.STUDIES`, or studies like them.
        measured: only so many cells are there, as after a kill.
        limit, seed: of the plan; the first `limit` images are scored.
        more: metric -> (n -> its values), in every cell.
        columns: further columns of a csv -> their n values.
    """
    sets = {
        spec: Images(
            ImageSetCard(
                spec=spec, digest=f"{zlib.crc32(spec.encode()):08x}" * 8, n=n, classes=CLASSES, class_names=CLASSES
            )
        )
        for spec in data
    }
    known = [STUDIES[one] if isinstance(one, str) else one for one in studies]
    cells, skips = [], []
    for card in backbones:
        for images in sets.values():
            for one in known:
                for condition in one.conditions(preset, card.preprocess.size):
                    reason = one.refusal(condition, card)
                    where: dict[str, Any] = {"study": one.name, "condition": condition}
                    if reason is None:
                        here: dict[str, Any] = {"version": one.version, "backbone": card, "images": images.card}
                        cells.append(Cell(**where, **here, seed=seed, limit=limit))
                    else:
                        skips.append(Skip(**where, backbone=card.spec, images=images.card.spec, reason=reason))
    how = f"all {len(CLASSES)} classes match outputs by name"
    planned = Planned(
        plan=Plan(
            backbones=tuple(card.spec for card in backbones),
            data=tuple(data),
            studies=tuple(Section(name=one.name) for one in known),
            preset=preset,
            seed=seed,
            limit=limit,
        ),
        cells=tuple(cells),
        skips=tuple(skips),
        sets=sets,  # type: ignore[arg-type]
        backbones={card.spec: card for card in backbones},
        alignments={},
        studies={one.name: one for one in known},  # type: ignore[misc]
        notes=(
            *(f"{card.spec}: {note}" for card in backbones for note in card.notes),
            *(f"{card.spec} on {spec}: {how}" for card in backbones for spec in data),
        ),
    )
    command = ("vitals", "audit", *planned.plan.backbones, "--data", *data, "--out", "runs/first one")
    store = folder.claim(out, planned, command=command)
    for cell in cells[:measured]:
        if fails and cell.study in fails:
            store.write_failure(cell, error=fails[cell.study], traceback=f"Traceback\n  {fails[cell.study]}")
        else:
            _keep(store, cell, min(n, limit or n), pictures, unreadable, command, more)
    for images in sets.values() if columns else ():
        known = groups.of_labels(images.card, _ids(n), [i % len(CLASSES) for i in range(n)], columns)
        groups.keep(out, images.card.digest, known)
    folder.warn(out, warnings)
    return out


def _ids(n: int) -> list[str]:
    return [f"img-{i:04d}.JPEG" for i in range(n)]


def _keep(
    store: Any, cell: Cell, n: int, pictures: int, unreadable: Sequence[tuple[str, str]], command: Any, more: Any
) -> None:
    strength, sensitive = _strength(cell.condition), cell.backbone.patch_grid is None
    rng = np.random.default_rng(zlib.crc32(f"{cell.images.spec}".encode()))
    hard = rng.random(n)  # shared by all cells: comparisons over images are paired
    told = repr((cell.backbone.spec, dataclasses.astuple(cell.condition), cell.study))
    luck = np.random.default_rng(zlib.crc32(told.encode())).normal(0, 0.08, n)
    kept = 0.82 * np.exp(-4 * strength) if sensitive else 0.74 * (1 - strength**3)
    right = hard + luck < kept
    values = {"top1": right, "top5": hard < kept + 0.15, "cross_entropy": 3 * hard + strength}
    values["prediction"] = np.arange(n) % 10
    if cell.study == "occlusion":
        values["information_loss"] = np.full(n, strength)
    items = _ids(n)
    values |= {metric: make(n) for metric, make in more.items()}
    own = Metric(title="its own", meaning="in the test", unit="none", better=None)
    known = {**COMMON, **dict.fromkeys(more, own)}
    columns = wide.gather([Scores(items, values)], study=cell.study, axes=(), metrics=known, ids=items)
    shown = range(min(pictures, n)) if getattr(cell.condition, "run", 0) == 0 else ()
    said = {i: CLASSES[i % 10] if right[i] else CLASSES[(i + 3) % 10] for i in shown}
    provenance = Provenance(
        versions={"visionvitals": "0.1.0", "python": "3.11.2", "torch": "2.15.0", "timm": "1.0.31"},
        commit="8c0ffee8c0ffee",
        dirty=False,
        platform="Linux-6.1-x86_64",
        device="cpu: AMD EPYC 9B14",
        dtype="float32",
        batch_size=32,
        threads=2,
        command=tuple(command),
        started="2026-11-24T04:10:00+00:00",
    )
    store.write(
        cell,
        columns,
        facts={
            "provenance": plain(provenance),
            "skipped": [list(pair) for pair in unreadable],
            "n": n,
            "seconds": 1.5,
            "warnings": [],
        },
        exhibits={(f"img-{i:04d}.JPEG", said[i], ()): _picture(i, cell.condition) for i in shown},
        marks={f"img-{i:04d}.JPEG": {"label": CLASSES[i % 10], "correct": bool(right[i])} for i in shown},
    )


def _strength(condition: Any) -> float:
    """How hard a condition is, from 0 to 1."""
    fields = dataclasses.asdict(condition)
    if "fraction" in fields:
        return float(fields["fraction"]) * (0.7 if fields["fill"] == "token" else 1.0)
    if "corner" in fields:
        return 0.4
    rows, columns = fields.get("grid", (1, 1))
    return float(np.log2(rows * columns)) / 10


def _picture(index: int, condition: Any) -> Image.Image:
    """A disc on a gradient, with cells blacked out at random."""
    side = 128
    y, x = np.mgrid[0:side, 0:side] / side
    hue = np.stack([0.35 + 0.5 * x, 0.5 + 0.3 * np.sin(3 * y + index), 0.65 - 0.3 * x * y], axis=2)
    picture = Image.fromarray((hue * 255).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    colour = [(220, 90, 40), (240, 190, 60), (60, 120, 190), (120, 60, 140)][index % 4]
    draw.ellipse((28 + 8 * index, 30, 96, 100), fill=colour, outline=(20, 20, 20))
    fields = dataclasses.asdict(condition)
    if "fraction" in fields:
        fill = {"black": (0, 0, 0), "mean": (124, 116, 104)}.get(fields["fill"], (40, 40, 40))
        order = np.random.default_rng(index).permutation(64)
        for cell in order[: int(fields["fraction"] * 64)]:
            draw.rectangle((cell % 8 * 16, cell // 8 * 16, cell % 8 * 16 + 15, cell // 8 * 16 + 15), fill=fill)
    if "corner" in fields:
        canvas = Image.new("RGB", (side, side))
        left, top = ("right" in fields["corner"]) * 55, ("bottom" in fields["corner"]) * 55
        canvas.paste(picture.resize((73, 73)), (left, top))
        return canvas
    return picture
