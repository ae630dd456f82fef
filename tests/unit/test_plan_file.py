"""Plan files: every error at once, each with its line."""

import json
from pathlib import Path

import pytest

from visionvitals.errors import VitalsError
from visionvitals.plan import plan_file
from visionvitals.plan.request import Plan, Section, sections

PLANS = sorted((Path(__file__).parents[2] / "plans").glob("*.toml"))


def read(tmp_path: Path, text: str) -> Plan:
    (tmp_path / "plan.toml").write_text(text, encoding="utf-8")
    return plan_file.read(tmp_path / "plan.toml")


def errors(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(VitalsError, match=r"plan\.toml has ") as caught:
        read(tmp_path, text)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_a_plan_is_read(tmp_path: Path) -> None:
    plan = read(
        tmp_path,
        """
backbones = ["tiny:vit", "tiny:cnn"]
data = ["shapes:test?n=8"]
preset = "quick"
limit = 4

[[studies]]
name = "clean"

[[studies]]
name = "occlusion"
fraction = [0, 0.25]    # two values
grid = [8, 8]           # one value
fill = "mean"
run = [0, 1]

[[studies]]
name = "occlusion"
grid = [[4, 4], [8, 8]]

[[studies]]
name = "shuffle"
preset = "paper"
""",
    )
    assert plan == Plan(
        backbones=("tiny:vit", "tiny:cnn"),
        data=("shapes:test?n=8",),
        preset="quick",
        limit=4,
        studies=(
            Section(name="clean"),
            Section(
                name="occlusion", values={"fraction": (0.0, 0.25), "grid": ((8, 8),), "fill": ("mean",), "run": (0, 1)}
            ),
            Section(name="occlusion", values={"grid": ((4, 4), (8, 8))}),
            Section(name="shuffle", preset="paper"),
        ),
    )


def test_studies_may_be_names_or_left_out(tmp_path: Path) -> None:
    head = 'backbones = ["tiny:vit"]\ndata = ["shapes:test"]\n'
    assert read(tmp_path, head).studies == sections("all")
    mixed = read(tmp_path, head + 'studies = ["clean", {name = "shuffle", grid = [2, 2]}]')
    assert mixed.studies == (Section(name="clean"), Section(name="shuffle", values={"grid": ((2, 2),)}))


def test_a_plan_survives_json() -> None:
    plan = Plan(
        backbones=("tiny:vit",),
        data=("shapes:test",),
        studies=(
            Section(name="clean"),
            Section(name="occlusion", values={"fraction": (0.5,), "grid": ((4, 4), (7, 7))}),
        ),
        seed=3,
        limit=9,
    )
    assert plan_file.from_dict(json.loads(json.dumps(plan_file.to_dict(plan))), source="plan.json") == plan


def test_all_errors_come_at_once_with_their_lines(tmp_path: Path) -> None:
    found = errors(
        tmp_path,
        """backbones = ["tiny:vit",
             "tinny:cnn"]
data = "shapes:test"
sed = 1
batch_size = 8
limit = "many"

[[studies]]
name = "clean"

[[studies]]
name = "oclusion"

[[studies]]
name = "occlusion"
fraction = [0, 1.5]
fil = "black"
grid = [14, "14"]
run = true
""",
    )
    expected = [
        "line 2: A spelling must be `family:name[@checkpoint][?key=value]` with a known family. Got 'tinny:cnn'.",
        'line 3: `data` must be a list, as in ["a", "b"]. Got "shapes:test".',
        "line 4: A plan has no key `sed`. Did you mean seed?",
        "line 5: `batch_size` is not part of a plan, since it does not change the numbers: give `--batch-size`",
        'line 6: `limit` must be a whole number without quotes. Got "many".',
        "line 12: Nothing in `vitals list studies` is called `oclusion`. Did you mean occlusion",
        "line 16: `occlusion`: `fraction` must be in [0, 1]. Got 1.5.",
        "line 17: `occlusion` has no condition field `fil`. Did you mean fill",
        "line 18: `occlusion`: `grid` must be a list, as in [1, 2]",
        "line 19: `occlusion`: `run` must be a whole number without quotes. Got true.",
    ]
    assert len(found) == len(expected)
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)


