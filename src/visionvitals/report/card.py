"""A backbone's section for a model card: Markdown with its vital signs and what limits them, below the hub's `model-index` as YAML.

The head between the lines `---` follows the model card metadata of the Hugging Face hub (hub-docs, `modelcard.md`: task, dataset, metrics
with `type`, `value`, `name`, `args`): values on the metric's own scale, so that 0.797 is 79.7 %; the interval, n and the condition stand in
`args`. A sign without a value is left out there and named in the table.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from visionvitals import study
from visionvitals.report import notes, origin
from visionvitals.results import compare, markdown, signs, words
from visionvitals.results.run import Run
from visionvitals.run import noted

LEVEL = 0.95
CHANCE = "– (no better than guessing on the images as they are)"
REMARK = "Intervals are of 95 % over images: how much another draw of images would change a number, and nothing about other data."


def card(run: Run, backbone: str) -> str:
    """The section for one backbone.

    Args:
        run: the run; it may be unfinished.
        backbone: as the tables call it, or as it was spelled.

    Returns:
        Markdown that is a valid model card by itself.

    Raises:
        VitalsError: the backbone is not in the run.
    """
    name = compare.named(run, backbone, 0)
    own = _alone(run, name)
    columns = signs.columns(own)
    return "\n".join([*_head(own, name, columns), *_section(own, name, columns)]).rstrip() + "\n"


def model_index(run: Run, name: str, columns: list[signs.Column]) -> list[dict[str, Any]]:
    """The hub's `model-index` as plain values, one result for each image set."""
    results = []
    for images in run.images:
        metrics = [_metric(c, c.readings[name, images]) for c in columns if _has_value(c, name, images)]
        if metrics:
            task = {"type": "image-classification", "name": "Image Classification"}
            results.append({"task": task, "dataset": _dataset(images, run.images[images]), "metrics": metrics})
    return [{"name": name, "results": results}]


def _alone(run: Run, name: str) -> Run:
    """The run as if this were its only backbone."""
    others = {card["spec"] for other, card in run.backbones.items() if other != name} - {run.backbones[name]["spec"]}
    plan = dict(run.plan)
    if "plan" in plan:
        named = [spec for spec in plan["plan"]["backbones"] if spec not in others]
        asked = {**plan["plan"], "backbones": named}
        begin = tuple(f"{spec}{end}" for spec in others for end in (":", " on "))
        about = [note for note in plan.get("notes", ()) if not note.startswith(begin)]
        skips = [skip for skip in plan.get("skips", ()) if skip["backbone"] not in others]
        plan |= {"plan": asked, "notes": about, "skips": skips}
    points = tuple(p for p in run.all_points if p.backbone == name)
    sets = {p.images for p in points}
    return replace(
        run,
        all_points=points,
        backbones={name: run.backbones[name]},
        images={images: card for images, card in run.images.items() if images in sets},
        failures=tuple(f for f in run.failures if f["cell"]["backbone"]["spec"] not in others),
        plan=plan,
        warned=tuple(said for said in run.warned if not any(spec in said for spec in others)),
    )


def _head(run: Run, name: str, columns: list[signs.Column]) -> list[str]:
    import yaml

    index = model_index(run, name, columns)
    if not index[0]["results"]:
        return []
    text = yaml.safe_dump({"model-index": index}, sort_keys=False, allow_unicode=True, width=10_000)
    return ["---", text.rstrip(), "---", ""]


