"""Cells that end when their interval is narrow enough, or when the time is over: where they stop, what they hold, and what readers say of it."""

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import invented_cells
import visionvitals as vv
from visionvitals import cli, results, stats, study
from visionvitals.core import Cell
from visionvitals.errors import VitalsError
from visionvitals.figure import COMMON
from visionvitals.plan import plan_file, planner, request
from visionvitals.plan.identity import cell_id, work_id
from visionvitals.report import build, milestones, tables
from visionvitals.results import compare, signs
from visionvitals.results.frame import Frame, Group
from visionvitals.run import calibrate, keeping, measure, runner
from visionvitals.run.stopping import seeded
from visionvitals.run.store import Store

torch = pytest.importorskip("torch")

N, SIDE = 1500, 16
CLASSES = ("dark", "light")
STUDIES = "clean,occlusion"


class Planted(torch.nn.Module):
    """Tells dark from light by the red of a picture, rightly where the mean of its green lies below a limit."""

    def __init__(self, right: float) -> None:
        super().__init__()
        self.right = torch.nn.Parameter(torch.tensor(right))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        said = torch.sign(images[:, 0].amax(dim=(1, 2)) - 0.5) * torch.sign(self.right - images[:, 1].mean(dim=(1, 2)))
        return torch.stack([-said, said], dim=1)


@pytest.fixture(scope="module", autouse=True)
def images() -> str:
    """Plain pictures: red is the class, green says how difficult they are; the darker an occluded one is, the easier."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, N)
    colours = np.stack([labels * 255, rng.permutation(N) / N * 255, np.zeros(N)], axis=1)
    pictures = np.broadcast_to(colours[:, None, None].round(), (N, SIDE, SIDE, 3)).astype(np.uint8)
    return vv.images(pictures, labels.tolist(), name="plain", classes=CLASSES)


def audit(out: Path, *, right: float = 0.4993, page: bool = False, **more: Any) -> vv.Run:
    how = {"size": SIDE, "resize": SIDE, "mean": (0, 0, 0), "std": (1, 1, 1), "classes": CLASSES}
    options: dict[str, Any] = {"studies": STUDIES, "preset": "quick", "device": "cpu", "batch_size": 32} | more
    options.setdefault("data", "memory:plain")
    network = vv.backbone(Planted(right), name="net", **how)
    with pytest.MonkeyPatch.context() as patched:
        if not page:
            patched.setattr(build, "build", lambda run: None)
            patched.setattr(milestones, "writer", lambda out, say: lambda headline: None)
        return vv.audit(network, out=out, **options)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> vv.Run:
    return audit(tmp_path_factory.mktemp("budget") / "narrow", half_width=5.0, page=True)


def held(out: Path) -> dict[str, tuple[Any, ...]]:
    """id -> where the cell ended, and every byte of its numbers."""
    found = {}
    for cell in Store(out / "store").cells():
        parts = [cell.read(part["file"]) for part in cell.facts["parts"]]
        found[cell.id] = (tuple(cell.facts.get("stopped", {}).items()), parts)
    return found


def ends(out: Path) -> dict[str, int]:
    return {cell.id: cell.facts["stopped"]["images"] for cell in Store(out / "store").cells()}


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images are measured, work by work."""
    asked: list[int] = []
    numbers = measure._numbers

    def count(run: Any, work: measure.Work, cell: Cell, of: study.Study) -> Any:
        asked.append(len(work.data.ids))
        return numbers(run, work, cell, of)

    monkeypatch.setattr(measure, "_numbers", count)
    return asked


def test_each_cell_stops_at_the_first_look_at_which_its_interval_is_narrow(narrow: vv.Run, tmp_path: Path) -> None:
    whole = audit(tmp_path / "whole")
    looks, stopped = stats.prefixes(N), set()
    by_work = {cell.facts["work"]: cell for cell in Store(whole.folder / "store").cells()}
    for cell in Store(narrow.folder / "store").cells():
        all_of_it = by_work[cell.facts["work"]]
        items, right = all_of_it.items(), all_of_it.values(["top1"])["top1"]
        drawn = right[seeded(items, 0)]
        for look in looks:
            e = stats.clopper_pearson(int(drawn[: look.images].sum()), look.images, level=1 - look.alpha)
            if (e.high - e.low) / 2 <= 0.05:
                break
        assert cell.facts["stopped"]["images"] == look.images
        assert sorted(cell.items()) == sorted(items[k] for k in seeded(items, 0)[: look.images])
        assert cell.items() == [item for item in items if item in set(cell.items())], "in the order of the set"
        stopped.add(look.images)
    assert len(stopped) > 2, "an easier condition needs fewer images"
    assert max(stopped) < N


