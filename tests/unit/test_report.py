"""The report: its numbers, what it says of what is missing, and that the page is whole, safe and self-contained."""

import dataclasses
import io
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import fake_run
import fake_studies
import numpy as np
import opened_page
import pytest
from fake_run import backbone
from PIL import Image

from visionvitals import stats
from visionvitals.errors import VitalsError
from visionvitals.figure import COMMON, Chart, Metric, Sign
from visionvitals.report import build as builder
from visionvitals.report import charts, figures, first, looks, notes, panels, tables, vega
from visionvitals.results import Run, fields, load, signs, table, words
from visionvitals.run.store import Store
from visionvitals.stats import Estimate

ALL = ("clean", "occlusion", "shuffle", "corner")


class Page(HTMLParser):
    """What a test asks of a page: its tags with attributes, its visible text, its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text, self.inside = "", ""
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        self.inside = tag

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts.append(data)
        elif self.inside != "style":
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join(self.text.replace("\N{NO-BREAK SPACE}", " ").split())


def build(folder: Path, *, out: Path | None = None) -> Path:
    return builder.build(load(folder), out=out)


def page_of(folder: Path) -> Page:
    """The page with all sections built."""
    return Page(opened_page.opened(build(folder).read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two backbones, four studies, the default preset."""
    return fake_run.write(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load(folder)


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return build(folder).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(opened_page.opened(text))


# Words


def test_values_read_as_percent_with_an_interval() -> None:
    assert words.measured(Estimate(0.77, 0.72, 0.81, 300)) == "77.0 (72–81)"
    assert words.measured(Estimate(0.77, 0.766, 0.774, 50_000)) == "77.0 (76.6–77.4)"
    assert words.measured(Estimate(1.0, float("nan"), float("nan"), 1)) == "100.0"
    assert words.measured(stats.NOTHING) == "–"
    assert words.measured(Estimate(0.834, 0.7, 1.0, 9), share=False) == "0.83 (0.70–1.00)"
    assert words.difference(Estimate(-0.031, -0.08, 0.02, 9)) == "−3.1 (−8 to 2)"
    assert words.difference(Estimate(0.5, 0.4, 0.6, 9)) == "+50.0 (40–60)"
    assert words.difference(Estimate(-0.03, -0.08, 0.02, 9), share=False) == "−0.03 (−0.08 to 0.02)"


def test_what_is_a_share_comes_from_the_unit_and_from_no_sentence() -> None:
    share = Metric(title="found", meaning="a plain sentence", unit="share", better="high")
    prose = dataclasses.replace(share, meaning="share of what is (0 or 1), in [0, 1]", unit="none")
    assert (words.axis(share), share.head, prose.head) == ("found", "found %", "found")
    assert words.axis(dataclasses.replace(share, unit="nats")) == "found, nats"
    assert [words.short(v, share=True) for v in (0.0, 0.125, 0.5, 1)] == ["0%", "12.5%", "50%", "100%"]


def test_strength_orders_grids_by_their_cells_and_words_as_their_type_lists_them(run: Run) -> None:
    assert sorted([(14, 14), (2, 4), (2, 2), (16, 16)], key=fields.strength) == [(2, 2), (2, 4), (14, 14), (16, 16)]
    corner = charts.plots(run, "corner")[0]
    assert corner is not None
    assert corner.x_order == ("top-left", "top-right", "bottom-left", "bottom-right")


# Vital signs


def scores(folder: Path, spec: str, study: str, **condition: object) -> np.ndarray:
    """top1 per image, averaged over runs, straight from the cells."""
    runs = []
    for stored in Store(folder / "store").cells():
        c = stored.cell
        if (c["study"], c["backbone"]["spec"]) == (study, spec) and condition.items() <= c["condition"].items():
            runs.append(stored.values(["top1"])["top1"])
    return np.asarray(np.mean(runs, axis=0))


def test_vital_signs_are_those_of_the_cells(folder: Path) -> None:
    rows = signs.vital_signs(load(folder))
    assert [(r["backbone"], r["data"]) for r in rows] == [
        ("timm:deit_tiny_patch16_224", "folder:imagenet/val"),
        ("timm:resnet50.tv_in1k", "folder:imagenet/val"),
    ]
    for row in rows:
        spec = row["backbone"]
        clean = scores(folder, spec, "clean")
        black = {
            f: scores(folder, spec, "occlusion", fill="black", fraction=f) for f in (0.0, 0.1, 0.25, 0.5, 0.75, 0.9)
        }
        assert row["clean top-1"] == stats.estimate(clean)
        assert row["kept at half"] == stats.kept(clean, black[0.5])
        assert row["area under occlusion"] == pytest.approx(
            stats.area(np.array(list(black)), np.stack(list(black.values()), axis=1))
        )
        assert row["kept at 4x4 shuffle"] == stats.kept(clean, scores(folder, spec, "shuffle", grid=[4, 4]))


def test_differences_are_paired(folder: Path, run: Run) -> None:
    first, second = run.backbones
    by_title = {c.sign.title: signs.compare(run, c, "folder:imagenet/val", first, second) for c in signs.columns(run)}
    a, b = scores(folder, first, "clean"), scores(folder, second, "clean")
    assert by_title["clean top-1"] == stats.paired_difference(b, a)
    halves = [scores(folder, spec, "occlusion", fill="black", fraction=0.5) for spec in (first, second)]
    kept = by_title["kept at half"]
    assert kept is not None
    assert kept.value == pytest.approx(halves[1].mean() / b.mean() - halves[0].mean() / a.mean())
    assert kept.low < kept.value < kept.high < 0
    area = by_title["area under occlusion"]
    values = [r["area under occlusion"].value for r in signs.vital_signs(load(folder))]
    assert area is not None
    assert area.value == pytest.approx(values[1] - values[0])


def test_the_best_is_marked_by_more_than_colour(run: Run, page: Page) -> None:
    best = {c.sign.title: signs.best(run, c, "folder:imagenet/val") for c in signs.columns(run)}
    assert best["clean top-1"] == "timm:resnet50.tv_in1k"
    assert best["kept at half"] == "timm:deit_tiny_patch16_224"
    headlines = {c.sign.title for c in first.telling(run, signs.columns(run))[0]}
    assert headlines == best.keys() - {"kept at 4x4 shuffle"}
    assert page.words.count("★ highest") == sum(best[title] is not None for title in headlines)


def test_nobody_is_best_where_the_comparison_does_not_decide(tmp_path: Path) -> None:
    """Stars marked the highest value whatever the intervals."""
    close = (fake_run.backbone("timm:deit_a"), fake_run.backbone("timm:deit_b"))
    run = load(fake_run.write(tmp_path, backbones=close, studies=("clean",), n=333))
    (column,) = signs.columns(run)
    values = {r.estimate.value for r in column.readings.values()}
    assert len(values) == 2, "one is higher"
    assert signs.best(run, column, "folder:imagenet/val") is None


def test_nobody_is_best_at_keeping_an_accuracy_at_chance(tmp_path: Path) -> None:
    cards = [backbone("timm:deit_x", outputs=1), backbone("timm:cnn_x")]  # of one output, guessing is always right
    folder = fake_run.write(tmp_path / "run", backbones=cards, studies=("clean", "occlusion"), preset="quick")
    found = load(folder)
    kept = next(c for c in signs.columns(found) if c.sign.kind == "kept")
    assert signs.best(found, kept, "folder:imagenet/val") is None
    assert "of an accuracy at chance" in page_of(folder).words


def test_every_backbone_is_read_at_its_own_grid(tmp_path: Path) -> None:
    cards = [backbone("timm:vit_a"), backbone("timm:vit_b"), backbone("timm:vit_c", side=256)]
    folder = fake_run.write(tmp_path / "run", backbones=cards, studies=("clean", "occlusion"), preset="quick", n=50)
    run = load(folder)
    kept = next(c for c in signs.columns(run) if c.sign.kind == "kept")
    assert kept.fixed == (("grid", (14, 14)),)
    assert kept.readings["timm:vit_c", "folder:imagenet/val"].fixed == (("grid", (16, 16)),)
    assert signs.compare(run, kept, "folder:imagenet/val", "timm:vit_a", "timm:vit_c") is None
    assert "grid 16x16" in page_of(folder).words


def test_backbones_of_several_grids_stand_in_one_chart_at_what_each_lost(tmp_path: Path) -> None:
    occlusion = fake_studies.STUDIES["occlusion"]
    true = dataclasses.replace(
        occlusion, charts=(dataclasses.replace(occlusion.charts[0], x_metric="information_loss"),)
    )
    cards = [backbone("timm:vit_a"), backbone("timm:vit_b"), backbone("timm:vit_c", side=256)]
    lost = {"information_loss": lambda n: np.full(n, 0.1875)}
    run = load(
        fake_run.write(tmp_path / "run", backbones=cards, studies=("clean", true), preset="quick", n=9, more=lost)
    )
    (plot,) = charts.plots(run, "occlusion")
    (multiple,) = plot.multiples
    assert {r["backbone"] for r in multiple.records} == {"timm:vit_a", "timm:vit_b", "timm:vit_c"}
    assert plot.fixed["grid"] == "14x14 (timm:vit_a and timm:vit_b), 16x16 (timm:vit_c)"
    assert {(r["at"], r["x"], r["true"]) for r in multiple.records if r["at"] == "25%"} == {("25%", 0.1875, "18.8%")}
    assert plot.ticks == (0.0, 0.25, 0.5, 0.75)
    both = load(fake_run.write(tmp_path / "paper", backbones=cards, studies=("clean", true), preset="paper", n=9))
    assert len(charts.plots(both, "occlusion")[0].multiples) > 1, "grids that were asked for on one backbone stay apart"


# The page


def test_the_page_asks_the_network_for_nothing(text: str, page: Page) -> None:
    loading = [a.get("src", "") + a.get("href", "") + a.get("srcset", "") + a.get("data", "") for _, a in page.tags]
    assert [url for url in loading if url and not url.startswith(("#", "data:"))] == []
    styles = "".join(re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL))
    assert set(re.findall(r"url\((.{5})", styles)) == {"data:"}
    assert "@import" not in styles
    policy = next(a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:")
    assert len(text) < 2_500_000


def test_the_page_is_well_formed_for_readers_and_keyboards(page: Page) -> None:
    ids = Counter(a["id"] for _, a in page.tags if "id" in a)
    assert [i for i, n in ids.items() if n > 1] == []
    anchors = [a["href"][1:] for a in page.of("a")]
    assert set(anchors) <= set(ids)
    assert {"signs", *(f"study-{name}" for name in ALL), "limits", "provenance", "main"} <= set(anchors)
    assert {tag for tag, _ in page.tags} >= {"header", "nav", "main", "footer", "h1"}
    assert len(page.of("h1")) == 1
    assert len(page.of("caption")) == len(page.of("table")) > 6
    assert all("scope" in a for a in page.of("th"))
    regions = [a for a in page.of("div") if a.get("class") == "region"]
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in regions)
    pictures = [a for a in page.of("span") if "picture" in a.get("class", "")]
    assert all(a["role"] == "img" and a["aria-label"] for a in pictures)
    assert len(pictures) == 4 + 4 * 6 + 4 * 6 + 4 * 4


