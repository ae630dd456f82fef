"""From cells to numbers: items first, runs averaged within the item, and nothing averaged that differs in more than its run."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import fake_run
import numpy as np
import pyarrow.parquet as pq
import pytest

from invented_cells import CELL, OTHER, Items, keep
from visionvitals import audit, cli, stats, study
from visionvitals.core import Place
from visionvitals.errors import VitalsError
from visionvitals.results import Run, by_image, compare, frame, load, numbers, table
from visionvitals.run import groups
from visionvitals.terminal import print_table, show_numbers


def top1(run: Run) -> list[tuple[list[str], list[float]]]:
    """(items, values) of every point."""
    found = [run.values(p, "top1") for p in run.points]
    return [(run.items(key), values.tolist()) for key, values in found]


def test_runs_are_averaged_within_the_image(tmp_path: Path) -> None:
    keep(tmp_path, {"a": 1.0, "b": 0.0})
    keep(tmp_path, {"a": 0.0, "b": 0.0}, run=1)
    run = load(tmp_path)
    (point,) = run.points
    assert (point.condition, point.runs, point.metrics) == ({"fraction": 0.5, "other": ""}, 2, ("top1",))
    assert top1(run) == [(["a", "b"], [0.5, 0.0])]
    assert run.estimate(point, "top1")[::3] == (0.25, 2)
    assert run.summary(point, "top1").over_runs == pytest.approx(0.5 / 2**0.5)  # of 0.5 and 0
    assert run.summary(point, "top1").over_items == pytest.approx(0.5 / 2**0.5)  # of 0.5 and 0, averaged over the runs


def test_where_all_images_of_a_run_share_a_patch_the_runs_count_too(tmp_path: Path) -> None:
    """Two splits of one set whose patches fool a quarter and none of the images."""
    version = study.load("adversarial_patch").version
    items = [f"i{k}" for k in range(40)]
    for run, wrong in enumerate((10, 0)):
        first = {item: float(k >= wrong) for k, item in enumerate(items)}
        keep(tmp_path, first, run=run, study="adversarial_patch", version=version)
        second = {item: float(k >= wrong + 20 * run) for k, item in enumerate(items)}
        keep(tmp_path, second, run=run, study="adversarial_patch", version=version, backbone=OTHER)
    found = load(tmp_path)
    (point,) = (p for p in found.points if p.backbone == "tiny:vit")
    over_images = stats.estimate(np.array([0.5] * 10 + [1.0] * 30))
    e = found.estimate(point, "top1")
    assert e == stats.over_draws(over_images, np.array([0.75, 1.0]), bounds=(0, 1))
    assert e.low < stats.estimate(np.array([0.75, 1.0])).low + 0.01 < over_images.low
    (d,) = compare.pair(found, "tiny:vit", "tiny:cnn").differences("top1")
    first, second = np.array([0.5] * 10 + [1.0] * 30), np.array([0.0] * 10 + [0.5] * 10 + [1.0] * 20)
    over_images = stats.paired_difference(second, first, bounds=(0, 1))
    assert d.value == stats.over_draws(over_images, np.array([0.0, -0.5]), bounds=(-1, 1))
    assert (d.a, d.value.low < over_images.low) == (e, True)


def test_one_shared_patch_has_no_interval(tmp_path: Path) -> None:
    version = study.load("adversarial_patch").version
    for backbone in (CELL.backbone, OTHER):
        values = {f"i{k}": float(k > 3) for k in range(40)}
        keep(tmp_path, values, study="adversarial_patch", version=version, backbone=backbone)
    found = load(tmp_path)
    e = found.estimate(found.points[0], "top1")
    assert (e.value, e.n) == (0.9, 40)
    assert np.isnan((e.low, e.high)).all()
    (d,) = compare.pair(found, "tiny:vit", "tiny:cnn").differences("top1")
    assert (d.value.value, d.value.n, d.decided) == (0, 40, False)
    assert np.isnan((d.value.low, d.value.high)).all()


def test_runs_with_other_images_are_averaged_image_by_image(tmp_path: Path) -> None:
    keep(tmp_path, {"a": 1.0, "b": 0.0, "c": float("nan")})
    keep(tmp_path, {"b": 1.0, "c": 1.0, "d": 0.0}, run=1)
    assert top1(load(tmp_path)) == [(["a", "b", "c", "d"], [1.0, 0.5, 1.0, 0.0])]
    assert load(tmp_path).estimate(load(tmp_path).points[0], "top1").n == 4


def test_an_image_without_a_value_in_one_run_has_the_mean_of_the_others(tmp_path: Path) -> None:
    keep(tmp_path, {"a": 1.0, "b": float("nan")})
    keep(tmp_path, {"a": float("nan"), "b": float("nan")}, run=1)
    ((items, values),) = top1(load(tmp_path))
    assert (items, values[0], np.isnan(values[1])) == (["a", "b"], 1.0, True)


def test_a_cell_in_several_parts_reads_as_one(tmp_path: Path) -> None:
    places: dict[Place, Items] = {("x", 1): {"a": 1.0, "b": 0.0, "c": 1.0}, ("y", 2): {"b": 0.5, "c": 0.25}}
    for parts in (1, 2, 3):
        root = tmp_path / str(parts)
        keep(root, places, parts=parts, axes=("where", "level"))
        run = load(root)
        assert [p.condition for p in run.points] == [
            {"fraction": 0.5, "other": "", "where": "x", "level": 1},
            {"fraction": 0.5, "other": "", "where": "y", "level": 2},
        ]
        assert top1(run) == [(["a", "b", "c"], [1.0, 0.0, 1.0]), (["b", "c"], [0.5, 0.25])]


@pytest.mark.parametrize(
    ("field", "first", "second"),
    [
        ("limit", 25, 46),
        ("limit", None, 25),
        ("seed", 0, 1),
        ("version", 1, 2),
        ("source", "", "f" * 64),
        ("decoder", "pillow", "fast"),
        ("companions", (("tiny:cnn", "aa"),), (("tiny:cnn", "bb"),)),
    ],
)
def test_what_decides_a_number_is_never_averaged(tmp_path: Path, field: str, first: Any, second: Any) -> None:
    keep(tmp_path / "one", {"a": 1.0, "b": 1.0}, **{field: first})
    keep(tmp_path / "two", {"a": 0.0, "c": 0.0, "d": 0.0}, **{field: second})
    rows = table.rows(load(tmp_path / "one", tmp_path / "two"))
    assert [(row["n"], row["runs"], row["value"]) for row in rows] == [(2, 1, 1.0), (3, 1, 0.0)] or [
        (row["n"], row["runs"], row["value"]) for row in rows
    ] == [(3, 1, 0.0), (2, 1, 1.0)]
    assert len({row[field] for row in rows}) == 2
    assert field not in table.rows(load(tmp_path / "one"))[0]


def test_other_weights_data_and_preprocessing_behind_one_spelling_are_kept_apart(tmp_path: Path) -> None:
    keep(tmp_path, {"a": 1.0})
    keep(tmp_path, {"a": 0.0}, backbone=dataclasses.replace(CELL.backbone, digest="dd"))
    wider = dataclasses.replace(CELL.backbone.preprocess, std=(0.25,) * 3)
    keep(tmp_path, {"a": 0.5}, backbone=dataclasses.replace(CELL.backbone, preprocess=wider))
    keep(tmp_path, {"a": 0.25}, images=dataclasses.replace(CELL.images, digest="ee"))
    rows = table.rows(load(tmp_path))
    assert sorted(row["value"] for row in rows) == [0.0, 0.25, 0.5, 1.0]
    assert len({row["backbone"] for row in rows}) == 3
    assert len({row["data"] for row in rows}) == 2


def test_one_run_under_two_orders_of_the_classes_is_no_repetition(tmp_path: Path) -> None:
    for classes in (("x", "y"), ("y", "x")):
        keep(tmp_path, {"a": 1.0}, backbone=dataclasses.replace(CELL.backbone, classes=classes))
    rows = table.rows(load(tmp_path))
    assert [row["runs"] for row in rows] == [1, 1]
    assert {row["backbone"] for row in rows} == {"tiny:vit (classes 1)", "tiny:vit (classes 2)"}


def test_a_cell_that_two_folders_hold_counts_once(tmp_path: Path) -> None:
    keep(tmp_path / "one", {"a": 1.0, "b": 0.0})
    keep(tmp_path / "two", {"a": 1.0, "b": 0.0})
    (row,) = table.rows(load(tmp_path / "one", tmp_path / "two"))
    assert (row["runs"], row["n"]) == (1, 2)


def test_rows_have_a_column_for_every_field_and_are_in_order(tmp_path: Path) -> None:
    one = {"a": 1.0, "b": 0.0, "c": 1.0}
    keep(tmp_path, one)
    for backbone in (CELL.backbone, OTHER):
        keep(tmp_path, one, fraction=0.25, backbone=backbone)
    found = table.rows(load(tmp_path))
    assert [(row["fraction"], row["backbone"]) for row in found] == [
        (0.25, "tiny:cnn"),
        (0.25, "tiny:vit"),
        (0.5, "tiny:vit"),
    ]
    first = found[0]
    assert list(first) == [
        *(
            "study",
            "backbone",
            "data",
            "fraction",
            "other",
            "metric",
            "n",
            "runs",
            "value",
            "low",
            "high",
            "std_over_items",
            "std_over_runs",
        )
    ]
    assert first["metric"] == "top1"  # an identifier such as `prediction` is never averaged
    assert (first["value"], first["low"], first["high"], first["n"]) == stats.wilson(2, 3)[:4]
    assert first["std_over_items"] == pytest.approx(3**-0.5)  # of 1, 1, 0
    with pytest.raises(VitalsError, match=r"`metric` must be in the run. Got 'top2'. Did you mean top1"):
        table.rows(load(tmp_path), metric="top2")


def test_differences_are_paired_over_the_common_images(tmp_path: Path) -> None:
    keep(tmp_path, {"a": 1.0, "b": 1.0, "c": 0.0})
    keep(tmp_path, {"d": 1.0, "c": 0.0, "b": 0.0}, backbone=OTHER)
    keep(tmp_path, {"a": 1.0}, fraction=0.9, backbone=OTHER)
    run = load(tmp_path)
    (row,) = compare.pair(run, "tiny:vit", "tiny:cnn").differences()
    assert (dict(row.condition), row.title, row.value.n) == ({"fraction": 0.5, "other": ""}, "top1", 2)
    assert row.value.low <= row.value.value == -0.5 <= row.value.high
    first, second = (p for p in run.points if p.condition["fraction"] == 0.5)
    assert sorted(run.aligned([(first, "top1"), (second, "top1")]).tolist()) == [[0.0, 0.0], [0.0, 1.0]]  # cnn, vit
    with pytest.raises(VitalsError, match=r"A backbone must be measured in the run. Got 'tiny:vitt'"):
        compare.pair(run, "tiny:vitt", "tiny:cnn")


def test_tables_are_written_as_csv_and_parquet(tmp_path: Path) -> None:
    keep(tmp_path, {"a": 1.0, "b": 0.0})
    rows = table.rows(load(tmp_path))
    table.write(rows, tmp_path / "t.csv")
    table.write(rows, tmp_path / "t.parquet")
    with (tmp_path / "t.csv").open() as file:
        (read,) = csv.DictReader(file)
    assert (read["study"], float(read["value"]), int(read["n"])) == ("holes", 0.5, 2)
    assert pq.read_table(tmp_path / "t.parquet").to_pylist()[0]["low"] == rows[0]["low"]
    with pytest.raises(VitalsError, match=r"must end in \.csv or \.parquet. Got 't\.txt'"):
        table.write(rows, tmp_path / "t.txt")
    mixed: list[dict[str, Any]] = [
        {"blocks": 12, "value": 0.5},
        {"blocks": "last", "value": 1.0},
        {"blocks": None, "value": 0.0},
    ]
    table.write(mixed, tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_text().splitlines()[1:] == ['"12",0.5', '"last",1', ",0"]
    (tmp_path / "file").touch()
    with pytest.raises(VitalsError, match="The table must be written to"):
        table.write(rows, tmp_path / "file" / "t.csv")


def test_memory_does_not_grow_with_the_run_and_numbers_do_not_depend_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for k in range(12):
        values = {f"img-{i}": float(v) for i, v in enumerate(rng.integers(0, 2, 50))}
        keep(tmp_path, values, fraction=k / 4, run=k % 2)
    expected = table.rows(load(tmp_path))
    monkeypatch.setattr(frame, "CAPACITY", 1000)
    run = load(tmp_path)
    assert json.dumps(table.rows(run)) == json.dumps(expected)
    assert run.frame._arrays._bytes <= 1000


def test_a_run_of_an_older_edition_is_refused_with_what_to_do(tmp_path: Path) -> None:
    identifier = keep(tmp_path, {"a": 1.0})
    path = tmp_path / "store" / "holes" / identifier / "cell.json"
    path.write_text(json.dumps({"schema": 2, "id": identifier, "cell": {}}))
    with pytest.raises(VitalsError, match=r"cells of this edition \(schema 3\). Got 'older ones'. `vitals run`"):
        load(tmp_path)
    keep(tmp_path, {"a": 1.0}, fraction=0.75)
    run = load(tmp_path)
    assert len(run.points) == 1
    assert "an older edition of visionvitals wrote them: 1 of the cells" in run.damage[0]


def test_a_table_in_a_narrow_terminal_folds_its_widest_column(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[list[Any]] = [["x" * 30, "occlusion", 0.51234], ["画像", "clean", None]]
    print_table(["name", "study", "value"], rows)
    wide_lines = capsys.readouterr().out.splitlines()
    assert wide_lines[3] == f" {'x' * 30}   occlusion   0.5123"
    assert wide_lines[4] == f" 画像{' ' * 26}   clean"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    print_table(["name", "study", "value"], rows)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert "".join(line.split()[0] for line in lines[3:6]) == "x" * 30


def lines_at_80(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: list[str], rows: list[list[Any]]
) -> list[str]:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    print_table(columns, rows)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    return lines


def test_long_names_never_break_numbers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    number = "0.8067 (0.736–0.862)"
    row: list[Any] = ["network_" * 9, "images_" * 12, 0.25, number, "−12.5 (−20 to −5)", "−5.2 +1.0", 300]
    heads = ["backbone", "set", "fraction of what was removed", "value (95 %)", "b - a", "flips", "n"]
    text = "\n".join(lines_at_80(capsys, monkeypatch, heads, [row, row]))
    for whole in (number, "−12.5 (−20 to −5)", "−5.2 +1.0", "300", "0.25"):
        assert text.count(whole) == 2, whole
    assert "fraction\n" in text or "fraction   " in text, "heads are folded between words"


def test_more_numbers_than_fit_stand_in_several_tables(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = ["backbone", "data", *(f"a sign of number {k}, %" for k in range(9))]
    rows = [
        [name, "photographs", *(f"{k}{i}.5 (1{k}–2{i})" for k in range(9))] for i, name in enumerate(("vit", "cnn"))
    ]
    lines = lines_at_80(capsys, monkeypatch, heads, rows)
    text = "\n".join(lines)
    assert all(text.count(value) == 1 for row in rows for value in row[2:])
    tables = sum(line.startswith(" ─") for line in lines)
    assert 1 < tables <= 4
    assert sum(line.startswith(" vit") for line in lines) == tables, "each begins with the names"


def test_every_table_of_several_tells_its_rows_apart(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field that is a number stood in the first table only: 0.9219 of which strength?"""
    fixed = {"study": "attack", "data": "photographs of " * 6, "std_over_items": 0.0, "std_over_runs": 0.0}
    rows = [
        fixed | {"backbone": name, "eps": eps, "method": method, "metric": metric, "n": 64 + k, "runs": 1 + k}
        | {"value": eps / 9 + k, "low": 0.1, "high": 0.9}
        for k, name in enumerate(("tiny:cnn", "tiny:vit"))
        for eps in (0.0039, 0.0157)
        for method in ("projected gradient descent", "square attack")
        for metric in ("accuracy under attack", "share that was attacked")
    ]  # fmt: skip
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "70")
    show_numbers(rows)
    said, rest, *lines = capsys.readouterr().out.splitlines()
    assert (said[:27], len(said) <= 80, rest[:2]) == ("attack: data photographs of", True, "  ")
    assert max(map(len, lines)) <= 70
    heads = [line.split() for line in lines if "backbone" in line]
    assert len(heads) > 1, "it does not fit into one"
    assert all(head[:4] == ["backbone", "eps", "method", "metric"] for head in heads)
    assert sum(line.count("0.0039") for line in lines) == len(heads) * len(rows) / 2
    monkeypatch.setenv("COLUMNS", "60")
    show_numbers(rows)
    assert max(map(len, capsys.readouterr().out.splitlines()[2:])) <= 60, (
        "words are broken where the names leave no room"
    )


