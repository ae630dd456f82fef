"""A run folder grows: short names, image sets of one study, cells of other runs, contents that change behind a name, what comes first."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_finished import NETWORK

from visionvitals import cli, registry, results
from visionvitals.errors import VitalsError
from visionvitals.plan import plan_file, planner, request
from visionvitals.plan.identity import cell_id
from visionvitals.results import compare, gate, signs
from visionvitals.results.compare import pairs
from visionvitals.run import order, runner, status
from visionvitals.run.runner import Outcome
from visionvitals.run.store import Store

CPU = torch.device("cpu")


def pictures(where: Path, *, grey: int = 0, n: int = 6) -> str:
    """Noise in four classes of the toy network's outputs, as a csv set."""
    where.mkdir(exist_ok=True)
    rng = np.random.default_rng(grey)
    for k in range(n):
        Image.fromarray(rng.integers(grey, 256, (32, 32, 3), dtype=np.uint8)).save(where / f"{k}.png")
    (where / "list.csv").write_text("path,label\n" + "".join(f"{k}.png,{k % 4}\n" for k in range(n)))
    return f"csv:{where / 'list.csv'}"


def measure(out: Path, backbones: list[str], data: list[str], studies: str = "clean", **more: Any) -> Outcome:
    execution = {key: more.pop(key) for key in ("reuse", "milestone", "rates") if key in more}
    asked = request.plan(backbones, data, request.sections(studies), **more)
    return runner.execute(planner.make(asked, device=CPU), out=out, device=CPU, command=("vitals", "x"), **execution)


def test_a_short_name_is_what_tables_call_it(tmp_path: Path, toy_backbone: str) -> None:
    sets = [f"day={pictures(tmp_path / 'a')}", pictures(tmp_path / "b", grey=9)]
    measure(tmp_path / "run", [f"first net={toy_backbone}", f"{toy_backbone}?seed=1"], sets)
    run = results.load(tmp_path / "run")
    assert next(iter(run.backbones)) == "first net"
    assert run.backbones["first net"]["spec"] == toy_backbone, "the spelling stays what it is"
    assert next(iter(run.images)) == "day"
    assert {p.backbone for p in status.of(tmp_path / "run")[0]} == {"first net", f"{toy_backbone}?seed=1"}


def test_a_name_decides_no_number(tmp_path: Path, toy_backbone: str) -> None:
    data = pictures(tmp_path / "a")
    assert measure(tmp_path / "run", [toy_backbone], [data]).measured == 1
    assert measure(tmp_path / "run", [f"net={toy_backbone}"], [f"photos={data}"]).found == 1
    assert [*results.load(tmp_path / "run").backbones] == ["net"], "the later name is the one that is shown"


def test_the_networks_of_one_name_of_two_runs_are_compared(tmp_path: Path, toy_backbone: str) -> None:
    data = pictures(tmp_path / "a", n=12)
    for name, seed in (("old", 0), ("new", 1)):
        measure(tmp_path / name, [f"net={toy_backbone}?seed={seed}"], [data])
    run = results.load(tmp_path / "old", tmp_path / "new")
    (pair,) = pairs(run)
    assert [run.backbones[b]["spec"][-1] for b in (pair.a, pair.b)] == ["0", "1"]
    assert [d.value.n for d in pair.differences("top1")] == [12]
    assert len(run.backbones) == 2, "one name, two weights: both are there, and told apart"
    (tmp_path / "rules.toml").write_text('[[rule]]\nsign = "clean top-1"\nnot_worse_by = 0.99\n')
    (outcome,) = gate.judged(tmp_path / "new", tmp_path / "rules.toml", baseline=tmp_path / "old")[0].outcomes
    assert (outcome.status, outcome.estimate.n) == ("pass", 12), "the gate pairs them too"