def test_the_page_says_what_was_found(page: Page) -> None:
    said = page.words
    assert "right, on unchanged images76.0 %70–81 right, at 50 % occlusion66.7 %60–72" in said
    assert "Keeps 87.7 % (82–93) of its accuracy at 50 % occlusion." in said
    assert "5.72 M parameters, 130 images/s in this run" in said
    assert "PatchDrop: how much is still recognised when a random share of the image's patches is removed." in said
    assert "Higher is more robust." in said
    assert "n = 200 in every value" in said
    assert "needs patch tokens that can be removed; resnet50 has none" in said
    assert said.count("resnet50 has none") == 1
    assert "all 10 classes match outputs by name" in said
    assert (
        "vitals audit timm:deit_tiny_patch16_224 timm:resnet50.tv_in1k --data folder:imagenet/val --out 'runs/first one'"
        in said
    )
    for fact in ("AMD EPYC 9B14", "torch 2.15.0", "shorter side resized to 256 px", "Wilson", "24 November 2026"):
        assert fact in said


def test_published_numbers_stand_beside_ours_where_the_model_and_the_condition_are_theirs(run: Run) -> None:
    clean = tables.beside_published(run, "clean")
    assert [(b.backbone, b.metric, b.value, b.ours.replace("\N{NO-BREAK SPACE}", " ")) for b in clean] == [
        ("timm:deit_tiny_patch16_224", "top-1", "72.2 %", "76.0 % (70–81)"),
        ("timm:deit_tiny_patch16_224", "top-5", "91.1 %", "90.0 % (85–93)"),
    ]
    occluded = tables.beside_published(run, "occlusion")
    assert [(b.backbone, b.value, b.condition) for b in occluded] == [
        ("timm:resnet50.tv_in1k", "0.1 %", "fraction 0.5, fill black")
    ]
    assert tables.beside_published(run, "shuffle") == []
    larger = {
        b: {**card, "preprocess": {**card["preprocess"], "size": [384, 384]}} for b, card in run.backbones.items()
    }
    assert tables.beside_published(dataclasses.replace(run, backbones=larger), "clean") == []