def test_tables_for_people_say_once_what_is_equal_and_escape_names(tmp_path: Path) -> None:
    odd = dataclasses.replace(CELL.backbone, spec="tiny:v_1&2|%<b>", digest="dd")
    for fraction in (0.5, 0.75):
        keep(tmp_path, {"a": 1.0, "b": 0.0, "c": 1.0}, fraction=fraction)
        keep(tmp_path, {"a": 0.0, "b": 0.0, "c": 0.0}, fraction=fraction, backbone=odd)
    (block,) = numbers.blocks(table.rows(load(tmp_path)))
    assert dict(block.fixed) == {"data": "shapes:test", "metric": "top1", "n": "3", "runs": "1"}
    assert block.heads == ("backbone", "fraction", "value (95 %)")
    low, high = stats.wilson(2, 3)[1:3]
    assert block.rows[1 if block.rows[0][0] != "tiny:vit" else 0] == ("tiny:vit", 0.5, f"0.6667 ({low:.3f}–{high:.3f})")
    page = numbers.as_latex([block]).splitlines()
    assert r"\begin{tabular}{lrl}" in page
    assert r"\caption{holes: data shapes:test, metric top1, n 3, runs 1. Intervals are of 95\,\%.}" in page
    assert any(
        line.startswith(r"tiny:v\_1\&2\textbar{}\%\textless{}b\textgreater{} & 0.5 & 0.0000 (0.000--") for line in page
    )
    assert all(line.endswith(r" \\") and line.count(" & ") == 2 for line in page if " & " in line)
    text = numbers.as_markdown([block])
    assert "data shapes:test, metric top1, n 3, runs 1. Intervals are of 95 %.\n" in text
    assert r"| tiny:v_1&2\|%\<b> | 0.5 | 0.0000 (" in text


