"""T2T-ViT: the published sizes, the arithmetic by an independent forward pass, files, and what cannot be asked of it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import erf
from torch import Tensor

from visionvitals import core, listing, registry, study
from visionvitals.backbones import _parts, t2t
from visionvitals.backbones._t2t_network import VARIANTS, T2TViT, Variant, _Performer, _Softmax
from visionvitals.errors import VitalsError

CPU = torch.device("cpu")
TINY = {kind: Variant(64, 1, 1, 2, kind) for kind in ("performer", "transformer")}
# of the released files: parameters and keys
FILES = {
    "t2t_vit_7": (4_310_222, 111),
    "t2t_vit_10": (5_889_230, 144),
    "t2t_vit_12": (6_941_902, 166),
    "t2t_vit_14": (21_545_550, 188),
    "t2t_vit_19": (39_177_422, 243),
    "t2t_vit_24": (64_105_934, 298),
    "t2t_vit_t_14": (21_541_070, 184),
    "t2t_vit_t_19": (39_172_942, 239),
    "t2t_vit_t_24": (64_101_454, 294),
}


def load(spelling: str) -> core.Backbone:
    spec = registry.parse(spelling, families=registry.names("backbones"))
    found = registry.load("backbones", spec.family).load(spec, device=CPU)
    assert isinstance(found, core.Backbone)
    return found


def made(variant: Variant, **kwargs: Any) -> T2TViT:
    """With random values everywhere, so that no weight is without effect, and of a size at which a Performer's exponentials do not vanish."""
    network = _parts.seeded(lambda: T2TViT(variant, **kwargs), seed=3).eval()
    random = torch.Generator().manual_seed(4)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            parameter.data += (0.03 if "kqv" in name else 0.1) * torch.randn(parameter.shape, generator=random)
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in of the released file of t2t_vit_7, with random weights."""
    path = tmp_path_factory.mktemp("t2t") / "71.7_T2T_ViT_7.pth.tar"
    torch.save({"state_dict_ema": _parts.seeded(lambda: T2TViT(VARIANTS["t2t_vit_7"]), seed=5).state_dict()}, path)
    return path


def keys(blocks: int, kind: str) -> set[str]:
    both = ("weight", "bias")
    inner = [f"{part}.{w}" for part in ("norm1", "norm2") for w in both]
    if kind == "performer":
        inner += ["w", *(f"{part}.{w}" for part in ("kqv", "proj", "mlp.0", "mlp.2") for w in both)]
    else:
        inner += ["attn.qkv.weight", *(f"{part}.{w}" for part in ("attn.proj", "mlp.fc1", "mlp.fc2") for w in both)]
    found = {f"tokens_to_token.attention{k}.{name}" for k in (1, 2) for name in inner}
    found |= {f"{part}.{w}" for part in ("tokens_to_token.project", "norm", "head") for w in both}
    parts = ("norm1", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    for k in range(blocks):
        found |= {f"blocks.{k}.{part}.{w}" for part in parts for w in both} | {f"blocks.{k}.attn.qkv.weight"}
    return found | {"cls_token", "pos_embed"}


@pytest.mark.parametrize("name", FILES)
def test_keys_and_parameters_are_those_of_the_released_files(name: str) -> None:
    with torch.device("meta"):
        state = T2TViT(VARIANTS[name]).state_dict()
    assert (sum(value.numel() for value in state.values()), len(state)) == FILES[name]
    assert state.keys() == keys(VARIANTS[name].blocks, VARIANTS[name].module)
    assert t2t.FILES.keys() == FILES.keys()
    if VARIANTS[name].module == "performer":
        assert state["tokens_to_token.attention1.w"].shape == (32, 64)
        assert state["tokens_to_token.attention1.kqv.weight"].shape == (192, 147)
        assert state["tokens_to_token.attention2.kqv.weight"].shape == (192, 576)


def test_the_position_table_is_one_of_sines() -> None:
    table = T2TViT(VARIANTS["t2t_vit_14"]).pos_embed[0].double()
    assert table[0].tolist() == [0.0, 1.0] * 192
    assert float(table.square().sum()) == pytest.approx(197 * 384 / 2, rel=1e-6) == 37_824
    assert float(table[7, 20]) == pytest.approx(math.sin(7 / 10000 ** (20 / 384)), abs=1e-6)
    assert float(table[7, 21]) == pytest.approx(math.cos(7 / 10000 ** (20 / 384)), abs=1e-6)


def test_the_random_features_are_orthogonal() -> None:
    network = T2TViT(TINY["performer"])
    for w in (network.tokens_to_token.attention1.w, network.tokens_to_token.attention2.w):
        torch.testing.assert_close(w @ w.T, 32 * torch.eye(32), atol=1e-4, rtol=0)
        assert not w.requires_grad


@pytest.mark.parametrize("kind", ["performer", "transformer"])
def test_attention_that_tells_no_token_apart_gives_the_mean_of_the_values(kind: str) -> None:
    """A Performer without keys, and softmax without queries: all weights are the same."""
    part: Any = _parts.seeded(lambda: (_Performer if kind == "performer" else _Softmax)(147), seed=0)
    x = torch.randn(2, 9, 147, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        if kind == "performer":
            _, q, v = part.kqv(part.norm1(x)).split(64, dim=2)
            seen = part.attended(torch.zeros_like(q), q, v)
        else:
            layer = part.attn
            layer.qkv.weight[:64] = 0
            layer.proj.weight.copy_(torch.eye(64))
            layer.proj.bias.zero_()
            v = layer.qkv(x)[..., 128:]
            seen = layer(x) - v
    torch.testing.assert_close(seen, v.mean(dim=1, keepdim=True).expand_as(v), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("size", "sides"), [(224, (56, 28, 14)), (384, (96, 48, 24))])
def test_tokens_of_the_published_sizes(size: int, sides: tuple[int, ...]) -> None:
    network = T2TViT(TINY["performer"]).eval()
    seen: list[int] = []
    part = network.tokens_to_token
    for layer in (part.attention1, part.attention2, part.project):
        layer.register_forward_hook(lambda _m, given, _out: seen.append(given[0].shape[1]))
    with torch.no_grad():
        assert part(torch.rand(1, 3, size, size)).shape == (1, sides[2] ** 2, 64)
    assert seen == [side * side for side in sides]


class Reference:
    """The network once more, image by image, in float64 and plain numpy."""

    def __init__(self, network: T2TViT, variant: Variant) -> None:
        self.w = {key: value.double().numpy() for key, value in network.state_dict().items()}
        self.variant = variant

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.w[f"{name}.weight"].T + self.w.get(f"{name}.bias", 0)

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def mlp(self, x: np.ndarray, one: str, two: str) -> np.ndarray:
        hidden = self.linear(x, one)
        return self.linear(hidden * (1 + erf(hidden / math.sqrt(2))) / 2, two)

    @staticmethod
    def unfold(x: np.ndarray, kernel: int, stride: int, padding: int) -> tuple[np.ndarray, int, int]:
        """(c, h, w) -> (rows x columns, c x kernel x kernel), the channel first."""
        x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
        rows, columns = ((side - kernel) // stride + 1 for side in x.shape[1:])
        cut = [
            x[:, r * stride : r * stride + kernel, c * stride : c * stride + kernel].reshape(-1)
            for r in range(rows)
            for c in range(columns)
        ]
        return np.stack(cut), rows, columns

    @staticmethod
    def softmax(x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    def module(self, x: np.ndarray, at: str) -> np.ndarray:
        normed = self.norm(x, f"{at}.norm1")
        if self.variant.module == "performer":
            both = self.linear(normed, f"{at}.kqv")
            k, q, v = both[:, :64], both[:, 64:128], both[:, 128:]
            w = self.w[f"{at}.w"]
            pk, pq = (np.exp(u @ w.T - (u**2).sum(axis=1, keepdims=True) / 2) / math.sqrt(32) for u in (k, q))
            kernel = pq @ pk.T
            y = self.linear(kernel @ v / (kernel.sum(axis=1, keepdims=True) + 1e-8), f"{at}.proj")
            mlp = (f"{at}.mlp.0", f"{at}.mlp.2")
        else:
            both = self.linear(normed, f"{at}.attn.qkv")
            q, k, v = both[:, :64], both[:, 64:128], both[:, 128:]
            y = self.linear(self.softmax(q @ k.T / math.sqrt(x.shape[1])) @ v, f"{at}.attn.proj")
            mlp = (f"{at}.mlp.fc1", f"{at}.mlp.fc2")
        out = v + y
        return out + self.mlp(self.norm(out, f"{at}.norm2"), *mlp)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        at = "tokens_to_token"
        x, rows, columns = self.unfold(image, 7, 4, 2)
        for name in ("attention1", "attention2"):
            x = self.module(x, f"{at}.{name}").T.reshape(64, rows, columns)
            x, rows, columns = self.unfold(x, 3, 2, 1)
        x = np.concatenate([self.w["cls_token"][0], self.linear(x, f"{at}.project")]) + self.w["pos_embed"][0]
        heads, size = self.variant.heads, self.variant.width // self.variant.heads
        for k in range(self.variant.blocks):
            both = self.linear(self.norm(x, f"blocks.{k}.norm1"), f"blocks.{k}.attn.qkv")
            q, key, v = both.reshape(len(x), 3, heads, size).transpose(1, 2, 0, 3)
            seen = self.softmax(q @ key.transpose(0, 2, 1) / math.sqrt(size)) @ v
            x = x + self.linear(seen.transpose(1, 0, 2).reshape(len(x), -1), f"blocks.{k}.attn.proj")
            inner = (f"blocks.{k}.mlp.fc1", f"blocks.{k}.mlp.fc2")
            x = x + self.mlp(self.norm(x, f"blocks.{k}.norm2"), *inner)
        return self.linear(self.norm(x, "norm")[0], "head")


@pytest.mark.parametrize("name", ["t2t_vit_7", "transformer"])
def test_it_computes_what_an_independent_forward_pass_does(name: str) -> None:
    variant = VARIANTS.get(name) or TINY["transformer"]
    network = made(variant, grid=(2, 3), num_classes=10)
    images = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    reference = Reference(network, variant)
    theirs = torch.from_numpy(np.stack([reference(image.double().numpy()) for image in images]))
    torch.testing.assert_close(network(images).double(), theirs, atol=2e-4, rtol=2e-4)
    assert float((theirs[0] - theirs[1]).abs().max()) > 0.01


def test_keys_come_before_queries_in_a_performer() -> None:
    network = made(TINY["performer"], grid=(2, 2))
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    before = network(image)
    for part in (network.tokens_to_token.attention1.kqv, network.tokens_to_token.attention2.kqv):
        k, q, v = part.weight.split(64)
        part.weight.copy_(torch.cat([q, k, v]))
        k, q, v = part.bias.split(64)
        part.bias.copy_(torch.cat([q, k, v]))
    assert float((network(image) - before).abs().max()) > 1e-3 * float(before.abs().max())


def test_the_released_file_gives_its_weights_and_what_can_be_asked(released: Path) -> None:
    backbone = load(f"t2t:t2t_vit_7@{released}?size=224")
    card = backbone.card
    own = torch.load(released, weights_only=True)["state_dict_ema"]
    assert all(torch.equal(value, own[key]) for key, value in backbone.module.state_dict().items())
    assert (card.architecture, card.parameters, card.outputs) == ("t2t_vit_7", 4_310_222, 1000)
    assert (card.blocks, card.attention_heads, card.patch_grid, card.prefix_tokens) == (7, 4, (14, 14), 1)
    assert set(card.provides) == {"features", "tokens", "attention", "readout"}
    look = card.preprocess
    assert (look.size, look.resize, look.interpolation) == ((224, 224), 248, "bicubic")
    assert (look.mean, look.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert card.notes == ()
    assert card.classes is not None
    assert card.classes[0] == "n01440764"


def test_tokens_are_not_removed_and_the_reason_is_said() -> None:
    backbone = load("t2t:t2t_vit_7?pretrained=false&size=32")
    assert backbone.visible_logits is None
    occlusion = study.load("occlusion")
    condition = occlusion.Condition(fraction=0.5, grid=(2, 2), fill="token")
    images = core.ImageSetCard(spec="", digest="", n=1, classes=("a",), class_names=("a",))
    reason = occlusion.refusal(condition, backbone.card, images)
    assert reason is not None
    assert "t2t_vit_7 has none: its token module attends over the whole image" in reason
    # and it is so: each token that leaves the module changes with any patch
    module: Any = backbone.module
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    other = image.clone()
    other[..., :16, :16] = 0
    with torch.no_grad():
        change = (module.tokens_to_token(image) - module.tokens_to_token(other)).norm(dim=2)
    assert bool((change > 0).all())


def test_another_size_resamples_the_grid_and_keeps_the_class_token(released: Path) -> None:
    module: Any = load(f"t2t:t2t_vit_7@{released}?size=48x32").module
    plain: Tensor = torch.load(released, weights_only=True)["state_dict_ema"]["pos_embed"]
    assert module.pos_embed.shape == (1, 7, 256)
    assert torch.equal(module.pos_embed[0, 0], plain[0, 0])
    card = load(f"t2t:t2t_vit_7@{released}?size=64").card
    assert (card.preprocess.resize, card.patch_grid) == (71, (4, 4))
    assert "made for 224 x 224 pixels and shown 64 x 64: its table of positions is resampled" in card.notes
    with pytest.raises(VitalsError, match="multiples of 16 pixels"):
        load(f"t2t:t2t_vit_7@{released}?size=100")


def test_a_file_for_another_input_and_other_classes_is_taken_as_it_is(tmp_path: Path) -> None:
    own = _parts.seeded(lambda: T2TViT(VARIANTS["t2t_vit_7"], grid=(3, 3), num_classes=4), seed=0)
    torch.save(own.state_dict(), tmp_path / "own.pth")
    card = load(f"t2t:t2t_vit_7@{tmp_path}/own.pth").card
    assert (card.preprocess.size, card.preprocess.resize, card.outputs) == ((48, 48), 53, 4)


def test_what_is_never_trained_shows_whether_the_right_tensors_were_read(tmp_path: Path) -> None:
    state = _parts.seeded(lambda: T2TViT(VARIANTS["t2t_vit_7"]), seed=0).state_dict()
    state["tokens_to_token.attention2.w"] += 1
    torch.save(state, tmp_path / "odd.pth")
    note = "its random features are not those of the authors' code: was it trained by another one?"
    assert note in load(f"t2t:t2t_vit_7@{tmp_path}/odd.pth?size=32").card.notes


def test_files_of_other_networks_are_refused_by_name(released: Path, tmp_path: Path) -> None:
    with pytest.raises(VitalsError, match=r"of another shape: .*The keys look like `t2t:t2t_vit_7`"):
        load(f"t2t:t2t_vit_14@{released}")
    with pytest.raises(VitalsError, match=r"33 missing: blocks\.7\..*The keys look like `t2t:t2t_vit_7`"):
        load(f"t2t:t2t_vit_10@{released}")
    with pytest.raises(VitalsError, match="The keys look like T2T-ViT's: `t2t:NAME@FILE`"):
        load(f"checkpoint:{released}?arch=deit_tiny_patch16_224")
    torch.save({"head.weight": torch.zeros(3, 4)}, tmp_path / "head.pth")
    with pytest.raises(VitalsError, match="Was it saved from another architecture"):
        load(f"t2t:t2t_vit_7@{tmp_path}/head.pth")
    torch.save({"pos_embed": torch.zeros(1, 4, 256)}, tmp_path / "table.pth")
    with pytest.raises(VitalsError, match="a square grid and a class token"):
        load(f"t2t:t2t_vit_7@{tmp_path}/table.pth")


@pytest.mark.parametrize(
    ("spelling", "says"),
    [
        ("t2t:t2t_vit_t_7", "Known: t2t_vit_10, t2t_vit_12"),
        ("t2t:t2t_vit_7?seed=1", "needs `pretrained=false`"),
        ("t2t:t2t_vit_7@x.pth?pretrained=false", "not both"),
        ("t2t:t2t_vit_7?pretrained=false&weights=raw", "`weights` needs a file"),
        ("t2t:t2t_vit_7?position=none", "`position` must be left out"),
    ],
)
def test_what_cannot_be_asked(spelling: str, says: str) -> None:
    with pytest.raises(VitalsError, match=says):
        load(spelling)


def test_its_names_are_listed() -> None:
    assert listing.models("t2t:*_14") == ["t2t:t2t_vit_14", "t2t:t2t_vit_t_14"]


def test_a_performer_computes_its_exponentials_in_float32() -> None:
    """Their range is beyond that of half precision, whatever the precision of the pass."""
    part = _parts.seeded(lambda: _Performer(147), seed=0)
    k, q, v = torch.randn(3, 1, 9, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert part.proj(v).dtype == torch.bfloat16
        inside = part.attended(k, q, v)
    with torch.no_grad():
        assert torch.equal(inside, part.attended(k, q, v))


def test_without_a_file_the_released_one_is_fetched_or_its_address_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, released: Path
) -> None:
    monkeypatch.setattr("visionvitals.backbones._hub.no_answer", lambda url: "nobody answers")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    address = "releases/download/main/71.7_T2T_ViT_7.pth.tar\n  reason: nobody answers"
    with pytest.raises(VitalsError, match=address):
        load("t2t:t2t_vit_7")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / released.name).write_bytes(released.read_bytes())
    assert load("t2t:t2t_vit_7?size=32").card.digest == load(f"t2t:t2t_vit_7@{released}?size=32").card.digest