def test_published_numbers_of_a_named_set_stand_beside_no_other(run: Run) -> None:
    record = run.record("clean")
    assert record is not None
    for families, count in (((), 2), (("folder", "hf"), 2), (("cub",), 0)):
        published = tuple(dataclasses.replace(p, families=families) for p in record.published)
        told = {**run.studies, "clean": dataclasses.replace(record, published=published)}
        assert len(tables.beside_published(dataclasses.replace(run, studies=told), "clean")) == count


def test_the_table_holds_every_point_and_says_what_is_constant(run: Run) -> None:
    table = tables.of_study(run, "occlusion")
    assert table.fields == ("fraction", "fill")
    assert table.fixed == {"grid": (14, 14), "offset": 0}
    assert table.metrics == ("top-1 %", "top-5 %", "cross-entropy, nats", "pixels removed %")
    assert len(table.rows) == len(run.of("occlusion")) == 18 + 12
    half = next(r for r in table.rows if r[0] == "timm:resnet50.tv_in1k" and r[1] == ("0.5", "black"))
    assert half[2][3] == "50.0"
    assert half[3:] == ("200", 3)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    name = "timm:</script><script>alert(1)</script><img src=x>&\"'"
    folder = fake_run.write(
        tmp_path / "run",
        backbones=[dataclasses.replace(backbone("timm:vit_x"), spec=name), backbone("timm:cnn")],
        data=("folder:<b>bold</b>",),
        studies=("clean", "shuffle"),
        preset="quick",
        n=20,
        warnings=["<i>odd</i> `<u>`"],
    )
    page = page_of(folder)
    assert len(page.of("script")) == 2  # the library of charts, and what builds the page
    assert not {"img", "b", "i", "u"} & {tag for tag, _ in page.tags}
    assert name in page.words
    assert "<i>odd</i> <u>" in page.words
    specifications = opened_page.specifications(build(folder).read_text(encoding="utf-8"))
    assert "<img src=x>" in json.dumps(specifications["shuffle/0"], ensure_ascii=False).replace('\\"', '"')


