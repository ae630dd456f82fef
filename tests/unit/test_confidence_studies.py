"""`missingness` beside what `occlusion` keeps, and the temperature of `calibration`: laws of both, measured as a run measures them."""

import numpy as np
import pytest
import torch

from visionvitals.job import Job
from visionvitals.plan import planner
from visionvitals.plan.request import Plan, Section
from visionvitals.results import Run, derived, load
from visionvitals.run import runner
from visionvitals.studies.calibration import temperature
from visionvitals.study import load as study

CPU = torch.device("cpu")
FILLS = ("black", "token")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("confidence") / "run"
    points = {"fraction": (0.0, 0.5), "grid": ((8, 8),), "fill": FILLS}
    studies = (
        Section(name="clean"),
        Section(name="occlusion", values=points),
        Section(name="missingness", values=points),
        Section(name="calibration"),
    )
    asked = Plan(backbones=("tiny:vit",), data=("shapes:test?n=48",), studies=studies)
    outcome = runner.execute(planner.make(asked, device=CPU), out=folder, device=CPU, command=("vitals", "test"))
    assert not outcome.failed
    return load(folder)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_missingness_says_what_the_answers_of_occlusion_say(run: Run, fill: str, fraction: float) -> None:
    own, other = (
        next(p for p in run.of(name) if (p.condition["fraction"], p.condition["fill"]) == (fraction, fill))
        for name in ("missingness", "occlusion")
    )
    ((_, unchanged),) = derived.of(run, [other], "unchanged")
    assert run.estimate(own, "unchanged").value == unchanged.value
    assert run.estimate(own, "confidence").value == pytest.approx(run.estimate(other, "confidence").value)
    if fraction == 0:
        assert unchanged.value == 1
        assert run.estimate(own, "clean_probability").value == pytest.approx(run.estimate(own, "confidence").value)


def test_missingness_needs_no_labels() -> None:
    assert study("missingness").labels == "none"


def test_a_temperature_changes_no_answer_and_lies_beside_the_logits_as_they_are(run: Run) -> None:
    plain, scaled = (next(p for p in run.of("calibration") if p.at == (at,)) for at in ("none", "temperature"))
    for metric in ("top1", "prediction"):
        both = [derived.by_run(run, p, metric) for p in (plain, scaled)]
        assert both[0][0] == both[1][0]
        assert np.array_equal(both[0][1], both[1][1])
    assert 0 < run.estimate(plain, "top1").n < 48, "the other half was fitted on"
    items, known = derived.by_run(run, plain, "confidence")
    whole = dict(
        zip(
            *(x if isinstance(x, list) else x[0] for x in derived.by_run(run, run.of("clean")[0], "confidence")),
            strict=True,
        )
    )
    assert [whole[item] for item in items] == pytest.approx(known[0].tolist(), abs=1e-6)


def test_the_best_temperature_of_logits_that_are_scaled_is_scaled_and_1_where_they_are_true() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(4000, 5)))
    labels = torch.from_numpy(np.array([rng.choice(5, p=p) for p in logits.softmax(dim=1).numpy()]))
    t = temperature(logits, labels)
    assert t == pytest.approx(1, abs=0.06)
    assert temperature(logits * 3, labels) == pytest.approx(3 * t, rel=1e-6)
    losses = [float(torch.nn.functional.cross_entropy(logits / x, labels)) for x in (t * 0.98, t, t * 1.02)]
    assert losses[1] == min(losses)


def test_logits_that_say_nothing_have_a_temperature_at_the_end() -> None:
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert temperature(logits, torch.tensor([1, 1, 0])) == pytest.approx(20)
    assert temperature(logits, torch.tensor([0, 0, 1])) == pytest.approx(0.05)


def test_copies_of_a_picture_lie_in_one_half() -> None:
    rng = np.random.default_rng(0)
    ids = [f"{k}" for k in range(24)]
    copies = {f"{k}": f"{k - 1}" for k in range(1, 24, 2)}
    job = Job(
        backbone=planner.load_backbone("tiny:vit", device=CPU),
        condition=study("calibration").Condition(),
        ids=ids,
        pixels=rng.integers(0, 256, (24, 64, 64, 3), dtype=np.uint8),
        labels=np.arange(24) % 16,
        copies=copies,
    )
    scored = {item for block in study("calibration").measure(job) for item in block.items}
    assert 0 < len(scored) < 24
    assert all((copy in scored) == (first in scored) for copy, first in copies.items())
