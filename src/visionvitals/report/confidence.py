"""Does it know when it is wrong? What the confidence of the answers is worth, at the conditions that the vital signs are read from."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from visionvitals import stats
from visionvitals.figure import Chart
from visionvitals.report.charts import Multiple, Plot
from visionvitals.report.tables import Table
from visionvitals.results import derived, signs, words
from visionvitals.results.derived_metrics import METRICS
from visionvitals.results.run import Point, Run

SECTION = "by-confidence"
"""The anchor of the section; no study can have a name with a hyphen."""
TITLE = "Confidence"
ASKS = "Does the network know when it is wrong, and what is rejecting its least sure answers worth?"
SHOWN = ("overconfidence", "ece", "ece_null", "calibration_error", "auroc", "risk_at_80", "aurc", "rejection_ratio")
COVERAGE = tuple(k / 20 for k in range(1, 21))
FEWEST = 5
"""Answers of a step of confidence that is drawn."""
RISK = Chart(
    x="coverage",
    x_title="share of the answers that are kept, the surest first",
    x_unit="share",
    metric="risk_at_80",
    y_title="error rate of what is kept",
    title="What is rejecting the unsure answers worth?",
    reads="At the right end all answers are kept. A curve that falls steeply to the left belongs to a network whose confidence tells right from "
    "wrong; a flat one to a network whose confidence says nothing.",
)
GAP = Chart(
    x="confidence",
    x_title="confidence",
    x_unit="share",
    metric="overconfidence",
    y_title="confidence minus accuracy",
    title="Is the confidence true?",
    reads="At 0 the network is right as often as it says. Above, it is too sure of itself; below, not sure enough. Bands are 95 % intervals of "
    "the accuracy of each step.",
)


def points(run: Run) -> list[Point]:
    """The points whose confidence is shown: those that signs of accuracy are read from, and all of the study of it."""
    found: dict[Point, None] = {}
    for column in signs.columns(run):
        if column.sign.metric == "top1" and column.sign.kind in ("mean", "kept"):
            found |= dict.fromkeys(reading.points[-1] for reading in column.readings.values())
    found |= dict.fromkeys(p for p in run.points if p.study == "calibration")
    needed = derived.DERIVED["ece"]
    return [p for p in run.points if p in found and derived.has(p, needed)]


def plots(run: Run, shown: Sequence[Point]) -> list[Plot]:
    """Risk over coverage, and confidence against accuracy: a small multiple for each condition, a line for each backbone."""
    return [
        plot
        for chart, ticks, records in (
            (RISK, (0.2, 0.4, 0.6, 0.8, 1.0), _risks),
            (GAP, (0.0, 0.25, 0.5, 0.75, 1.0), _gaps),
        )
        if (plot := _plot(run, shown, chart, ticks, records)) is not None
    ]


def _plot(run: Run, shown: Sequence[Point], chart: Chart, ticks: tuple[float, ...], records: Any) -> Plot | None:
    found: dict[str, list[dict[str, Any]]] = {}
    for p in shown:
        found.setdefault(_named(run, p), []).extend(records(run, p))
    multiples = tuple(Multiple(name, tuple(rows)) for name, rows in found.items() if rows)
    if not multiples:
        return None
    return Plot(
        chart=chart,
        metric=METRICS[chart.metric],
        kind="line",
        x_order=tuple(words.short(x, share=True) for x in ticks),
        y_order=(),
        ticks=ticks,
        fixed={},
        backbones=tuple(run.backbones),
        multiples=multiples,
        chance=None,
    )


def table(run: Run, shown: Sequence[Point]) -> Table:
    """All numbers of them."""
    heads = ("top1", "confidence", *SHOWN)
    several = len(run.images) > 1
    rows = []
    for p in shown:
        known = [(run.estimate(p, m), run.metric(p.study, m)) for m in ("top1", "confidence")]
        known += [(next((e for _, e in derived.of(run, [p], m)), stats.NOTHING), METRICS[m]) for m in SHOWN]
        texts = tuple(words.measured(e, share=metric.share) for e, metric in known)
        where = (*((p.images,) if several else ()), _condition(p))
        rows.append((p.backbone, where, texts, words.n(known[0][0]), p.runs))
    return Table(
        fields=(*(("data",) if several else ()), "condition"),
        metrics=tuple(run.metric("", m).head for m in heads),
        rows=tuple(rows),
        fixed={},
        averaged=any(p.runs > 1 for p in shown),
        mixed=False,
        left_out=0,
    )


def _condition(p: Point) -> str:
    where = words.condition({k: v for k, v in p.condition.items() if v != ""})
    return f"{p.study} ({where})" if where else p.study


def _named(run: Run, p: Point) -> str:
    return f"{p.images} · {_condition(p)}" if len(run.images) > 1 else _condition(p)


def _risks(run: Run, p: Point) -> list[dict[str, Any]]:
    n = stats.Estimate(np.nan, np.nan, np.nan, run.estimate(p, "top1").n)
    found = zip(COVERAGE, derived.risks(run, p, np.array(COVERAGE)), strict=True)
    return [_record(p, RISK, share, n._replace(value=float(risk)), True) for share, risk in found if np.isfinite(risk)]


def _gaps(run: Run, p: Point) -> list[dict[str, Any]]:
    told = derived.calibration(run, p)
    found = []
    for each in told.bins if told is not None else ():
        if each.n >= FEWEST:
            e = stats.wilson(round(each.accuracy * each.n), each.n)
            right, high, low = (each.confidence - x for x in (each.accuracy, e.low, e.high))
            gap = stats.Estimate(right, low, high, each.n)
            found.append(_record(p, GAP, each.confidence, gap, False))
    return found


def _record(p: Point, chart: Chart, x: float, e: stats.Estimate, share: bool) -> dict[str, Any]:
    at, text = words.short(round(x, 3), share=True), words.with_unit(e, share=share)
    low, high = (None if np.isnan(end) else end for end in (e.low, e.high))
    return {
        "backbone": p.backbone,
        "x": x,
        "at": at,
        "beside": "",
        "v": e.value,
        "low": low,
        "high": high,
        "value": text,
        "told": words.exact(e, share=share),
        "n": words.n(e),
        "runs": "1",
        "label": f"{p.backbone}, {chart.x} {at}: {text}",
    }