# Charts


def test_a_chart_has_one_specification_for_each_small_multiple(text: str, run: Run) -> None:
    specifications = opened_page.specifications(text)
    assert {study: len(s) for study, s in specifications.items()} == {
        "clean/0": 1,
        "occlusion/0": 3,
        **{f"occlusion/{k}": 3 for k in (1, 2, 3)},  # what the answers say of the fills
        "shuffle/0": 1,
        "corner/0": 1,
    }
    occlusion = charts.plots(run, "occlusion")[0]
    assert occlusion is not None
    assert [m.title for m in occlusion.multiples] == ["fill black", "fill mean", "fill token"]
    assert {r["backbone"] for r in occlusion.multiples[2].records} == {"timm:deit_tiny_patch16_224"}
    record = next(r for r in occlusion.multiples[0].records if r["x"] == 0.5 and "resnet" in r["backbone"])
    assert record["value"].replace("\N{NO-BREAK SPACE}", " ") == "12.0 % (9–16)"
    assert record["low"] < record["v"] < record["high"]
    kinds = {study: plot.kind for study in ALL for plot in charts.plots(run, study)}
    assert kinds == {"clean": "none", "occlusion": "line", "shuffle": "line", "corner": "bars"}


def test_twenty_backbones_are_told_apart() -> None:
    told = {(i % len(looks.LIGHT), i % len(looks.DASHES), i % len(looks.SYMBOLS)) for i in range(40)}
    assert len(told) == 40
    assert set(looks.OUTLINES) == set(looks.SYMBOLS)
    assert len(looks.LIGHT) == len(looks.DARK)


def test_guessing_is_drawn_where_it_can_be_seen(tmp_path: Path, run: Run) -> None:
    assert charts.plots(run, "clean")[0].chance is None  # 0.1 % of a thousand classes
    folder = fake_run.write(tmp_path / "run", backbones=[backbone("a:vit", outputs=16)], studies=("clean",), n=20)
    assert charts.plots(load(folder), "clean")[0].chance == 1 / 16
    assert "Dotted: guessing, 6.2 %." in page_of(folder).words


def test_figures_are_written_as_svg_and_png(folder: Path, tmp_path: Path) -> None:
    files = builder.figures(load(folder), tmp_path / "figures")
    several = [f"{s}{part}" for s in ALL for part in (("", "_2", "_3", "_4") if s == "occlusion" else ("",))]
    assert [f.name for f in files] == [f"{s}.{kind}" for s in several for kind in ("svg", "png")]
    svg = (tmp_path / "figures" / "occlusion.svg").read_text(encoding="utf-8")
    alone = ("Occlusion", "n = ", "95 % intervals", *load(folder).backbones)
    assert [text for text in alone if text not in svg] == [], (
        "a figure stands alone: title, n, what the bands are, names"
    )
    assert "timm:resnet50.tv_in1k" in svg
    assert "fill token" in svg
    assert "var(--" not in svg
    assert (tmp_path / "figures" / "corner.png").read_bytes().startswith(b"\x89PNG")


# Pictures


def test_backbones_that_saw_equal_pictures_share_a_panel(run: Run) -> None:
    (panel,) = panels.panels(run, "occlusion")
    assert panel.heads == ("0%", "10%", "25%", "50%", "75%", "90%")
    assert panel.fixed == {"grid": (14, 14), "fill": "black", "offset": 0}
    assert panel.backbones == tuple(run.backbones)
    goldfish = panel.rows[0]
    assert goldfish.label == "goldfish"
    for picture in goldfish.pictures:
        assert [a.backbone for a in picture.answers] == list(run.backbones)
        assert all(a.correct == (a.prediction == "goldfish") for a in picture.answers)
    assert [a.correct for a in goldfish.pictures[-1].answers] == [False, False]


