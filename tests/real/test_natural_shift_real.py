"""The readers of natural shifts on real photographs, and published answers of people."""

import csv
import os
from pathlib import Path

import pytest
import torch

from visionvitals import results
from visionvitals.plan import planner
from visionvitals.plan.request import Plan, Section
from visionvitals.responses import csv_files, people
from visionvitals.run import runner

DATA = Path(os.environ.get("VISIONVITALS_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
pytestmark = [pytest.mark.real, pytest.mark.skipif(not DATA.is_dir(), reason="VISIONVITALS_REAL_DATA names no folder")]
PICTURES = 48


def test_people_agree_with_one_another_as_the_raw_answers_say() -> None:
    """10 people, 1,280 cue conflicts: mean kappa of 45 pairs .3311. The raw trials of these four networks are other ones than those published later."""
    found = {c.observer: c for c in people.consistency(csv_files.read_any(DATA / "cue_conflict" / "responses"))}
    assert round(found["people"].kappa, 4) == 0.3311
    assert (found["people"].pairs, found["people"].told, found["people"].pictures) == (45, 45, 1280)
    assert round(found["people"].accuracy, 3) == 0.776
    assert found["resnet50"].kappa < found["resnet50"].most < found["people"].kappa
    assert found["resnet50-train-60-epochs"].kappa > 2 * found["resnet50"].kappa, "trained on stylised pictures"


@pytest.mark.slow
def test_the_same_photographs_give_the_same_answers_in_every_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a table of outputs, in numbered folders, and as lists of labels with further labels that nobody answers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "cache"))
    with (DATA / "nips17" / "labels.csv").open(encoding="utf-8") as file:
        rows = [(row["path"], int(row["label"])) for row in csv.DictReader(file)][:PICTURES]
    lines = [f"{DATA / 'nips17' / path},{label}" for path, label in rows]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *lines]) + "\n", encoding="utf-8")
    for path, label in rows:
        (tmp_path / "v2" / str(label)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "v2" / str(label) / Path(path).name).symlink_to(DATA / "nips17" / path)
    pictures = [{"bytes": (DATA / "nips17" / path).read_bytes(), "path": path} for path, _ in rows]
    pq.write_table(pa.table({"image": pictures, "label": [[k] for _, k in rows]}), tmp_path / "hard.parquet")
    pq.write_table(
        pa.table({"image": pictures, "label": [[k, (k + 1) % 1000] for _, k in rows]}), tmp_path / "two.parquet"
    )
    data = (
        f"csv:{tmp_path}/labels.csv",
        f"imagenet_v2:{tmp_path}/v2",
        *(f"imagenet_hard:{tmp_path}/{n}.parquet" for n in ("hard", "two")),
    )
    squeezenet = f"torchvision:squeezenet1_1@{DATA}/weights/squeezenet1_1.pth"
    asked = Plan(backbones=(squeezenet,), data=data, studies=(Section(name="clean", values={}),))
    runner.execute(planner.make(asked, device=torch.device("cpu")), out=tmp_path / "run", device=torch.device("cpu"))
    run = results.load(tmp_path / "run")
    by_name = {point.images.rpartition("/")[2]: point for point in run.points}
    by_table, numbered, lists, two = (by_name[name] for name in ("labels.csv", "v2", "hard", "two"))
    right = run.estimate(by_table, "top1").value
    assert 0.4 < right < 0.75
    assert [run.estimate(p, "top1").value for p in (numbered, lists)] == [right, right]
    assert run.estimate(two, "top1").value >= right
    assert run.estimate(lists, "top1_present").value > right, "among 48 classes at most, not 1,000"
    assert "top1_present" not in numbered.metrics, "all classes are there"