@pytest.mark.parametrize(
    ("backbones", "data", "message"),
    [
        (["a=tiny:vit", "a=tiny:cnn"], ["shapes:test"], "A name must be used for one spelling only. Got 'a'"),
        (["a=tiny:vit", "tiny:vit"], ["shapes:test"], "`backbones` must name each once"),
        (["tiny:vit"], ["a=shapes:test", "a=shapes:train"], "A name must be used for one spelling only"),
        (["a=b=tiny:vit"], ["shapes:test"], "A spelling must be"),
        (["a="], ["shapes:test"], "A spelling must be"),
    ],
)
def test_names_that_say_nothing_clear(backbones: list[str], data: list[str], message: str) -> None:
    with pytest.raises(VitalsError, match=message):
        planner.make(request.plan(backbones, data, request.sections("clean")), device=CPU)


@pytest.mark.parametrize(
    ("text", "name", "spelling"),
    [
        ("deit=timm:deit@w.pth?a=1", "deit", "timm:deit@w.pth?a=1"),
        ("größe 1=tiny:vit", "größe 1", "tiny:vit"),
        ("folder:a=b", "", "folder:a=b"),
        ("./a=b/net.py:build", "", "./a=b/net.py:build"),
        ("=tiny:vit", "", "=tiny:vit"),
        (" =tiny:vit", "", " =tiny:vit"),
    ],
)
def test_where_a_name_ends(text: str, name: str, spelling: str) -> None:
    assert registry.named(text) == (name, spelling)