def _webp(fill: tuple[int, int, int], cells: int = 0, *, seed: int = 0, quality: int = 80) -> bytes:
    """A gradient with some cells of a 14x14 grid in one colour."""
    side = np.mgrid[0:126, 0:126].sum(axis=0)[..., None] * np.array([0.4, 0.5, 0.6]) + 60
    for cell in np.random.default_rng(seed).permutation(196)[:cells]:
        row, column = divmod(int(cell), 14)
        side[9 * row : 9 * row + 9, 9 * column : 9 * column + 9] = fill
    kept = io.BytesIO()
    Image.fromarray(side.astype(np.uint8)).save(kept, "webp", quality=quality)
    return kept.getvalue()


@pytest.mark.parametrize(
    ("other", "shared"),
    [
        (_webp((0, 0, 0), 20, quality=30), True),  # other bytes
        (_webp((9, 9, 9), 20), True),  # another preprocessing
        (_webp((0, 0, 0), 20, seed=1), False),  # another mask
        (_webp((0, 0, 0), 21), False),  # one cell more
        (_webp((255, 255, 255), 20), False),
    ],
)
def test_pictures_that_look_the_same_share_a_panel_and_others_do_not(other: bytes, *, shared: bool) -> None:
    assert panels._look_the_same([_webp((0, 0, 0), 20)], [other]) == shared


def test_networks_of_another_preprocessing_answer_below_one_set_of_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, turns = fake_run._picture, iter(range(6))

    def shown(index: int, condition: object) -> Image.Image:
        network, picture = next(turns) // 2, drawn(index, condition)
        return (picture, picture.resize((96, 96)), picture.rotate(90))[network]

    monkeypatch.setattr(fake_run, "_picture", shown)
    backbones = (backbone("a:one"), backbone("a:two", side=240), backbone("a:three"))
    folder = fake_run.write(tmp_path / "run", backbones=backbones, studies=["clean"], n=20, pictures=2)
    together, apart = panels.panels(load(folder), "clean")
    assert (together.backbones, together.alike) == (("a:one", "a:two"), True)
    assert (apart.backbones, apart.alike) == (("a:three",), False)


def test_equal_pictures_are_embedded_once(text: str) -> None:
    text = opened_page.opened(text)
    embedded = re.findall(r"url\(data:image/webp;base64,([^)]+)\)", text)
    assert len(embedded) == len(set(embedded))
    shown = len(re.findall(r'class="picture ', text))
    assert len(embedded) < shown


def test_a_panel_of_many_conditions_keeps_the_weakest_and_the_strongest(tmp_path: Path) -> None:
    folder = fake_run.write(
        tmp_path / "run", backbones=[backbone("a:vit")], studies=("occlusion",), preset="paper", n=20
    )
    (panel,) = panels.panels(load(folder), "occlusion")
    assert panel.heads == ("0%", "20%", "40%", "50%", "70%", "90%")
    assert panel.fixed["grid"] == (14, 14)


# What is missing


def test_grids_that_cut_through_patches_are_named(run: Run) -> None:
    (sentence,) = [w for w in notes.warnings(run) if "cut through" in w]
    assert sentence.startswith(
        "shuffle: the grids 2x4, 4x4, 4x8, 8x8 and 16x16 cut through the 14x14 patches of timm:deit_tiny"
    )


def test_unreadable_images_failures_and_notes_are_counted_and_named(tmp_path: Path) -> None:
    folder = fake_run.write(
        tmp_path / "run",
        backbones=[backbone("a:vit", notes=("trained on these images",))],
        studies=("clean", "shuffle"),
        preset="quick",
        n=30,
        fails={"shuffle": "RuntimeError: no kernel"},
        unreadable=[("x/1.jpg", "truncated"), ("x/2.jpg", "0 bytes")],
        warnings=["The clean accuracy is at chance."],
    )
    said = page_of(folder).words
    assert "4 cells failed. See what is missing." in said
    assert "RuntimeError: no kernel 4 cells failed: shuffle on a:vit; grid 1x1, 2x2, 4x4 and 8x8" in said
    assert said.count("RuntimeError: no kernel") == 2  # the reason, and once in the folded traceback
    assert "2 images of folder:imagenet/val could not be read and are left out" in said
    assert "x/2.jpg: 0 bytes" in said
    assert "The clean accuracy is at chance." in said
    assert "a:vit: trained on these images" in said
    assert "folder:imagenet/val: only 30 images were scored" in said


def test_an_unfinished_run_says_how_much_is_missing(tmp_path: Path) -> None:
    folder = fake_run.write(tmp_path / "run", preset="quick", n=20, measured=5)
    assert "17 cells of the plan are not measured yet" in page_of(folder).words


def test_where_all_failed_the_report_says_so(tmp_path: Path) -> None:
    folder = fake_run.write(tmp_path / "run", preset="quick", fails=dict.fromkeys(ALL, "no room"))
    page = page_of(folder)
    assert "No cell finished, so nothing was measured" in page.words
    assert "22 cells failed" in page.words
    assert len(page.of("script")) == 1