def test_a_stopped_cell_holds_the_rows_of_a_limit_of_as_many_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for number in range(300):
        (tmp_path / "set" / CLASSES[number % 2]).mkdir(parents=True, exist_ok=True)
        colour = (255 * (number % 2), int(rng.integers(256)), 0)
        Image.new("RGB", (SIDE, SIDE), colour).save(tmp_path / "set" / CLASSES[number % 2] / f"{number}.png")
    more = {"studies": "clean", "data": f"folder:{tmp_path / 'set'}"}
    (stopped,) = Store(audit(tmp_path / "stopped", half_width=20, **more).folder / "store").cells()
    (limited,) = Store(audit(tmp_path / "limited", limit=256, **more).folder / "store").cells()
    assert stopped.facts["stopped"]["images"] == 256
    assert stopped.facts["parts"] == limited.facts["parts"], "the same bytes"


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_batch_size_changes_nothing(narrow: vv.Run, tmp_path: Path, batch_size: int) -> None:
    other = audit(
        tmp_path / "other", studies="clean" if batch_size == 1 else STUDIES, half_width=5.0, batch_size=batch_size
    )
    there = held(narrow.folder)
    assert held(other.folder) == {identifier: there[identifier] for identifier in held(other.folder)}


def test_the_order_of_the_cells_changes_nothing(
    narrow: vv.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = runner._measure
    monkeypatch.setattr(runner, "_measure", lambda run, cells: once(run, list(reversed(cells))))
    assert held(audit(tmp_path / "other", half_width=5.0).folder) == held(narrow.folder)


def test_a_run_that_is_killed_goes_on_at_its_look(
    narrow: vv.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, done = keeping._part, []

    def killed(*given: Any) -> Any:
        done.append(given)
        if len(done) % 5 == 0:
            raise KeyboardInterrupt
        return part(*given)

    monkeypatch.setattr(keeping, "_part", killed)
    for _ in range(20):
        try:
            run = audit(tmp_path / "other", half_width=5.0, studies="clean")
            break
        except KeyboardInterrupt:
            continue
    assert len(done) > 8
    (identifier,) = held(run.folder)
    assert held(run.folder)[identifier] == held(narrow.folder)[identifier]


def test_a_narrower_interval_measures_the_new_images_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = counted(monkeypatch)
    audit(tmp_path / "run", half_width=9.0)
    first, before = sum(asked), ends(tmp_path / "run")
    assert first == sum(before.values())
    audit(tmp_path / "run", half_width=5.0)
    after = ends(tmp_path / "run")
    assert len(after) == len(before), "what was extended is gone"
    shown = 4 * len(after)
    assert sum(after.values()) - first <= sum(asked) - first <= sum(after.values()) - first + shown
    direct = audit(tmp_path / "direct", half_width=5.0)
    assert held(direct.folder) == held(tmp_path / "run")
    asked.clear()
    whole = audit(tmp_path / "run")
    assert sum(asked) <= N * len(after) - sum(after.values()) + shown
    assert {e["clean top-1"].n for e in whole.signs()} == {N}
    asked.clear()
    audit(tmp_path / "run", half_width=9.0)
    assert sum(asked) <= shown, "a wider interval is taken from what is there"


def lines(run: vv.Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run.table(metric="top1").to_pylist()
    return found


def test_readers_say_where_it_stopped(narrow: vv.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = lines(narrow)
    assert all(row["stopped"] == f"{row['n']:,} of 1,500, stopped early" for row in rows)
    said = {row["stopped"] for row in rows}
    assert len(said) == 3
    (first,) = narrow.signs()
    clean = first["clean top-1"]
    assert (clean.early.images, clean.early.of, clean.early.by) == (clean.n, N, "half_width")
    page = (narrow.folder / "report.html").read_text(encoding="utf-8")
    assert f"n = {clean.n:,} of 1,500, stopped early" in page
    assert {row[3] for row in tables.of_study(narrow.results, "occlusion").rows} == said
    assert f"n = {clean.n:,} of 1,500, stopped early" in narrow._repr_html_()
    assert cli.main(["card", str(narrow.folder), "net"]) == 0
    assert f"{clean.n:,} of 1,500, stopped early" in capsys.readouterr().out
    assert cli.main(["status", str(narrow.folder)]) == 0
    assert "4 stopped early, at 256 to 741 of 1,500 images" in capsys.readouterr().out
    assert cli.main(["table", str(narrow.folder), "--csv", str(tmp_path / "all.csv")]) == 0
    assert f"{clean.n:,} of 1,500, stopped early" in (tmp_path / "all.csv").read_text(encoding="utf-8")


def test_intervals_hold_under_the_looks(narrow: vv.Run) -> None:
    """Each number has the interval of its own look, a number over several that of the look with the fewest images."""
    run = narrow.results
    share = {look.images: look.alpha for look in stats.prefixes(N)}
    for p in run.points:
        e, right = run.estimate(p, "top1"), run.values(p, "top1")[1]
        expected = stats.clopper_pearson(int(right.sum()), len(right), level=1 - share[len(right)])
        assert np.allclose((e.low, e.high), (expected.low, expected.high), rtol=1e-9)
        assert (e.high - e.low) / 2 <= 0.05
    area = next(column for column in signs.columns(run) if column.sign.kind == "area")
    (reading,) = area.readings.values()
    columns = run.aligned([(p, "top1") for p in reading.points])
    n = min(len(run.values(p, "top1")[1]) for p in reading.points)
    assert len(columns) == reading.estimate.n == n == reading.estimate.early.images
    x = np.array([p.condition["fraction"] for p in reading.points])
    expected = stats.area(x, columns, bounds=(0, 1), level=1 - share[n])
    assert np.allclose(reading.estimate[:3], expected[:3], rtol=1e-9)


def test_two_stopped_networks_are_compared_on_what_both_have(narrow: vv.Run, tmp_path: Path) -> None:
    other = audit(tmp_path / "other", right=0.9, half_width=5.0)
    both = results.load(narrow.folder, other.folder)
    (pair,) = compare.pairs(both)
    ends = {tuple(p.fields.items()): len(both.values(p, "top1")[1]) for p in both.points}
    for d in pair.differences("top1"):
        least = min(
            len(both.values(p, "top1")[1])
            for two in pair.matched[0]
            if two[0].fields == d.condition
            for p in two
            if two[0].study == d.study
        )
        look = next(look for look in stats.prefixes(N) if look.images == least)
        assert (d.value.n, d.value.early.images) == (least, least)
        assert f"{least:,} of 1,500, stopped early" in d.verdict
        assert look.alpha < 0.05
    assert ends


def test_a_gate_judges_at_the_look(narrow: vv.Run, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    clean = narrow.signs()[0]["clean top-1"]
    for at_least, status in (
        (clean.low - 1e-6, "pass"),
        (clean.low + 1e-4, "undecided"),
        (clean.high + 1e-4, "breach"),
    ):
        rules.write_text(f'[[rule]]\nsign = "clean top-1"\nat_least = {at_least}\n')
        verdict = vv.gate(narrow, rules)
        assert verdict.status == status
        assert "of 1,500, stopped early" in verdict.outcomes[0].measured


def test_repetitions_that_ended_apart_are_averaged_where_all_are(tmp_path: Path) -> None:
    cells = Store(audit(tmp_path / "run", half_width=5.0, studies="occlusion").folder / "store").cells()
    group = Group(tuple(sorted(cells, key=lambda cell: -cell.facts["stopped"]["images"])), {"top1": COMMON["top1"]})
    _, values = Frame().values(group, (), "top1")
    least = min(cell.facts["stopped"]["images"] for cell in cells)
    assert len(values) == least < max(cell.facts["stopped"]["images"] for cell in cells)
    assert Frame().summary(group, (), "top1").estimate.early == group.early
    assert group.early is not None
    assert group.early.images == least


def test_time_goes_where_intervals_are_widest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ticks = iter(range(10_000))
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: 3.0 * next(ticks)))
    run = audit(tmp_path / "run", minutes=1.0)
    rows = lines(run)
    assert {row["stopped"].partition(", ")[2] for row in rows if row["n"] < N} == {"stopped by time"}
    assert cli.main(["status", str(run.folder)]) == 0
    said = capsys.readouterr().out
    assert "stopped by time, at 256" in said
    assert "stopped early" not in said
    by_n = sorted((row["n"], row["high"] - row["low"]) for row in rows)
    assert by_n[0][0] == 256
    assert by_n[-1][0] > 282
    easy = [row for row in rows if row["value"] > 0.95]
    assert all(row["n"] == 256 for row in easy), "their intervals are narrow at once"
    taken = counted(monkeypatch)
    again = audit(tmp_path / "run", minutes=1.0)
    assert ([row["n"] for row in lines(again)], taken) == ([row["n"] for row in rows], []), "there is nothing to do"


def test_time_measures_at_least_what_is_known(narrow: vv.Run, tmp_path: Path) -> None:
    shutil.copytree(narrow.folder, tmp_path / "run")
    before = {row["n"] for row in lines(narrow)}
    run = audit(tmp_path / "run", minutes=1e-6)
    assert {row["n"] for row in lines(run)} == before


def test_of_both_the_first_to_come_ends_a_cell(tmp_path: Path) -> None:
    rows = lines(audit(tmp_path / "run", half_width=9.0, minutes=60.0, studies="clean"))
    assert [row["stopped"].partition(", ")[2] for row in rows] == ["stopped early"]


SHARED = [
    "tiny:cnn",
    "--data",
    "shapes:test?n=300",
    "--data",
    "shapes:test?n=290",
    "--studies",
    "clean",
    "--preset",
    "quick",
    "--device",
    "cpu",
    "--half-width",
    "10",
]


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_shards_change_nothing(tmp_path: Path, shards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "rate", lambda backbone, **how: 1000.0)
    monkeypatch.setattr(build, "build", lambda run: "no page")
    assert cli.main(["plan", *SHARED, "--out", str(tmp_path / "run")]) == 0
    shutil.copytree(tmp_path / "run", tmp_path / "alone")
    assert cli.main(["run", str(tmp_path / "alone"), "--device", "cpu", "--trust"]) == 0
    for index in reversed(range(shards)):
        share = ["--shard", f"{index}/{shards}", "--device", "cpu", "--trust"]
        assert cli.main(["run", str(tmp_path / "run"), *share]) == 0
    assert held(tmp_path / "run") == held(tmp_path / "alone")
    assert {end[0] for end, _ in held(tmp_path / "run").values()} == {("images", 256)}


def test_a_study_of_several_images_is_measured_whole() -> None:
    asked = request.plan(
        ["tiny:cnn"], ["shapes:test?n=64"], request.sections("clean,fewshot"), preset="quick", half_width=1
    )
    planned = planner.make(asked, device=torch.device("cpu"))
    assert {cell.study: cell.half_width for cell in planned.cells} == {"clean": 1.0, "fewshot": None}
    assert "fewshot is measured whole: it does not measure each image by itself" in planned.notes


def test_of_one_study_some_conditions_are_measured_whole() -> None:
    """The norms of an image are its own, a threshold between those of all images is not."""
    section = request.Section(name="artefacts", values={"rule": ["mixture", "median"]})
    asked = request.plan(["tiny:vit"], ["shapes:test?n=64"], [section], half_width=1)
    planned = planner.make(asked, device=torch.device("cpu"))
    assert {cell.condition.rule: cell.half_width for cell in planned.cells} == {"mixture": None, "median": 1.0}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"half_width": 0.0}, "`half_width` must be above 0 and below 50 points"),
        ({"half_width": -1}, "`half_width` must be above 0 and below 50 points"),
        ({"half_width": 60}, "`half_width` must be above 0 and below 50 points"),
        ({"half_width": float("nan")}, "`half_width` must be above 0 and below 50 points"),
        ({"half_width": "1"}, "`half_width` must be a number"),
        ({"minutes": 0}, "`minutes` must be above 0"),
        ({"minutes": float("inf")}, "`minutes` must be above 0"),
    ],
)
def test_bad_values_are_refused(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(VitalsError, match=said):
        audit(tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_it_does_not_go_with_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text('[[rule]]\nsign = "clean top-1"\nat_least = 0.5\n')
    with pytest.raises(VitalsError, match="Leave out --half-width and --minutes"):
        audit(tmp_path / "run", half_width=1, rules=tmp_path / "rules.toml", until_decided=True)


def test_a_plan_file_says_it_too(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(
        'backbones = ["tiny:cnn"]\ndata = ["shapes:test?n=8"]\nstudies = ["clean"]\nhalf_width = 2\nminutes = 1.5\n'
    )
    plan = plan_file.read(path)
    assert (plan.half_width, plan.minutes) == (2, 1.5)
    assert plan_file.from_dict(plan_file.to_dict(plan), source="it") == plan
    path.write_text(path.read_text().replace("2\n", "nan\n"))
    with pytest.raises(VitalsError, match="line 4: `half_width` must be finite"):
        plan_file.read(path)


def test_a_budget_is_part_of_a_cell_and_not_of_its_work() -> None:
    usual = invented_cells.CELL
    stopped = dataclasses.replace(usual, half_width=1.0)
    assert len({cell_id(usual), cell_id(stopped), cell_id(dataclasses.replace(usual, half_width=2.0))}) == 3
    assert work_id(stopped) == cell_id(usual)