def test_a_condition_may_use_a_short_name(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(
        'backbones = ["a=tiny:vit", "b=tiny:cnn"]\ndata = ["shapes:test?n=16"]\n'
        '[[studies]]\nname = "salient"\nsource = "model"\nmodel = "a"\nmass = 0.5\ngrid = [8, 8]\n'
    )
    planned = planner.make(plan_file.read(file), device=CPU)
    assert {cell.condition.model for cell in planned.cells} == {"tiny:vit"}


def test_a_study_has_image_sets_of_its_own(tmp_path: Path, toy_backbone: str, toy_study: str) -> None:
    shared, own = pictures(tmp_path / "a"), pictures(tmp_path / "b", grey=9)
    outcome = measure(
        tmp_path / "run", [toy_backbone], [shared], f"clean,{toy_study}", data_for=[("toy_study", f"own={own}")]
    )
    assert outcome.failed == ()
    found = {(p.study, p.images) for p in results.load(tmp_path / "run").points}
    assert found == {("clean", results.load(tmp_path / "run").points[0].images), ("toy_study", "own")}
    with pytest.raises(VitalsError, match=r"of a study that is asked for. Got 'oclusion=x:y'. .*clean"):
        request.plan([toy_backbone], [shared], request.sections("clean"), data_for=[("oclusion", "x:y")])
    with pytest.raises(VitalsError, match=r"must name an image set for every study. Got 'none for clean'"):
        request.plan([toy_backbone], [], request.sections("clean,occlusion"), data_for=[("occlusion", "shapes:test")])


def test_a_plan_file_says_the_same_and_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(
        'backbones = ["a=tiny:vit"]\ndata = ["day=shapes:test?n=8"]\n'
        'studies = ["clean", {name = "occlusion", data = ["night=shapes:test?n=9"]}]\n'
    )
    asked = plan_file.read(file)
    assert asked.names == {"tiny:vit": "a", "shapes:test?n=8": "day", "shapes:test?n=9": "night"}
    assert [asked.sets_of(section) for section in asked.studies] == [("shapes:test?n=8",), ("shapes:test?n=9",)]
    assert plan_file.from_dict(plan_file.to_dict(asked), source="x") == asked
    file.write_text('backbones = ["tiny:vit"]\n[[studies]]\nname = "clean"\ndata = "shapes:test"\n')
    with pytest.raises(VitalsError, match=r"line 4: `data` of `clean` must be a list of image sets"):
        plan_file.read(file)


def test_what_has_another_content_now_is_superseded(tmp_path: Path, toy_backbone: str, capsys: Any) -> None:
    out, data = tmp_path / "run", pictures(tmp_path / "a")
    other = pictures(tmp_path / "b", grey=9)
    measure(out, [toy_backbone], [data, other])
    before = {p.images: results.load(out).estimate(p, "cross_entropy").value for p in results.load(out).points}
    pictures(tmp_path / "a", grey=100)
    assert measure(out, [toy_backbone], [data]).measured == 1
    said = capsys.readouterr().err
    assert f"1 finished cells of the run in {out}" in said
    assert f"images of {data}" in said
    run = results.load(out)
    assert len(run.points) == 2, "the old pictures are left out, the other set stays"
    now = {p.images: run.estimate(p, "cross_entropy").value for p in run.points}
    assert now[[*run.images][1]] == before[[*run.images][1]]
    assert set(now.values()) - set(before.values())
    assert status.of(out)[2] == 1
    pictures(tmp_path / "a")
    assert measure(out, [toy_backbone], [data]).measured == 0, "what comes back is there"
    assert results.load(out).estimate(results.load(out).points[0], "cross_entropy").value in before.values()
    assert status.of(out)[2] == 1, "now the other one is superseded"


def test_a_name_stands_for_one_content_in_all_requests(tmp_path: Path, toy_backbone: str) -> None:
    out, data = tmp_path / "run", pictures(tmp_path / "a")
    measure(out, [f"net={toy_backbone}"], [f"day={data}"])
    moved = pictures(tmp_path / "moved")
    assert measure(out, [f"net={toy_backbone}"], [f"day={moved}"]).found == 1, "the same pictures elsewhere"
    other = pictures(tmp_path / "b", grey=9)
    with pytest.raises(VitalsError, match=r"`day` must mean the same content.*Give another name"):
        measure(out, [f"net={toy_backbone}"], [f"day={other}"])
    with pytest.raises(VitalsError, match=r"`net` must mean the same content"):
        measure(out, [f"net={toy_backbone}?seed=1"], [f"day={moved}"])


def test_one_content_is_one_set_however_it_is_spelled(tmp_path: Path, toy_backbone: str) -> None:
    """On the second day the pictures lie elsewhere, and the weights have another name: what is kept still finds its clean accuracy."""
    first, again = (pictures(tmp_path / name, n=40) for name in ("a", "b"))
    out = tmp_path / "run"
    measure(out, [f"net={toy_backbone}"], [f"day={first}"], "clean")
    other = toy_backbone.replace("toy.py", "./toy.py") if "toy.py" in toy_backbone else toy_backbone
    measure(out, [other], [f"night={again}"], "occlusion", preset="quick")
    run = results.load(out)
    assert ([*run.images], {p.images for p in run.points}) == (["night"], {"night"})
    assert len(run.backbones) == 1
    assert not any(run.lacking)
    (tmp_path / "rules.toml").write_text('[[rule]]\nstudy = "clean"\nat_least = 0.0\n')
    (outcome,) = gate.judged(out, tmp_path / "rules.toml")[0].outcomes
    assert (outcome.data, outcome.estimate.n) == ("night", 40)
    assert {p.images for p in status.of(out)[0]} == {"day", "night"}


def test_a_sign_over_several_points_waits_for_all_that_are_asked_for(tmp_path: Path, toy_backbone: str) -> None:
    out, data = tmp_path / "run", pictures(tmp_path / "a", n=40)
    measure(out, [toy_backbone], [data], "clean,occlusion", preset="quick")
    title, whole = "area under occlusion", results.load(out)
    (cell,) = {c.id: c for p in whole.of("occlusion") if p.fields["fraction"] == 0.5 for c in p.cells}.values()
    (one,) = signs.vital_signs(whole)
    shutil.rmtree(out / "store" / "occlusion" / cell.id)
    (less,) = signs.vital_signs(results.load(out))
    assert one[title].n == 40
    assert title not in less, "it would be an area over what happens to be there"
    (tmp_path / "rules.toml").write_text(f'[[rule]]\nsign = "{title}"\nat_least = 0.0\n')
    (outcome,) = gate.judged(out, tmp_path / "rules.toml")[0].outcomes
    assert outcome.status == "missing"


def test_what_a_run_superseded_stays_out_of_it_beside_a_run_that_means_it(tmp_path: Path, toy_backbone: str) -> None:
    run, old = tmp_path / "run", tmp_path / "old"
    data = pictures(tmp_path / "a")
    for out in (old, run):
        measure(out, [toy_backbone], [data])
    pictures(tmp_path / "a", grey=100)
    measure(run, [toy_backbone], [data])
    both = results.load(run, old)
    (now,), (before,) = (compare.part(both, side).points for side in (0, 1))
    assert both.images[now.images]["digest"] != both.images[before.images]["digest"]
    (tmp_path / "rules.toml").write_text('[[rule]]\nsign = "clean top-1"\nat_least = 0.1\n')
    alone, beside = (gate.judged(run, tmp_path / "rules.toml", baseline=base)[0] for base in (None, old))
    assert [(o.status, o.estimate, o.level) for o in beside.outcomes] == [
        (o.status, o.estimate, o.level) for o in alone.outcomes
    ]
    assert len(alone.outcomes) == 1


def test_an_earlier_request_is_planned_anew_when_the_run_goes_on(tmp_path: Path, toy_backbone: str) -> None:
    out, data = tmp_path / "run", pictures(tmp_path / "a")
    assert cli.main(["audit", toy_backbone, "--data", data, "--studies", "clean", "--out", str(out)]) == 0
    assert cli.main(["audit", toy_backbone, "--data", data, "--studies", "corner", "--out", str(out)]) == 0
    count = len(results.load(out).points)
    pictures(tmp_path / "a", grey=100)
    assert cli.main(["audit", toy_backbone, "--data", data, "--studies", "corner", "--out", str(out)]) == 0
    assert {p.study for p in results.load(out).points} == {"corner"}
    assert [(p.study, p.done > 0, p.missing) for p in status.of(out)[0]] == [("corner", True, 0), ("clean", False, 1)]
    assert [each.study for each in results.load(out).lacking[0]] == ["clean"]
    assert cli.main(["run", str(out), "--trust"]) == 0
    assert len(results.load(out).points) == count


def test_clean_removes_superseded_cells_and_nothing_else(tmp_path: Path, toy_backbone: str, capsys: Any) -> None:
    out, data = tmp_path / "run", pictures(tmp_path / "a")
    measure(out, [toy_backbone], [data])
    (old,) = Store(out / "store").ids()
    pictures(tmp_path / "a", grey=100)
    measure(out, [toy_backbone], [data])
    (new,) = {*Store(out / "store").ids()} - {old}
    assert cli.main(["status", str(out)]) == 0
    assert "1 superseded cells are left out of the numbers; to remove them: vitals clean" in capsys.readouterr().out
    assert cli.main(["clean", str(out)]) == 0
    assert "1 superseded cells removed, 0.0 MB freed" in capsys.readouterr().out
    assert Store(out / "store").ids() == [new]
    assert not (out / "store" / "clean" / old).exists()
    assert status.of(out)[2] == 0
    assert cli.main(["clean", str(out)]) == 0
    assert measure(out, [toy_backbone], [data]).found == 1
    assert cli.main(["clean", str(tmp_path)]) == 2


def test_a_network_that_answers_otherwise_under_an_old_digest_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first weights were superseded and come back, and its helper has changed in between: their cells must not come back with them."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "helper_g.py").write_text("def scale(): return 1.0\n")
    net, data = tmp_path / "net.py", pictures(tmp_path / "a")
    spelled = f"python:{net}:build?size=32&order=as-is"
    net.write_text(NETWORK.format(helper="helper_g"))
    measure(tmp_path / "run", [spelled], [data])
    net.write_text(NETWORK.format(helper="helper_g").replace("* helper_g", "* -helper_g"))
    measure(tmp_path / "run", [spelled], [data])
    net.write_text(NETWORK.format(helper="helper_g"))
    sys.modules["helper_g"].scale = lambda: -1.0  # type: ignore[attr-defined]
    with pytest.raises(VitalsError, match=r"(?s)its answers differ by .* of the largest.*must not mix"):
        measure(tmp_path / "run", [spelled], [data])
    sys.modules["helper_g"].scale = lambda: -1.0  # type: ignore[attr-defined]
    outcome = measure(tmp_path / "other", [spelled], [data], reuse=[tmp_path / "run"])
    assert (outcome.measured, outcome.found) == (1, 0), "nothing is taken of a network that answered otherwise"


def test_the_same_weights_with_another_preprocessing_join_a_run(tmp_path: Path) -> None:
    """Their answers differ, and so do the ids of their cells: nothing could mix. It was refused, where the warning of a wrong mean sends people."""
    network, data = "tiny:cnn", "shapes:test?n=6"
    assert measure(tmp_path / "run", [f"{network}?mean=0.9"], [data]).measured == 1
    assert measure(tmp_path / "run", [network], [data]).measured == 1
    assert len(results.load(tmp_path / "run").backbones) == 2


def test_equal_cells_are_taken_from_another_run(tmp_path: Path, toy_backbone: str, capsys: Any) -> None:
    data = pictures(tmp_path / "a")
    measure(tmp_path / "first", [toy_backbone], [data], "clean,corner")
    shutil.copytree(tmp_path / "a", tmp_path / "moved")
    moved = f"csv:{tmp_path / 'moved' / 'list.csv'}"
    nets = [toy_backbone, f"{toy_backbone}?seed=1"]
    outcome = measure(tmp_path / "second", nets, [moved], "clean,corner", reuse=[tmp_path / "first"])
    kinds = len(Store(tmp_path / "first" / "store").ids())
    assert (outcome.measured, outcome.found) == (kinds, kinds)
    assert f"{kinds} cells taken from" in capsys.readouterr().err
    run = results.load(tmp_path / "second")
    assert len(run.images) == 1, "a taken cell is spelled as here"
    assert run.images[next(iter(run.images))]["spec"] == moved
    alone = measure(tmp_path / "third", [toy_backbone], [moved], "clean,corner")
    assert alone.measured == kinds
    for identifier in Store(tmp_path / "third" / "store").ids():
        taken, measured = (Store(tmp_path / name / "store").cell(identifier) for name in ("second", "third"))
        for name in taken.facts["sha256"]:
            assert taken.read(name) == measured.read(name)
    with pytest.raises(VitalsError, match=r"A run folder must hold a `plan.json`"):
        measure(tmp_path / "fourth", [toy_backbone], [data], reuse=[tmp_path / "a"])


def test_a_damaged_cell_is_not_taken(tmp_path: Path, toy_backbone: str) -> None:
    data = pictures(tmp_path / "a")
    measure(tmp_path / "first", [toy_backbone], [data])
    (part,) = (tmp_path / "first" / "store").glob("*/*/*.parquet")
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    outcome = measure(tmp_path / "second", [toy_backbone], [data], reuse=[tmp_path / "first"])
    assert (outcome.measured, outcome.found) == (1, 0)


def test_what_signs_are_read_from_comes_first_and_repetitions_last() -> None:
    sections = request.sections("occlusion,shuffle,attack,corruption")
    asked = request.plan(["tiny:vit", "tiny:cnn"], ["shapes:test?n=16"], (*sections, *request.sections("clean")))
    planned = planner.make(asked, device=CPU)
    cost = order.headline(planned)
    first = [cell for cell in planned.cells if cell_id(cell) in cost]
    assert {(c.study, c.backbone.spec) for c in first} == {(c.study, c.backbone.spec) for c in planned.cells}
    assert all(getattr(cell.condition, "run", 0) == 0 for cell in first)
    kept = [c for c in first if c.study == "occlusion" and c.condition.fraction == 0.5 and c.condition.fill == "black"]
    assert len(kept) == 2
    attack = [c for c in first if c.study == "attack" and c.backbone.spec == "tiny:vit"]
    assert {(c.condition.method, c.condition.eps * 255) for c in attack} == {("fgsm", 1.0), ("pgd", 1.0)}
    ordered = sorted(first, key=lambda cell: cost[cell_id(cell)])
    assert {cell.study for cell in ordered[:2]} == {"clean"}
    assert ordered[-1].condition.method == "pgd"
    assert (
        len([c for c in first if c.study == "occlusion"])
        < len([c for c in planned.cells if c.study == "occlusion"]) / 2
    )
    rest = order.widest_first(
        [cell for cell in planned.cells if cell_id(cell) not in cost],
        {("shuffle", "tiny:cnn", "shapes:test?n=16"): 0.3},
    )
    assert rest[0].study == "shuffle"
    assert rest[0].backbone.spec == "tiny:cnn"
    runs = [getattr(cell.condition, "run", 0) for cell in rest]
    assert runs == sorted(runs)


def test_the_order_changes_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("usual", "planned"):
        measure(tmp_path / name, ["tiny:vit"], ["shapes:test?n=16"], "occlusion,clean,lesion", preset="quick")
        monkeypatch.setattr(order, "headline", lambda planned: {})
    stores = [Store(tmp_path / name / "store") for name in ("usual", "planned")]
    assert stores[0].ids() == stores[1].ids()
    for identifier in stores[0].ids():
        one, two = (store.cell(identifier) for store in stores)
        assert one.facts["sha256"] == two.facts["sha256"]


def test_a_milestone_is_reached_once_all_signs_are_there(tmp_path: Path) -> None:
    told: list[tuple[bool, int]] = []

    def milestone(headline: bool) -> None:
        told.append((headline, len(Store(tmp_path / "run" / "store").ids())))

    outcome = measure(
        tmp_path / "run", ["tiny:vit"], ["shapes:test?n=16"], "clean,corner", preset="quick", milestone=milestone
    )
    assert [headline for headline, _ in told].count(True) == 1
    count = next(n for headline, n in told if headline)
    assert 0 < count < outcome.measured
    assert [n for headline, n in told if not headline] == list(range(1, outcome.measured + 1))


def test_the_time_is_said_where_it_is_long(tmp_path: Path, toy_backbone: str, capsys: Any) -> None:
    data = pictures(tmp_path / "a")
    measure(tmp_path / "run", [toy_backbone], [data], "clean,corner", rates={toy_backbone: 0.25})
    assert "5 cells, about 2 min 0 s of forward passes, of the vital signs about" in capsys.readouterr().err
    measure(tmp_path / "fast", [toy_backbone], [data], "clean,corner", rates={toy_backbone: 25.0})
    assert "of forward passes" not in capsys.readouterr().err


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_leaves_a_report_that_says_what_is_missing(tmp_path: Path, sent: int, code: int) -> None:
    command = [sys.executable, "-m", "visionvitals", "audit", "tiny:vit", "--data", "shapes:test?n=2048"]
    command += ["--studies", "clean,occlusion", "--out", str(tmp_path / "run")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        for _ in iter(started.stderr.readline, ""):
            if any((tmp_path / "run" / "store").glob("*/*/cell.json")):
                break
        os.kill(started.pid, sent)
        out, err = started.communicate(timeout=120)
    assert started.returncode == code, err
    assert "cells are kept. To go on: vitals run" in err
    assert f"Report so far: {tmp_path / 'run' / 'report.html'}" in out
    page = (tmp_path / "run" / "report.html").read_text()
    assert "of the plan are not measured yet" in page


def test_a_stopped_run_does_not_begin_its_next_request(tmp_path: Path, toy_backbone: str, monkeypatch: Any) -> None:
    out, data = tmp_path / "run", pictures(tmp_path / "a")
    for studies in ("clean", "corner"):
        words = ["plan", toy_backbone, "--data", data, "--studies", studies, "--out", str(out)]
        assert cli.main(words) == 0
    begun: list[str] = []

    def stop(asked: Any, **_: Any) -> None:
        begun.append(asked.studies[0].name)
        raise KeyboardInterrupt

    monkeypatch.setattr("visionvitals.deciding.measure", stop)
    assert cli.main(["run", str(out), "--trust"]) == 130
    assert begun == ["clean"]


def test_one_page_of_several_runs(tmp_path: Path, toy_backbone: str) -> None:
    data = pictures(tmp_path / "a")
    for name, seed in (("a", 0), ("b", 1)):
        measure(tmp_path / f"run_{name}", [f"net {name}={toy_backbone}?seed={seed}"], [data])
    folders = [str(tmp_path / f"run_{name}") for name in "ab"]
    assert cli.main(["report", *folders]) == 2
    assert cli.main(["report", *folders, "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "net a" in page
    assert "net b" in page
    assert json.loads((tmp_path / "run_a" / "plan.json").read_text())["plan"]["backbones"][0].startswith("net a=")