def test_without_the_clean_study_nothing_is_kept(tmp_path: Path) -> None:
    folder = fake_run.write(tmp_path / "run", studies=("occlusion",), preset="quick", n=40)
    assert list(signs.vital_signs(load(folder))[0]) == ["backbone", "data", "area under occlusion"]
    assert (
        "Without the study clean, it is not known how much of the accuracy on unchanged images is kept."
        in page_of(folder).words
    )


def test_one_image_gets_no_bootstrap_interval(tmp_path: Path) -> None:
    folder = fake_run.write(tmp_path / "run", backbones=[backbone("a:vit")], preset="quick", n=1)
    area = signs.vital_signs(load(folder))[0]["area under occlusion"]
    assert area.n == 1
    assert np.isnan(area.low)
    assert "only 1 image was scored" in page_of(folder).words


def test_two_image_sets_and_many_long_names(tmp_path: Path) -> None:
    cards = [backbone(f"timm:{'vit' if i % 2 else 'cnn'}{i}_{'long_' * 12}x") for i in range(20)]
    folder = fake_run.write(
        tmp_path / "run",
        backbones=cards,
        data=("folder:a", "folder:b"),
        studies=("clean", "shuffle"),
        preset="quick",
        n=20,
    )
    rows = signs.vital_signs(load(folder))
    assert [r["data"] for r in rows] == ["folder:a"] * 20 + ["folder:b"] * 20
    shuffle = charts.plots(load(folder), "shuffle")[0]
    assert shuffle is not None
    assert [m.title for m in shuffle.multiples] == ["folder:a", "folder:b"]
    said = page_of(folder).words
    assert "Vital signs of 20 backbones" in said
    assert "and 8 more that saw the same" in said
    assert "which of 20 is the best is not decided" in said


@dataclass(frozen=True, kw_only=True)
class Level:
    level: int = 0


MINE = fake_studies.FakeStudy(
    name="mine",
    version=fake_studies.VERSION,
    title="My own",
    asks="How much is left?",
    defaults={"level": 0},
    conditions=lambda preset, size: [Level(level=i) for i in range(3)],
)


def test_the_captions_say_which_end_is_best_and_what_is_no_percentage(tmp_path: Path, page: Page) -> None:
    error = Sign(title="error of mine", kind="mean", where={"level": 1}, better="low")
    nats = Sign(title="nats of mine", kind="mean", metric="cross_entropy", where={"level": 1}, better="neither")
    mine = dataclasses.replace(MINE, signs=(error, nats))
    said = page_of(fake_run.write(tmp_path / "run", studies=("clean", mine))).words
    assert "Means in percent (not nats of mine), with 95 % intervals." in said
    assert (
        "★ marks the best value of a column, where the comparison on the same images decides it: the lowest of an error, else the highest."
        in said
    )
    assert (said.count("★ highest"), said.count("★ lowest")) == (1, 1)
    assert "in percentage points (not nats of mine), over" in said
    assert "Means in percent, with 95 % intervals." in page.words
    assert "★ marks the highest value of a column, where the comparison on the same images decides it." in page.words


def test_a_study_without_charts_and_signs_gives_a_report(tmp_path: Path) -> None:
    page = page_of(fake_run.write(tmp_path / "run", studies=(MINE,), n=20))
    assert "My own" in page.words
    assert "How much is left?" in page.words
    assert "All numbers of my own (6 rows)" in page.words
    assert "What the networks saw" in page.words


def test_a_study_of_which_nothing_is_known_keeps_its_table(tmp_path: Path) -> None:
    folder = fake_run.write(tmp_path / "run", studies=("clean", MINE), n=20)
    described = json.loads((folder / "studies.json").read_text())
    for broken in ({"name": "mine"}, None):
        described["mine"] = broken
        if broken is None:
            del described["mine"]
        (folder / "studies.json").write_text(json.dumps(described))
        page = page_of(folder)
        assert "My own" not in page.words
        assert "so its charts and its published numbers are left out" in page.words
        assert "All numbers of mine (6 rows)" in page.words


def test_no_file_is_executed_that_a_run_names(tmp_path: Path) -> None:
    folder = fake_run.write(tmp_path / "run", studies=("clean", MINE), n=20)
    trap = tmp_path / "mine.py"
    trap.write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()\n", encoding="utf-8")
    plan = json.loads((folder / "plan.json").read_text())
    plan["plan"]["studies"][1] = {"name": str(trap)}
    (folder / "plan.json").write_text(json.dumps(plan))
    assert "My own" in page_of(folder).words
    assert not (tmp_path / "executed").exists()