def test_no_text_of_a_csv_is_computed_and_none_of_parquet_is_changed(tmp_path: Path) -> None:
    rows = [{"=evil": "=1+0", "+n": -1.5, "x": None}, {"=evil": None, "+n": 2.0, "x": "@y"}]
    table.write(rows, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().splitlines() == ['"\'=evil","\'+n","x"', '"\'=1+0",-1.5,', ',2,"\'@y"']
    table.write(rows, tmp_path / "t.parquet")
    assert pq.read_table(tmp_path / "t.parquet").to_pylist() == rows


def test_a_table_by_image_has_every_value_once(tmp_path: Path) -> None:
    keep(tmp_path, {"a": 1.0, "=b": 0.0})
    keep(tmp_path, {"a": 0.0, "=b": 0.0}, run=1)
    keep(tmp_path, {"=b": 1.0, "c": float("nan")}, fraction=0.75)
    keep(tmp_path, {"a": 1.0}, backbone=OTHER)
    found = by_image.table(load(tmp_path)).to_pylist()
    half, more = "holes (fraction 0.5) top1", "holes (fraction 0.75) top1"
    assert [(r["backbone"], r["item"], r[half], r[more], r["holes (fraction 0.75) prediction"]) for r in found] == [
        ("tiny:cnn", "a", 1.0, None, None),
        ("tiny:vit", "a", 0.5, None, None),
        ("tiny:vit", "=b", 0.0, 1.0, 3.0),
        ("tiny:vit", "c", None, None, 3.0),
    ]
    predicted = [r["holes (fraction 0.5) prediction"] for r in found]
    assert predicted == [3.0, None, None, None], "a mean over runs of what was predicted means nothing"
    table.save(by_image.table(load(tmp_path)), tmp_path / "i.csv")
    with (tmp_path / "i.csv").open() as file:
        assert [row["item"] for row in csv.DictReader(file)] == ["a", "a", "'=b", "c"]
    only = by_image.table(load(tmp_path), metric="top1")
    assert only.column_names == ["backbone", "data", "item", "label", half, more]
    with pytest.raises(VitalsError, match=r"`metric` must be in the run. Got 'top2'. Did you mean top1"):
        by_image.table(load(tmp_path), metric="top2")


def test_a_table_by_image_has_what_the_run_knows_of_each(tmp_path: Path) -> None:
    keep(tmp_path, {"a": 1.0, "b": 0.0})
    card = dataclasses.replace(CELL.images, classes=("0", "1"), class_names=("cat", "dog"))
    further = {"weather": ["rain", ""], "label": ["x", "y"]}
    groups.keep(tmp_path, CELL.images.digest, groups.of_labels(card, ["b", "a"], [1, 0], further))
    found = by_image.table(load(tmp_path)).to_pylist()
    named = [(r["item"], r["label"], r["weather"], r["label of the image"]) for r in found]
    assert named == [("a", "cat", None, "y"), ("b", "dog", "rain", "x")]


def test_items_that_are_no_images_are_in_no_table_by_image(tmp_path: Path) -> None:
    out = fake_run.write(tmp_path / "run", n=30, studies=("clean", "occlusion"))
    run = load(out)
    assert by_image.table(run).num_rows == 60
    assert all(run.metric(p.study, m).over == "images" for part in by_image.parts(run) for p, m in part.columns)


def test_the_command_writes_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = fake_run.write(tmp_path / "run", n=30, pictures=0, studies=("clean", "occlusion"))
    files = {name: tmp_path / f"t.{name}" for name in ("latex", "markdown", "csv", "parquet")}
    assert (
        cli.main(["table", str(out), *(word for name, path in files.items() for word in (f"--{name}", str(path)))]) == 0
    )
    assert r"\toprule" in files["latex"].read_text()
    assert "## occlusion" in files["markdown"].read_text()
    assert len(files["csv"].read_text().splitlines()) == pq.read_table(files["parquet"]).num_rows + 1
    capsys.readouterr()
    assert cli.main(["table", str(out), "--per-image"]) == 0
    shown = capsys.readouterr().out
    assert "24 images more, and every metric, in the file of --csv or --parquet." in shown
    assert cli.main(["table", str(out), "--per-image", "--parquet", str(tmp_path / "i.parquet")]) == 0
    assert pq.read_table(tmp_path / "i.parquet").num_rows == 60
    assert cli.main(["table", str(out), "--per-image", "--latex", str(tmp_path / "i.tex")]) == 2
    assert "goes to --csv or --parquet" in capsys.readouterr().err
    assert cli.main(["table", str(out), "--per-image", "--by", "class"]) == 2
    assert "A row by image has no groups" in capsys.readouterr().err


def test_tables_call_things_as_the_user_did(tmp_path: Path) -> None:
    call = {"studies": "clean", "out": tmp_path / "run", "device": "cpu"}
    run = audit(["day=tiny:vit", "tiny:cnn"], data="test=shapes:test?n=8", **call)  # type: ignore[arg-type]
    (block,) = numbers.blocks(table.rows(run.results, metric="top1"))
    assert (dict(block.fixed)["data"], [row[0] for row in block.rows]) == ("test", ["day", "tiny:cnn"])
    whole, images = run.table(metric="top1"), run.table(per_image=True)
    for found in (whole, images):
        assert set(found["backbone"].to_pylist()) == {"day", "tiny:cnn"}
        assert set(found["data"].to_pylist()) == {"test"}
