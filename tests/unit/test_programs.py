"""Networks that are programs in files, ONNX and torch.export: the numbers of the network that they were made from, logits only, and what is refused."""

import importlib.util
import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from visionvitals import cli, core
from visionvitals.datasets.base import decode
from visionvitals.errors import VitalsError
from visionvitals.numerics import Numerics
from visionvitals.plan import cards, planner
from visionvitals.plan.planner import load_backbone
from visionvitals.plan.request import Plan, Section, parse
from visionvitals.run import trust

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
CPU = torch.device("cpu")


class Net(nn.Module):
    """16 classes of pictures of any size; `dropout` for training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.drop = nn.Conv2d(3, 16, 4, 4), nn.BatchNorm2d(16), nn.Dropout(0.5)
        self.fc = nn.Linear(16, 16)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.fc(self.drop(self.norm(self.stem(images)).relu().mean((2, 3))))
        return found


def net() -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Net().eval()


def to_onnx(path: Path, module: nn.Module, images: Tensor, **how: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (images,), path, dynamo=True, verbose=False, **how)


def to_pt2(path: Path, module: nn.Module, images: Tensor, dims: dict[int, Any] | None = None) -> None:
    torch.export.save(torch.export.export(module, (images,), dynamic_shapes=(dims,) if dims else None), path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from onnxruntime.quantization import quantize_dynamic

    where = tmp_path_factory.mktemp("programs")
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    auto = torch.export.Dim.DYNAMIC
    to_onnx(where / "any.onnx", net(), images, dynamic_shapes=({0: auto},), external_data=False)
    to_onnx(where / "four.onnx", net(), images)  # its weights beside it
    to_onnx(where / "open.onnx", net(), images, dynamic_shapes=({0: auto, 2: auto, 3: auto},), external_data=False)
    to_onnx(where / "half.onnx", net().half(), images.half(), external_data=False)
    to_pt2(where / "any.pt2", net(), images, {0: auto})
    to_pt2(where / "three.pt2", net(), images[:3])
    to_pt2(where / "some.pt2", net(), images, {0: torch.export.Dim("b", min=3, max=5)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_dynamic(where / "any.onnx", where / "dynamic.onnx")
    return where


def pictures(n: int = 7, side: int = 32) -> Tensor:
    """Each of another brightness, so that a scale taken from several is another one."""
    found = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1))
    return found * torch.linspace(0.2, 1, n).view(-1, 1, 1, 1)


def expected(backbone: core.Backbone, images: Tensor) -> Tensor:
    """By the network itself, and by what its card says of the pictures."""
    look = backbone.card.preprocess
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (look.mean, look.std))
    with torch.no_grad():
        found: Tensor = net()((images - mean) / std)
    return found


@pytest.mark.parametrize(
    ("spelling", "close"),
    [
        ("onnx:{}/any.onnx", 1e-5),
        ("onnx:{}/four.onnx", 1e-5),
        ("onnx:{}/any.onnx?mean=0&std=1", 1e-5),
        ("onnx:{}/half.onnx", 5e-3),
        ("exported:{}/any.pt2", 1e-5),
        ("exported:{}/three.pt2", 1e-5),
        ("exported:{}/some.pt2?mean=0.5&std=0.25", 1e-5),
    ],
)
def test_the_logits_are_those_of_the_network_that_it_was_made_from(spelling: str, close: float, files: Path) -> None:
    backbone = load_backbone(spelling.format(files), device=CPU)
    card = backbone.card
    logits = backbone.logits(pictures())
    torch.testing.assert_close(logits, expected(backbone, pictures()), atol=close, rtol=0)
    assert logits.dtype == torch.float32
    for n in (1, 2, 7):  # one, few, and more than the file takes at once
        torch.testing.assert_close(backbone.logits(pictures()[:n]), logits[:n], atol=1e-6, rtol=0)
    assert (card.outputs, card.preprocess.size, card.provides) == (16, (32, 32), ())
    assert (card.inference_only, backbone.features, backbone.inside, backbone.visible_logits) == (
        True,
        None,
        None,
        None,
    )
    assert card.parameters >= 16 * 48 + 16 + 16 * 16 + 16
    asking = pictures(1).requires_grad_()
    assert not backbone.logits(asking).requires_grad
    json.dumps(cards.dataclasses.asdict(card))


def test_scales_that_are_taken_from_a_batch_are_those_of_one_picture(files: Path) -> None:
    """onnxruntime's dynamic quantisation makes an answer depend on the pictures beside it; ours does not, and says so."""
    import onnxruntime

    backbone = load_backbone(f"onnx:{files}/dynamic.onnx?mean=0&std=1", device=CPU)
    session = onnxruntime.InferenceSession(str(files / "dynamic.onnx"))
    name = session.get_inputs()[0].name
    together, one = (torch.from_numpy(session.run(None, {name: pictures()[:n].numpy()})[0]) for n in (7, 1))
    assert (together[0] - one[0]).abs().max() > 1e-4
    found = backbone.logits(pictures())
    torch.testing.assert_close(found[:1], one, atol=0, rtol=0)
    torch.testing.assert_close(backbone.logits(pictures().flip(0)).flip(0), found, atol=0, rtol=0)
    assert any("pictures are given one by one" in note for note in backbone.card.notes)
    assert any("taken from ImageNet's usual" in note for note in backbone.card.notes)
    whole = load_backbone(f"onnx:{files}/any.onnx?mean=0&std=1&resize=none&interpolation=bicubic", device=CPU)
    assert not any("taken from ImageNet's usual" in note for note in whole.card.notes)
    plain = load_backbone(f"onnx:{files}/any.onnx", device=CPU).card.notes
    assert not any("pictures are given one by one" in note for note in plain)
    assert backbone.card.answers is not None
    assert backbone.card.answers.stable