def test_a_metric_of_a_study_is_shown_as_its_unit_says(tmp_path: Path) -> None:
    own = Metric(title="how it agrees", meaning="says mine", unit="cosine", better="high", over="classes")
    chart = Chart(x="level", metric="agrees", x_title="level of it")
    sign = Sign(title="agreement", kind="mean", metric="agrees", where={"level": 1})
    mine = dataclasses.replace(MINE, metrics={**COMMON, "agrees": own}, charts=(chart,), signs=(sign,))
    folder = fake_run.write(tmp_path / "run", studies=(mine,), n=20, more={"agrees": lambda n: np.full(n, 0.25)})
    run = load(folder)
    (plot,) = charts.plots(run, "mine")
    assert plot.chart.y_title == "how it agrees"
    assert {r["value"] for m in plot.multiples for r in m.records} == {
        "0.25 (−0.18 to 0.60)"
    }  # of a cosine, in [-1, 1]
    (column,) = signs.columns(run)
    assert (column.share, column.better) == (False, "high")
    assert "how it agrees" in tables.of_study(run, "mine").metrics
    said = page_of(folder).words
    assert "says mine (over classes)" in said
    found = table.rows(run, metric="agrees")
    assert {row["value"] for row in found} == {0.25}


def test_few_items_are_pointed_out_of_images_only(tmp_path: Path) -> None:
    over = {name: dataclasses.replace(metric, over="episodes") for name, metric in COMMON.items()}
    mine = dataclasses.replace(MINE, metrics=over)
    run = load(fake_run.write(tmp_path / "run", studies=(mine,), n=60))
    assert not [w for w in notes.warnings(run) if "60" in w]
    run = load(fake_run.write(tmp_path / "other", studies=(MINE,), n=60))
    assert [w for w in notes.warnings(run) if "only 60 images were scored" in w]


def test_a_chart_in_shares_is_in_percent_whatever_its_title_says(tmp_path: Path) -> None:
    for unit, text in (("share", "100%"), ("none", "1")):
        chart = Chart(x="level", x_title="share of words", x_unit=unit)  # type: ignore[arg-type]
        mine = dataclasses.replace(MINE, charts=(chart,))
        run = load(fake_run.write(tmp_path / unit, studies=(mine,), n=20))
        (plot,) = charts.plots(run, "mine")
        assert plot.x_order[1] == text
        axis = vega.interactive(plot)[0]["layer"][0]["encoding"]["x"]["axis"]
        assert (axis.get("format") in ("%", ".1~%")) == (unit == "share")
        assert panels.panels(run, "mine")[0].heads[1] == text


def test_a_damaged_cell_is_left_out_and_named(tmp_path: Path) -> None:
    folder = fake_run.write(tmp_path / "run", studies=("clean", "shuffle"), preset="quick", n=20)
    first, second = sorted((folder / "store" / "shuffle").glob("*/"))[:2]
    data = next(first.glob("*.parquet"))
    data.write_bytes(data.read_bytes()[:-20])
    (second / "cell.json").write_text("{")
    page = page_of(folder)
    assert f"Left out: The cell {first.name} must be as it was written" in page.words
    assert f"Left out: The cell {second.name} must be as it was written" in page.words
    assert "All numbers of patch shuffle (6 rows)" in page.words
    assert "2 cells of the plan are not measured yet" in page.words
    assert len(table.rows(load(folder), study="shuffle", metric="top1")) == 6


def test_a_link_in_place_of_the_report_is_replaced(tmp_path: Path) -> None:
    folder = fake_run.write(tmp_path / "run", studies=("clean",), n=20)
    (tmp_path / "precious").write_text("mine")
    (folder / "report.html").symlink_to(tmp_path / "precious")
    build(folder)
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (folder / "report.html").is_symlink()


def test_a_formula_that_is_not_here_is_named(tmp_path: Path) -> None:
    sign = Sign(title="first over last", kind="index", unit="none", index=lambda points, m: m[..., 0] / m[..., -1])
    mine = dataclasses.replace(MINE, signs=(sign,))
    run = load(fake_run.write(tmp_path / "run", studies=(mine,), n=20))
    assert signs.columns(run) == []
    assert any(w.startswith("mine: first over last left out") for w in notes.warnings(run))
    known = dataclasses.replace(run, studies={"mine": mine})
    (column,) = signs.columns(known)
    first, *_, last = (known.estimate(p, "top1").value for p in known.of("mine") if "deit" in p.backbone)
    assert column.readings["timm:deit_tiny_patch16_224", "folder:imagenet/val"].estimate.value == pytest.approx(
        first / last
    )


def test_two_contents_behind_one_name_are_kept_apart(tmp_path: Path) -> None:
    first, second = backbone("a:vit"), dataclasses.replace(backbone("a:vit"), digest="f" * 64)
    folder = fake_run.write(tmp_path / "run", backbones=[first], studies=("clean",), n=20)
    other = fake_run.write(tmp_path / "other", backbones=[second], studies=("clean",), n=20)
    (cell,) = Store(other / "store").cells()
    (other / "store" / "clean" / cell.id).rename(folder / "store" / "clean" / cell.id)
    assert list(load(folder).backbones) == [f"a:vit (weights {first.digest[:8]})", "a:vit (weights ffffffff)"]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VitalsError, match=r"A run folder must hold `plan.json` or `store/`"):
        build(tmp_path)


