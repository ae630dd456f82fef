"""What makes two networks the same: their code and what their modules hold, beside weights; and what digests cannot know."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from visionvitals import core, registry, source
from visionvitals.answers import Answers
from visionvitals.backbones import _answers, _identity
from visionvitals.errors import VitalsError

CPU = torch.device("cpu")
FACTORY = '''
"""A network of mine."""
import torch
from torch import nn
from visionvitals.core import Backbone, BackboneCard, Preprocess

LOOK = Preprocess(size=(8, 8), resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)


class Net(nn.Module):
    """Nearest text."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(192, 6)
        self.text = torch.arange(24.0).view(6, 4) / 24
        self.scale = 2.0
        self.held = {"ways": [torch.ones(4)]}

    def forward(self, x):
        return self.scale * self.body(x.flatten(1)) @ self.text * self.held["ways"][0]


def module():
    return Net(), LOOK


def backbone():
    net = Net().eval()
    card = BackboneCard(spec="", architecture="mine", digest="constant", preprocess=LOOK, outputs=4, parameters=1)
    return Backbone(card=card, device=torch.device("cpu"), logits=lambda x: net((x - 0.5) / 0.5), module=net)
'''


def load(spelling: str) -> core.Backbone:
    spec = registry.parse(spelling, families=registry.names("backbones"))
    found = registry.load("backbones", spec.family).load(spec, device=CPU)
    assert isinstance(found, core.Backbone)
    return found


def written(path: Path, text: str) -> core.BackboneCard:
    path.write_text(text)
    return load(f"python:{path}:module").card


@pytest.mark.parametrize("function", ["module", "backbone"])
def test_an_edited_forward_is_another_network_and_a_comment_is_not(tmp_path: Path, function: str) -> None:
    path = tmp_path / "net.py"
    path.write_text(FACTORY)
    spelling = f"python:{path}:{function}"
    card = load(spelling).card
    path.write_text(FACTORY.replace("        return self.scale", "        # the answer\n\n        return  self.scale"))
    assert load(spelling).card.digest == card.digest
    path.write_text(FACTORY.replace('"""Nearest text."""', '"""Another docstring."""'))
    assert load(spelling).card.digest == card.digest
    path.write_text(FACTORY.replace("return self.scale", "return -self.scale"))
    inverted = load(spelling).card
    assert inverted.digest != card.digest
    assert card.answers is not None
    assert inverted.answers is not None
    assert "differ by 2 of the largest" in str(card.answers.differs(inverted.answers))
    moved = tmp_path / "elsewhere.py"
    moved.write_text(FACTORY)
    assert load(f"python:{moved}:{function}").card.digest == card.digest, "a path is no identity"


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.text.mul_(1.001),
        lambda net: net.held["ways"][0].add_(1),
        lambda net: setattr(net, "scale", 2.5),
        lambda net: setattr(net, "name", ("a", 1)),
        lambda net: setattr(net, "extra", [torch.nn.Linear(1, 1)]),
        lambda net: net.register_buffer("hidden", torch.ones(1), persistent=False),
    ],
)
def test_what_no_state_dict_holds_is_identity(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "net.py"
    path.write_text(FACTORY)
    made = [registry.load("backbones", str(path)).Net() for _ in range(2)]
    made[1].load_state_dict(made[0].state_dict())

    def digest(net: torch.nn.Module) -> str:
        return _identity.digest(net, architecture="mine", build={}, open_ended=True)

    assert digest(made[0]) == digest(made[1])
    change(made[1])
    assert digest(made[0]) != digest(made[1])


def test_an_edited_helper_in_another_file_is_caught_by_the_answers(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        FACTORY.replace("return self.scale", "return helper.sign() * self.scale").replace(
            "import torch\n", "import torch\nimport helper\n", 1
        )
    )
    code = (
        "import dataclasses, json, sys, torch; from visionvitals import registry;"
        f"spec = registry.parse('python:{tmp_path}/net.py:module', families=['python']);"
        "card = registry.load('backbones', 'python').load(spec, device=torch.device('cpu')).card;"
        "print(json.dumps(dataclasses.asdict(card)))"
    )

    def card(sign: str) -> dict[str, Any]:
        (tmp_path / "helper.py").write_text(f"def sign():\n    return {sign}\n")
        command = [sys.executable, "-B", "-c", f"import sys; sys.path.insert(0, '{tmp_path}'); {code}"]
        found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        return found

    before, same, after = card("1.0"), card("1.00001"), card("1.01")
    assert before["digest"] == after["digest"], "digests cannot know it"
    kept = Answers.read(before["answers"])
    assert kept.differs(Answers.read(same["answers"])) is None
    assert "differ by 0.0099" in str(kept.differs(Answers.read(after["answers"])))


@pytest.mark.parametrize(
    "noisy",
    [
        "self.body(x.flatten(1)) + torch.randn(1)",
        "torch.nn.functional.dropout(self.body(x.flatten(1)), 0.5)",
        "self.body(x.flatten(1)) + next(COUNT)",
        "self.body(x.flatten(1)) - x.mean(dim=0).sum()",
    ],
    ids=["noise", "functional dropout", "a counter", "the rest of the batch"],
)
def test_a_network_that_is_not_repeatable_is_noted_and_not_compared(tmp_path: Path, noisy: str) -> None:
    state = torch.random.get_rng_state()
    card = written(
        tmp_path / "net.py",
        "import itertools\nCOUNT = itertools.count()\n" + FACTORY.replace("self.body(x.flatten(1))", f"({noisy})"),
    )
    assert card.answers is not None
    assert not card.answers.stable
    assert any("cannot be repeated exactly" in note for note in card.notes)
    assert torch.equal(torch.random.get_rng_state(), state)
    good = written(tmp_path / "good.py", FACTORY)
    assert good.answers is not None
    assert good.answers.stable
    assert good.notes == ()
    assert good.answers.differs(card.answers) is None


def test_answers_that_are_not_finite_are_noted(tmp_path: Path) -> None:
    one = "self.body(x.flatten(1)).masked_fill((torch.arange(len(x)) == 1)[:, None], float('nan'))"
    card = written(tmp_path / "net.py", FACTORY.replace("self.body(x.flatten(1))", one))
    assert card.answers is not None
    assert (card.answers.logits, card.answers.stable) == ((), False)
    assert "its answers are not finite numbers" in card.notes
    json.dumps(dataclasses.asdict(card), allow_nan=False)


def test_answers_say_how_much_and_which_libraries() -> None:
    kept = Answers(logits=((4.0, 2.0),), stable=True, versions=(("timm", "1.0"), ("torch", "2.6")))
    near = dataclasses.replace(kept, logits=((4.0, 2.003),))
    far = dataclasses.replace(kept, logits=((4.0, 2.1),), versions=(("timm", "1.1"), ("torch", "2.6")))
    assert kept.differs(near) is None
    assert kept.differs(far) == "its answers differ by 0.025 of the largest (timm 1.0 -> 1.1)"
    assert "the libraries are the same" in str(kept.differs(dataclasses.replace(far, versions=kept.versions)))
    assert "gives 0 answers" in str(kept.differs(dataclasses.replace(kept, logits=())))
    assert Answers.read(json.loads(json.dumps(dataclasses.asdict(far)))) == far


def test_the_two_pictures_are_exact_and_differ() -> None:
    both = _answers.pictures((24, 40), CPU)
    assert both.shape == (2, 3, 24, 40)
    assert both.dtype == torch.float32
    whole = both * 255
    torch.testing.assert_close(whole, whole.round(), atol=1e-4, rtol=0)
    assert 0 <= both.min() < both.max() <= 1
    assert (both[0] - both[1]).abs().mean() > 0.1
    card = load("timm:test_vit?pretrained=false&size=64").card
    assert card.answers is not None
    assert [len(row) for row in card.answers.logits] == [32, 32]


def test_a_folder_with_other_arguments_is_another_network(tmp_path: Path) -> None:
    """Shapes of weights and names are the same; only `config.json` tells that the heads are four instead of two."""
    from safetensors.torch import save_file

    digests = set()
    for heads in (1, 2):
        folder = tmp_path / str(heads)
        folder.mkdir()
        network = timm.create_model("test_vit", pretrained=False, num_heads=2)
        save_file({k: torch.full_like(v, 0.01) for k, v in network.state_dict().items()}, folder / "model.safetensors")
        config = {
            "input_size": [3, 160, 160],
            "num_classes": 1000,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        }
        told = {"architecture": "test_vit", "pretrained_cfg": config, "model_args": {"num_heads": heads}}
        (folder / "config.json").write_text(json.dumps(told))
        digests.add(load(f"timm:local-dir:{folder}").card.digest)
    assert len(digests) == 2


def test_source_is_what_code_means(tmp_path: Path) -> None:
    def digest(text: str) -> str:
        (tmp_path / "a.py").write_text(text)
        return source.digest(tmp_path / "a.py")

    plain = digest("def f(x):\n    return x + 1\n")
    assert digest('"""Doc."""\n# why\ndef f(x):\n\n    """Doc."""\n    return (x + 1)  # more\n') == plain
    assert digest("def f(x):\n    return x + 2\n") != plain
    assert digest("def g(x):\n    return x + 1\n") != plain
    assert digest("class A:\n    '''Doc.'''\n") == digest("class A:\n    pass\n")
    assert source.of(registry) == source.digest(registry.__file__) == source.of(registry.parse)
    assert source.of(len) is None
    assert source.of(3) is None


def test_a_file_is_executed_once_for_each_of_its_contents(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    one, other = tmp_path / "mine.py", tmp_path / "b" / "mine.py"
    one.write_text("class Condition: pass\n")
    other.write_text("class Condition: pass\n")
    first = registry.load("studies", str(one))
    assert registry.load("studies", str(one)).Condition is first.Condition
    assert registry.load("studies", str(other)).Condition is not first.Condition
    one.write_text("class Condition: edited = True\n")
    assert registry.load("studies", str(one)).Condition.edited
    one.write_text("1 / 0\n")
    for _ in range(2):
        with pytest.raises(VitalsError, match="ZeroDivisionError"):
            registry.load("studies", str(one))


def test_two_spellings_of_one_value_are_one_network() -> None:
    base = "timm:test_vit?pretrained=false&size=64"
    one, other = (
        load(f"{base}&crop={crop}&model.drop_rate={rate}").card for crop, rate in (("0.90", ".1"), (".9", "0.10"))
    )
    assert (one.digest, one.preprocess) == (other.digest, other.preprocess)