def _section(run: Run, name: str, columns: list[signs.Column]) -> Iterator[str]:
    versions = dict(origin.versions(run))
    yield f"## Vital signs of {markdown.text(name)}"
    yield ""
    made = f"visionvitals {versions.get('visionvitals', '')}".rstrip()
    yield f"Measured with {made} on {origin.date(run)}. {REMARK}"
    yield ""
    rows = [_row(c, c.readings[name, i], i) for i in run.images for c in columns if (name, i) in c.readings]
    yield from markdown.table(["sign", "images", "condition", "value (95 %)", "n", "better"], rows)
    yield ""
    for line in noted.lines(run.folder):
        yield from (markdown.text(line), "")
    yield "### What limits these numbers"
    yield ""
    for images, card in run.images.items():
        yield f"- Images: {_told(images, card)}, {words.count(card['n'], 'image')}, digest `{card['digest'][:16]}`."
    yield f"- Input: {origin.preprocessing(run.backbones[name])}."
    yield f"- Network: {_told(name, run.backbones[name])}, sha256 of the weights `{run.backbones[name]['digest']}`; {origin.facts(run.backbones[name])}."
    yield "- Settings: " + markdown.text("; ".join(f"{key} {value}" for key, value in origin.settings(run))) + "."
    run.summarise()
    for said in (*notes.label_sentences(run), *notes.warnings(run)):
        yield f"- {markdown.text(said)}"
    for left, how in ((notes.skips(run), "Not measured"), (notes.failures(run), "Failed")):
        for each in left:
            which = f"{words.listed(each.studies)}, {words.count(each.count, 'condition')}: {each.reason}"
            yield f"- {how}: {markdown.text(which)}"
    if missing := notes.missing(run):
        yield f"- {words.count(missing, 'cell')} of the plan not measured yet."
    yield ""
    yield "### Command"
    yield ""
    yield from markdown.fenced(origin.command(run))
    yield ""
    yield "Versions: " + markdown.text(", ".join(f"{package} {version}" for package, version in versions.items())) + "."


def _told(name: str, card: Mapping[str, Any]) -> str:
    """A name, and the spelling where it is another."""
    return markdown.text(name if card["spec"] == name else f"{name} ({card['spec']})")


def _row(column: signs.Column, reading: signs.Reading, images: str) -> list[str]:
    title = column.sign.title + (", %" if column.share else "")
    value = CHANCE if reading.at_chance else words.measured(reading.estimate, share=column.share)
    better = {"high": "higher", "low": "lower"}.get(column.better or "", "")
    return [title, images, _condition(column, reading), value, words.n(reading.estimate), better]


def _condition(column: signs.Column, reading: signs.Reading) -> str:
    """What was done to the images, e.g. `fraction 0.5, fill black, grid 14x14`."""
    return words.condition({**column.sign.where, **dict(reading.fixed)})


def _has_value(column: signs.Column, name: str, images: str) -> bool:
    reading = column.readings.get((name, images))
    return reading is not None and not reading.at_chance and not math.isnan(reading.estimate.value)


def _metric(column: signs.Column, reading: signs.Reading) -> dict[str, Any]:
    """An entry of `metrics`. Plain accuracy has the hub's name for it; other signs are called by their study and kind."""
    e, sign = reading.estimate, column.sign
    accuracy = column.study == study.BASELINE and sign.kind == "mean" and sign.metric == "top1"
    between = {} if math.isnan(e.low) else {"low": _short(e.low), "high": _short(e.high), "level": LEVEL}
    where = _condition(column, reading)
    condition = {"condition": where} if where else {}
    better = {"better": column.better} if column.better else {}
    stopped = {"stopped": words.n(e)} if e.early and e.early.by else {}
    return {
        "type": "accuracy" if accuracy else f"{column.study}_{sign.kind}",
        "value": _short(e.value),
        "name": sign.title,
        "args": {**between, "n": e.n, **stopped, "unit": column.unit, **better, **condition},
    }


def _dataset(name: str, card: Mapping[str, Any]) -> dict[str, Any]:
    """The hub's id of an image set that comes from there, else a word of its name."""
    family, _, rest = card["spec"].partition("?")[0].partition(":")
    hub = family == "hf" and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", rest) is not None
    word = rest if hub else re.sub(r"[^\w.-]+", "-", name).strip("-") or family
    return {"name": name, "type": word, "args": {"images": card["n"], "digest": card["digest"]}}


def _short(x: float) -> float:
    return float(f"{x:.6g}")