def test_the_report_can_be_written_elsewhere(folder: Path, tmp_path: Path) -> None:
    assert build(folder, out=tmp_path / "new" / "r.html") == tmp_path / "new" / "r.html"
    (tmp_path / "file").touch()
    with pytest.raises(VitalsError, match="The report must be writable"):
        build(folder, out=tmp_path / "file" / "r.html")
    with pytest.raises(VitalsError, match="The figures must be writable"):
        builder.figures(load(folder), tmp_path / "file")


def test_the_report_loads_no_torch(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from visionvitals import results; from visionvitals.report.build import build\n"
        "build(results.load(Path(sys.argv[1])), out=Path(sys.argv[2])); print(*({'torch', 'timm', 'torchvision'} & set(sys.modules)))"
    )
    arguments = [sys.executable, "-c", code, str(folder), str(tmp_path / "r.html")]
    assert subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip() == ""


def test_no_name_of_a_study_is_an_id_of_the_page(tmp_path: Path) -> None:
    """With a study called `bundle` no chart was drawn: the page took its section for the library."""
    names = (
        "clean",
        "bundle",
        "status",
        "signs",
        "signs-title",
        "main",
        "copy",
        "command",
        "study-clean",
        "title-clean",
    )
    studies = [dataclasses.replace(fake_studies.STUDIES["clean"], name=name) for name in names]
    page = page_of(fake_run.write(tmp_path / "run", studies=studies, n=4, pictures=0))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"][1:] for attrs in page.of("a")} <= set(ids)
    assert [attrs["data-study"] for attrs in page.of("section") if "data-study" in attrs] == list(names)


def test_bars_of_signed_values_begin_at_a_line_at_zero(tmp_path: Path) -> None:
    signed = dataclasses.replace(
        fake_studies.STUDIES["corner"],
        charts=(
            Chart(x="corner", metric="own"),
            Chart(x="", metric="own", where={"corner": "top-left"}),
            Chart(x="corner"),
        ),
    )
    more = {"own": lambda n: np.linspace(-0.9, 0.1, n)}
    run = load(fake_run.write(tmp_path / "run", studies=("clean", signed), n=8, more=more))
    for plot in charts.plots(run, "corner"):
        (content,) = vega.interactive(plot)
        zero = [layer for layer in content["layer"] if layer.get("data") == {"values": [{"place": 0.0}]}]
        assert len(zero) == (plot.metric.title == "own")
        bars = next(layer for layer in content["layer"] if layer["mark"]["type"] == "bar")
        along = bars["encoding"]["x" if plot.kind == "none" else "y"]
        assert along["field"] == "v"
        assert along["scale"] in ({"zero": True}, {"domain": [0, 1]})


def test_nine_observers_of_a_comb_are_told_apart_without_colour(tmp_path: Path) -> None:
    assert len({looks.SYMBOLS[i % len(looks.SYMBOLS)] for i in range(9)}) == 9
    cards = [backbone(f"timm:net{k}") for k in range(9)]
    run = load(fake_run.write(tmp_path / "run", backbones=cards, studies=("clean", fake_studies.comb(12)), n=8))
    (plot,) = charts.plots(run, "corner")
    assert plot.kind == "rows"
    (content,) = vega.interactive(plot)
    assert content["height"] == 12 * (9 * vega.STEP + vega.GAP)
    intervals, points = content["layer"][1]["encoding"], content["layer"][2]["encoding"]
    assert points["shape"]["scale"]["range"] == list(looks.SYMBOLS)
    assert intervals["strokeDash"]["scale"]["range"] == [list(looks.DASHES[k % len(looks.DASHES)]) for k in range(9)]


def test_a_long_name_takes_no_room_from_the_points(tmp_path: Path) -> None:
    """Names of 200 characters left a chart no width: 72.5 % and 85 % stood at one place."""
    run = load(
        fake_run.write(tmp_path / "run", backbones=[backbone("tiny:" + "x" * 200)], studies=["clean"], pictures=0)
    )
    (drawn,) = vega.interactive(charts.plots(run, "clean")[0])
    names = [layer["mark"] for layer in drawn["layer"] if layer["mark"]["type"] == "text"]
    assert [mark["limit"] for mark in names] == [vega.LONGEST_NAME]


def test_a_figure_names_its_bars_and_keeps_the_names_of_lines_above_the_axis(folder: Path) -> None:
    assert figures._apart([200, 280, 280], 280) == [200, 266, 280]
    assert figures._apart([0, 3, 200], 280) == [0, 14, 200]
    assert figures._apart([0, 0, 0], 20) == [0, 14, 28], "no room for all: one below the other"
    run = load(folder)
    (plot,) = charts.plots(run, "corner")
    text = figures.svg(run, "corner", plot)
    assert (plot.kind, len(plot.backbones) > 1) == ("bars", True)
    assert all(f">{name}</text>" in text for name in plot.backbones)