class _Coarse(nn.Module):
    """Rounds its input to a grid whose step is the largest value of the whole batch, as integers made by hand do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, images: Tensor) -> Tensor:
        step = images.abs().max() / 7
        found: Tensor = self.net(torch.round(images / step) * step)
        return found


def test_a_scale_of_the_whole_batch_is_noticed_also_where_no_operator_tells(tmp_path: Path) -> None:
    to_pt2(tmp_path / "coarse.pt2", _Coarse(), pictures(), {0: torch.export.Dim.AUTO})
    to_pt2(tmp_path / "four.pt2", _Coarse(), pictures(4))
    shown = pictures() * torch.linspace(0.1, 1, 7).view(7, 1, 1, 1)
    for name in ("coarse", "four"):
        backbone = load_backbone(f"exported:{tmp_path}/{name}.pt2", device=CPU)
        assert any("pictures are given one by one" in note for note in backbone.card.notes), name
        one = torch.cat([backbone.logits(each[None]) for each in shown])
        torch.testing.assert_close(backbone.logits(shown), one, atol=0, rtol=0)


def test_a_size_that_the_file_leaves_open_is_said_and_another_than_its_own_is_refused(files: Path) -> None:
    for size in ((48, 48), (32, 64)):
        backbone = load_backbone(f"onnx:{files}/open.onnx?size={size[0]}x{size[1]}", device=CPU)
        images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(2))
        torch.testing.assert_close(backbone.logits(images), expected(backbone, images), atol=1e-5, rtol=0)
    with pytest.raises(VitalsError, match=r"must say the size of its input.*any x any.*`\?size=224`"):
        load_backbone(f"onnx:{files}/open.onnx", device=CPU)
    for family in ("onnx:{}/any.onnx", "exported:{}/any.pt2"):
        with pytest.raises(VitalsError, match=r"takes pictures of 32 x 32 pixels, so `size` must be that. Got '64x64'"):
            load_backbone(f"{family.format(files)}?size=64", device=CPU)
        assert load_backbone(f"{family.format(files)}?size=32", device=CPU).card.preprocess.size == (32, 32)


def test_identity_is_the_content_of_the_file_and_of_the_data_beside_it(files: Path, tmp_path: Path) -> None:
    def digest(spelling: str) -> str:
        return load_backbone(spelling, device=CPU).card.digest

    for name in ("four.onnx", "four.onnx.data", "any.pt2"):
        (tmp_path / name).write_bytes((files / name).read_bytes())
    assert digest(f"onnx:{tmp_path}/four.onnx") == digest(f"onnx:{files}/four.onnx")
    assert digest(f"exported:{tmp_path}/any.pt2") == digest(f"exported:{files}/any.pt2")
    assert cards.registry.load("backbones", "onnx").files(parse("backbones", f"onnx:{tmp_path}/four.onnx")) == (
        tmp_path / "four.onnx.data",
    )
    before = digest(f"onnx:{tmp_path}/four.onnx")
    data = bytearray((tmp_path / "four.onnx.data").read_bytes())
    data[0:4] = b"\0\0\0\0"
    (tmp_path / "four.onnx.data").write_bytes(data)
    assert digest(f"onnx:{tmp_path}/four.onnx") != before
    assert len({digest(f"onnx:{files}/{name}.onnx") for name in ("any", "four", "half", "dynamic")}) == 4


def model(
    path: Path,
    nodes: Sequence[Any],
    inputs: Sequence[tuple[str, int, list[Any]]],
    outputs: Sequence[tuple[str, int, list[Any]]],
    tensors: Sequence[Any] = (),
    domains: tuple[str, ...] = (),
) -> Path:
    values = [[onnx.helper.make_tensor_value_info(*each) for each in several] for several in (inputs, outputs)]
    graph = onnx.helper.make_graph(nodes, "g", *values, initializer=list(tensors))
    opsets = [onnx.helper.make_opsetid(domain, 17 if not domain else 1) for domain in ("", *domains)]
    path.write_bytes(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    return path


FLOAT, INT, BYTE = 1, 7, 2
IMAGES = ("x", FLOAT, ["n", 3, 8, 8])
POOL = [("ReduceMean", ["x"], ["y"], {"axes": [2, 3], "keepdims": 0})]
BAD: dict[str, tuple[list[Any], list[Any], list[Any], str]] = {
    "two inputs": (
        [("Add", ["x", "z"], ["s"], {}), ("ReduceMean", ["s"], ["y"], {"axes": [2, 3], "keepdims": 0})],
        [IMAGES, ("z", FLOAT, ["n", 3, 8, 8])],
        [("y", FLOAT, ["n", 3])],
        "must have one input, the images. Got '2: x, z'",
    ),
    "channels last": (
        [("ReduceMean", ["x"], ["y"], {"axes": [1, 2], "keepdims": 0})],
        [("x", FLOAT, ["n", 8, 8, 3])],
        [("y", FLOAT, ["n", 3])],
        r"must be \(n, 3, height, width\). Got '\(any, 8, 8, 3\)'. It has the channels last",
    ),
    "grey": (POOL, [("x", FLOAT, ["n", 1, 8, 8])], [("y", FLOAT, ["n", 1])], r"Got '\(any, 1, 8, 8\)'"),
    "vectors": ([("Identity", ["x"], ["y"], {})], [("x", FLOAT, ["n", 9])], [("y", FLOAT, ["n", 9])], r"Got '\(any, 9\)'"),
    "whole numbers": (
        [("Cast", ["x"], ["f"], {"to": 1}), ("ReduceMean", ["f"], ["y"], {"axes": [2, 3], "keepdims": 0})],
        [("x", BYTE, ["n", 3, 8, 8])],
        [("y", FLOAT, ["n", 3])],
        r"must be of float or float16. Got 'tensor\(uint8\)'",
    ),
    "maps": ([("Relu", ["x"], ["y"], {})], [IMAGES], [("y", FLOAT, ["n", 3, 8, 8])], r"logits of shape \(n, k\)"),
    "two outputs": (
        [*POOL, ("Relu", ["y"], ["z"], {})],
        [IMAGES],
        [("y", FLOAT, ["n", 3]), ("z", FLOAT, ["n", 3])],
        "one output, or one that is called `logits`. Got 'y, z'",
    ),
    "labels": (
        [*POOL[:0], ("ReduceMean", ["x"], ["m"], {"axes": [2, 3], "keepdims": 0}), ("ArgMax", ["m"], ["y"], {"axis": 1, "keepdims": 0})],
        [IMAGES],
        [("y", INT, ["n"])],
        r"logits of shape \(n, k\)",
    ),
    "one answer for all": (
        [("ReduceMean", ["x"], ["y"], {"axes": [0, 2, 3], "keepdims": 0}), ("Unsqueeze", ["y", "axis"], ["u"], {})],
        [IMAGES],
        [("u", FLOAT, [1, 3])],
        r"must give logits of shape \(b, k\). Got \(1, 3\) for 2 images",
    ),
    "training mode": (
        [
            ("BatchNormalization", ["x", "one", "one", "one", "one"], ["b", "m", "v"], {"training_mode": 1}),
            ("ReduceMean", ["b"], ["y"], {"axes": [2, 3], "keepdims": 0}),
        ],
        [IMAGES],
        [("y", FLOAT, ["n", 3])],
        "evaluation mode only. Got 'training mode in BatchNormalization'",
    ),
    "unknown operator": ([("Warp", ["x"], ["y"], {"domain": "of.ours"})], [IMAGES], [("y", FLOAT, ["n", 3])], "of.ours:Warp"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_classifier_of_images_is_refused_with_a_sentence(name: str, tmp_path: Path) -> None:
    nodes, inputs, outputs, said = BAD[name]
    made = [onnx.helper.make_node(op, into, out, **how) for op, into, out, how in nodes]
    tensors = [onnx.helper.make_tensor("one", FLOAT, [3], [1.0] * 3), onnx.helper.make_tensor("axis", INT, [1], [0])]
    used = [t for t in tensors if any(t.name in node.input for node in made)]
    path = model(tmp_path / "bad.onnx", made, inputs, outputs, used, ("of.ours",))
    with pytest.raises(VitalsError, match=said) as caught:
        load_backbone(f"onnx:{path}", device=CPU)
    assert str(caught.value).startswith(f"`onnx:{path}`: ")


def test_the_output_called_logits_is_taken_of_several(tmp_path: Path) -> None:
    made = [
        onnx.helper.make_node("ReduceMean", ["x"], ["logits"], axes=[2, 3], keepdims=0),
        onnx.helper.make_node("Relu", ["logits"], ["z"]),
    ]
    path = model(tmp_path / "a.onnx", made, [IMAGES], [("z", FLOAT, ["n", 3]), ("logits", FLOAT, ["n", 3])])
    backbone = load_backbone(f"onnx:{path}?mean=1&std=1", device=CPU)
    images = pictures(2, 8)
    torch.testing.assert_close(backbone.logits(images), images.mean((2, 3)) - 1, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"no network", "a.onnx", "must be a whole ONNX file"),
        (b"", "a.onnx", "must be a whole ONNX file"),
        (b"\x08\x08", "a.onnx", "without a network"),
        (None, "a.onnx", "There is no file"),
        (b"no zip", "a.pt2", "must be a program that torch.export.save wrote. Got 'another type of file'"),
        (None, "a.pt2", "There is no file"),
    ],
)
def test_what_is_no_program_is_refused(content: bytes | None, name: str, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VitalsError, match=said):
        load_backbone(f"{'onnx' if name.endswith('onnx') else 'exported'}:{tmp_path / name}", device=CPU)


def test_without_the_extra_it_says_what_to_install(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else known(name))
    with pytest.raises(VitalsError, match=r'needs onnxruntime. Install it: pip install "visionvitals\[onnx\]"'):
        load_backbone(f"onnx:{files}/any.onnx", device=CPU)


def test_a_weights_file_is_no_program_and_a_cut_one_neither(files: Path, tmp_path: Path) -> None:
    torch.save(net().state_dict(), tmp_path / "weights.pt2")
    (tmp_path / "cut.onnx").write_bytes((files / "any.onnx").read_bytes()[:-900])
    for spelling in (f"exported:{tmp_path}/weights.pt2", f"onnx:{tmp_path}/cut.onnx"):
        with pytest.raises(VitalsError, match="must be a"):
            load_backbone(spelling, device=CPU)


def test_data_that_is_missing_or_elsewhere_is_named(files: Path, tmp_path: Path) -> None:
    (tmp_path / "four.onnx").write_bytes((files / "four.onnx").read_bytes())
    with pytest.raises(VitalsError, match=r"must lie in the same folder. Got 'no four.onnx.data'"):
        load_backbone(f"onnx:{tmp_path}/four.onnx", device=CPU)
    proto = onnx.load(str(files / "four.onnx"), load_external_data=False)
    for pair in (p for t in proto.graph.initializer for p in t.external_data if p.key == "location"):
        pair.value = "../four.onnx.data"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "four.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(VitalsError, match="in its own folder or below"):
        load_backbone(f"onnx:{tmp_path}/in/four.onnx", device=CPU)


class _Two(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a + b).mean((2, 3))


class _Last(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.float().mean((1, 2))


def test_programs_of_torch_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    x = torch.rand(2, 3, 8, 8)
    path = tmp_path / "a.pt2"
    cases: list[tuple[nn.Module, tuple[Tensor, ...], str]] = [
        (_Two(), (x, x), "one input, the images. Got '2: "),
        (_Last(), (x.permute(0, 2, 3, 1).contiguous(),), "It has the channels last"),
        (_Last(), (x.to(torch.uint8).permute(0, 2, 3, 1).contiguous(),), r"Got 'torch.uint8'"),
        (nn.ReLU(), (x,), r"must give logits of shape \(b, k\)"),
        (net().train(), (torch.rand(2, 3, 32, 32),), "evaluation mode only. Got 'training mode in "),
    ]
    for module, given, said in cases:
        torch.export.save(torch.export.export(module, given), path)
        with pytest.raises(VitalsError, match=said):
            load_backbone(f"exported:{path}", device=CPU)


def test_a_program_of_torch_counts_as_code_and_onnx_does_not() -> None:
    """Loading unpickles: so a run folder from elsewhere needs trust."""
    asked = {"backbones": ["onnx:a.onnx?size=32", "b=exported:/x/b.pt2", "exported:c.pt2?size=32"]}
    assert trust.code_of(asked) == ["b=exported:/x/b.pt2", "exported:c.pt2?size=32"]


def test_what_needs_more_than_logits_is_skipped_with_its_reason(files: Path) -> None:
    (files / "classes.txt").write_text("\n".join(planner.open_images("shapes:test").card.classes))
    spelling = f"onnx:{files}/any.onnx?classes={files}/classes.txt"
    names = ("clean", "occlusion", "attack", "attention", "tokens", "fewshot", "lesion", "correlation")
    asked = tuple(Section(name=name, preset="quick") for name in names)
    more = (
        Section(name="salient", values={"source": ("gradient",), "grid": ((8, 8),)}),
        Section(name="adversarial_patch", values={"content": ("trained", "noise"), "source": ("", "tiny:cnn")}),
    )
    plan = Plan(backbones=(spelling,), data=("shapes:test",), studies=(*asked, *more))
    found = planner.make(plan, device=CPU)
    measured = {cell.study for cell in found.cells}
    reasons = {skip.study: skip.reason for skip in found.skips}
    assert {"clean", "occlusion"} <= measured
    assert not measured & {"attention", "tokens", "fewshot", "lesion", "correlation", "salient"}
    assert {cell.condition.eps for cell in found.cells if cell.study == "attack"} == {0}
    assert "an attack needs gradients; ONNX opset" in reasons["attack"]
    assert "`source = gradient` needs gradients" in reasons["salient"]
    patches = {(c.condition.content, c.condition.source) for c in found.cells if c.study == "adversarial_patch"}
    assert ("trained", "") not in patches
    assert ("noise", "") in patches
    other = planner.make(
        Plan(
            backbones=("tiny:vit",),
            data=("shapes:test",),
            studies=(Section(name="clean"), Section(name="adversarial_patch", values={"source": (spelling,)})),
        ),
        device=CPU,
    )
    assert {cell.study for cell in other.cells} == {"clean"}
    assert any(skip.reason.endswith(f"`source` {spelling} has none") for skip in other.skips)


def test_another_precision_is_not_claimed(files: Path) -> None:
    plan = Plan(
        backbones=("tiny:vit", f"exported:{files}/any.pt2"),
        data=("shapes:test",),
        studies=(Section(name="clean"),),
        numerics=Numerics(precision="bf16"),
    )
    found = planner.make(plan, device=CPU)
    assert [cell.backbone.spec for cell in found.cells] == ["tiny:vit"]
    assert any("measure it by fp32" in skip.reason or "outputs" in skip.reason for skip in found.skips)


def rows(out: Path) -> dict[str, list[float]]:
    """column of a file of rows -> its numbers."""
    import pyarrow.parquet as pq

    tables = {path: pq.read_table(path).to_pydict() for path in sorted(out.glob("store/*/*/*.parquet"))}
    found = {f"{p.parent.name}/{k}": v for p, t in tables.items() for k, v in t.items() if isinstance(v[0], float)}
    assert len(found) >= 10
    return found


@pytest.mark.parametrize("name", ["onnx:{}/dynamic.onnx", "exported:{}/some.pt2"])
def test_the_rows_of_an_audit_do_not_depend_on_the_batch(name: str, files: Path, tmp_path: Path) -> None:
    (files / "classes.txt").write_text("\n".join(planner.open_images("shapes:test").card.classes))
    found = []
    for size in ("1", "7"):
        command = ["audit", f"{name.format(files)}?classes={files}/classes.txt", "--data", "shapes:test?n=16"]
        command += ["--studies", "clean,occlusion", "--preset", "quick", "--device", "cpu", "--batch-size", size]
        assert cli.main([*command, "--out", str(tmp_path / size)]) == 0
        found.append(rows(tmp_path / size))
    assert found[0].keys() == found[1].keys()
    for key, values in found[0].items():
        assert values == pytest.approx(found[1][key], abs=1e-6), key
    assert len({tuple(values) for key, values in found[0].items() if key.endswith("cross_entropy")}) > 3


# --- real weights

DATA = Path(os.environ.get("VISIONVITALS_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
WEIGHTS = DATA / "weights" / "squeezenet1_1.pth"


@pytest.mark.real
@pytest.mark.skipif(not WEIGHTS.is_file(), reason="VISIONVITALS_REAL_DATA names no folder")
def test_a_real_network_answers_as_before_it_was_exported(tmp_path: Path) -> None:
    """SqueezeNet as torchvision has it, as ONNX and as an exported program, on photographs."""
    own = load_backbone(f"torchvision:squeezenet1_1@{WEIGHTS}", device=CPU)
    images = torch.rand(2, 3, 224, 224)
    to_onnx(tmp_path / "net.onnx", own.module, images, external_data=False)
    to_pt2(tmp_path / "net.pt2", own.module, images, {0: torch.export.Dim.DYNAMIC})
    photographs = sorted((DATA / "imagenet_sample").glob("*/*"))[::60]
    cut = [decode.decode(Image.open(path), own.card.preprocess) for path in photographs]
    given = torch.stack([torch.from_numpy(each.copy()).permute(2, 0, 1) for each in cut]).float() / 255
    before = own.logits(given)
    assert len(before) == 5
    for spelling in (f"onnx:{tmp_path}/net.onnx", f"exported:{tmp_path}/net.pt2"):
        found = load_backbone(spelling, device=CPU)
        assert found.card.preprocess == own.card.preprocess
        assert found.card.classes == own.card.classes
        torch.testing.assert_close(found.logits(given), before, atol=1e-3, rtol=0)
