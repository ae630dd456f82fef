"""A study is an object made from a file: once per content, with every fault in one error."""

from pathlib import Path

import pytest

from visionvitals import figure, study
from visionvitals.errors import VitalsError

GOOD = '''"""Does it see stripes?

More words.
"""
from dataclasses import dataclass
@dataclass(frozen=True, kw_only=True)
class Condition:
    every: int = 2
def conditions(preset, size): return [Condition()]
def perturb(condition, batch, seed): return batch.images
'''


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_the_shortest_study_has_all_parts(tmp_path: Path) -> None:
    found = study.load(write(tmp_path / "stripes_x.py", GOOD))
    assert (found.name, found.version, found.title, found.asks) == ("stripes_x", 1, "Stripes x", "Does it see stripes?")
    assert (found.axes, found.labels, found.charts, found.signs, found.published) == ((), "outputs", (), (), ())
    assert found.refusal(None, None, None) is None  # type: ignore[arg-type]
    assert found.passes(None) == 1
    assert found.metrics == dict(study.COMMON)
    assert found.defaults == {"every": 2}
    assert len(found.source) == 64


def test_a_file_is_executed_once_and_anew_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    first = study.load(write(path, GOOD))
    assert study.load(path) is first
    assert study.load(str(path)).Condition is first.Condition
    same = study.load(write(path, GOOD.replace("def perturb", "# a comment\ndef perturb")))
    assert same.source == first.source
    changed = study.load(write(path, GOOD.replace("return batch.images", "return 1 - batch.images")))
    assert changed.source != first.source


def test_our_own_studies_go_by_their_version() -> None:
    for name in study.names():
        found = study.load(name)
        assert found.source == ""
        assert found.name == name
        assert found.asks
    assert study.names()[0] == study.BASELINE


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    text = """
from dataclasses import dataclass
from visionvitals.study import Chart, Metric
VERSION = "1"
SIGN = ()
LABELS = "output"
CHARTS = (Chart(x="every", metric="topp1"), 3)
METRICS = {"top1": Metric(title="t", meaning="m", unit="share", better="high")}
@dataclass
class Condition:
    every: int
def conditions(preset): return []
def passes(): return 1
"""
    with pytest.raises(VitalsError) as caught:
        study.load(write(tmp_path / "bad.py", text))
    said = str(caught.value)
    for fault in (
        "must define `perturb` or `measure`",
        "must begin with a docstring",
        "`SIGN` is no part of a study. Did you mean SIGNS?",
        "`VERSION` must be of type int. Got '1'",
        "`LABELS` must be outputs, own or none. Got 'output'",
        "`conditions` must take 2 arguments",
        "`passes` must take 1 argument.",
        "`Condition` must be frozen",
        "the field `every` of `Condition` must have a default",
        "`METRICS['top1']` is a common metric already",
    ):
        assert fault in said, said


def test_figures_name_metrics_that_there_are(tmp_path: Path) -> None:
    text = GOOD + "from visionvitals.study import Chart\nCHARTS = (Chart(x='every', metric='topp1'), 3)\n"
    with pytest.raises(VitalsError, match=r"(?s)`topp1`\. Did you mean top1.*must hold `study\.Chart` only\. Got 3"):
        study.load(write(tmp_path / "bad2.py", text))


def test_figures_name_fields_and_kinds_that_there_are(tmp_path: Path) -> None:
    """A chart over a field that is not there was drawn as one bar called None, and its sign was missing without a word."""
    text = GOOD + (
        "from visionvitals.study import Chart, Sign\nAXES = ('block',)\n"
        "CHARTS = (Chart(x='evry'), Chart(x='every', facet=('block', 'fold')))\n"
        "SIGNS = (Sign(title='t', kind='kpt', where={'evrey': 2}),)\n"
    )
    with pytest.raises(VitalsError) as caught:
        study.load(write(tmp_path / "bad3.py", text))
    for fault in (
        "the field `evry`. Did you mean every",
        "the field `fold`",
        "the kind `kpt`. Did you mean kept",
        "the field `evrey`",
    ):
        assert fault in str(caught.value)
    assert "`block`" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def (", "SyntaxError"),
        ("\n1 / 0", r"ZeroDivisionError in .*broken\.py, line 2: division by zero"),
        ("raise SystemExit(3)", r"SystemExit in .*broken\.py, line 1: 3\."),
        ("import nothing_of_this_name", "ModuleNotFoundError"),
    ],
)
def test_a_file_that_does_not_import_is_a_clear_error(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(VitalsError, match=rf"must be importable\. Got .*{said}"):
        study.load(write(tmp_path / "broken.py", text))


def test_a_name_of_ours_is_taken(tmp_path: Path) -> None:
    with pytest.raises(VitalsError, match=r"must have a name of its own.*Rename it"):
        study.load(write(tmp_path / "clean.py", GOOD))
    with pytest.raises(
        VitalsError, match=r"Nothing in `vitals list studies` is called `oclusion`\. Did you mean occlusion"
    ):
        study.load("oclusion")


def test_a_record_is_read_as_it_was_written() -> None:
    for name in study.names():
        found = study.load(name)
        again = figure.read(figure.written(found), source="here")
        assert again.metrics == found.metrics
        assert again.charts == found.charts
        assert again.published == found.published
        assert [s.title for s in again.signs] == [s.title for s in found.signs if s.kind != "index"]
        assert (again.defaults, again.choices) == (found.defaults, found.choices)


@pytest.mark.parametrize("content", [{}, {"name": "x"}, {"name": "x", "metrics": {"a": {"unit": "apples"}}}])
def test_a_record_that_is_none_is_a_clear_error(content: dict[str, object]) -> None:
    with pytest.raises(VitalsError, match="must describe a study"):
        figure.read(content, source="studies.json")


def test_classes_that_share_the_highest_logit_share_the_answer() -> None:
    """Whatever their order: a network that always says the same is right by chance only."""
    torch = pytest.importorskip("torch")
    out = torch.tensor([[1.0, 1.0, 0.0, 1.0], [2.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0]])
    labels = torch.tensor([1, 0, 3, 2])
    assert study.answers(out, labels)["top1"].tolist() == [1 / 3, 1.0, 1 / 4, 0.0]
    order = torch.tensor([3, 2, 1, 0])
    assert study.answers(out[:, order], 3 - labels)["top1"].tolist() == [1 / 3, 1.0, 1 / 4, 0.0]
    many = torch.zeros(2, 10)
    many[1, 4:] = 1
    assert study.answers(many, torch.tensor([9, 9]))["top5"].tolist() == [1 / 2, 5 / 6]
    assert study.answers(torch.full((1, 4), float("nan")), torch.tensor([0]))["top1"].isnan().all()