def test_errors_inside_a_list_of_studies_have_lines(tmp_path: Path) -> None:
    head = 'backbones = ["tiny:vit"]\ndata = ["shapes:test"]\n'
    text = head + 'studies = [\n  "clean",\n  "shufle",\n  {name = "corner", inner = [0, 1]},\n]\n'
    first, second = errors(tmp_path, text)
    assert first.startswith("line 5: Nothing in `vitals list studies` is called `shufle`. Did you mean shuffle")
    assert second.startswith("line 6: `corner`: `inner` must be two positive numbers. Got (0, 1).")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert errors(tmp_path, "seed = 1\n") == ["A plan must say `backbones`."]
    head = 'backbones = ["tiny:vit"]\ndata = ["shapes:test"]\n'
    assert errors(tmp_path, head + "[[studies]]\nfraction = 1\n") == [
        'line 3: A study must have a name, e.g. name = "occlusion".'
    ]
    (both,) = errors(tmp_path, head + '[[studies]]\nname = "occlusion"\npreset = "quick"\nfraction = 0.5\n')
    assert both.startswith("line 3: `occlusion`: A study takes its conditions either from a preset or from values")
    (none,) = errors(tmp_path, 'backbones = []\ndata = ["shapes:test"]\n')
    assert none.startswith("A plan must name a backbone")
    (preset,) = errors(tmp_path, head + '[[studies]]\nname = "occlusion"\npreset = "slow"\n')
    assert preset == "line 5: `preset` must be one of quick, default, paper. Got 'slow'."


def test_no_file_and_no_toml(tmp_path: Path) -> None:
    with pytest.raises(VitalsError, match=r"none\.toml must be a file that can be read. Got: No such file"):
        plan_file.read(tmp_path / "none.toml")
    with pytest.raises(VitalsError, match=r"valid TOML. Got .*line 2"):
        read(tmp_path, "seed = 1\nlimit = = 2\n")


@pytest.mark.parametrize("path", PLANS, ids=lambda p: p.stem)
def test_our_own_plans_are_valid_and_say_what_they_cost(path: Path) -> None:
    plan = plan_file.read(path)
    assert plan.studies
    head = [line for line in path.read_text(encoding="utf-8").splitlines()[:30] if line.startswith("#")]
    for word in ("Command:", "Hardware:", "Time:", "Expected:"):
        assert any(word in line for line in head), f"{path.name} does not say {word}"


def test_a_value_that_another_field_makes_right_is_no_error(tmp_path: Path) -> None:
    """An l2 budget of 3 is right, and on its own it would be refused as an l_inf one."""
    path = tmp_path / "plan.toml"
    path.write_text(
        'backbones = ["tiny:vit"]\ndata = ["shapes:test"]\n[[studies]]\nname = "attack"\nnorm = "l2"\neps = [0.5, 3.0]\n',
        encoding="utf-8",
    )
    assert plan_file.read(path).studies[0].values["eps"] == (0.5, 3.0)
    path.write_text(path.read_text(encoding="utf-8").replace("l2", "linf"), encoding="utf-8")
    with pytest.raises(VitalsError, match=r"line 6: `attack`: `eps` is on the scale"):
        plan_file.read(path)


def test_an_error_is_told_of_the_fields_that_stand_beside_it(tmp_path: Path) -> None:
    """`amount = 45` of a turn was refused as one of the default `flip`, of which the plan says nothing."""
    path = tmp_path / "plan.toml"
    path.write_text('backbones = ["tiny:vit"]\n[[studies]]\nname = "geometry"\nmove = "turn"\namount = [90, 45]\n')
    with pytest.raises(VitalsError, match=r"line 5: `geometry`: `amount` of a turn must be 0, 90, 180 or 270") as told:
        plan_file.read(path)
    assert "flip" not in str(told.value)
