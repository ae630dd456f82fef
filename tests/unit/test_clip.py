"""Zero-shot networks: class names and prompts in place of a classifier, and the model's own logits for them."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from visionvitals import core, registry
from visionvitals.backbones import _classes, _parts, clip
from visionvitals.datasets.base import labels
from visionvitals.errors import VitalsError
from visionvitals.plan import plan_file, planner, request
from visionvitals.plan.identity import cell_id
from visionvitals.plan.planner import load_backbone
from visionvitals.plan.request import Section
from visionvitals.run import trust

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
CPU = torch.device("cpu")
LONGEST = 40
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,'-ABCDEFGHIJKLMNOPQRSTUVWXYZ"
VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 64,
    "patch_size": 16,
}
NAMES = ("bird", "golden_retriever", "tench, Tinca tinca")


def tokenizer() -> Any:
    """A token a character; the end has the largest number, as in CLIP's."""
    words = ["<pad>", "<s>", "Ġ", *CHARACTERS, "</s>"]
    made = tokenizers.Tokenizer(tokenizers.models.BPE({word: k for k, word in enumerate(words)}, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    ends = [("<s>", 1), ("</s>", len(words) - 1)]
    made.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>")


def save(where: Path, kind: str, *, seed: int = 0) -> Any:
    """A small random model as transformers writes it, and itself."""
    words = tokenizer()
    text = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": len(words),
        "max_position_embeddings": LONGEST,
        "eos_token_id": len(words) - 1,
        "pad_token_id": 0,
        "bos_token_id": 1,
    }
    t = transformers

    def make() -> Any:
        if kind == "clip":
            return t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16))
        return t.SiglipModel(t.SiglipConfig(text_config=text, vision_config=VISION))

    model = _parts.seeded(make, seed=seed).eval()
    with torch.no_grad():
        model.logit_scale.fill_(3.0)
        if kind == "siglip":
            model.logit_bias.fill_(-7.0)
        for part in (model.text_model, model.vision_model):  # random weights of 0.02 make all texts alike
            for name, weight in part.named_parameters():
                if "norm" not in name and weight.ndim > 1:
                    weight.mul_(10)
    model.save_pretrained(where)
    words.save_pretrained(where)
    look = {"size": {"height": 64, "width": 64}, "resample": 3, "image_mean": [0.4] * 3, "image_std": [0.3] * 3}
    (where / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "ViTImageProcessor", **look}))
    return model


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("clip")
    for kind in ("clip", "siglip"):
        save(found / kind, kind)
    (found / "names.txt").write_text("\n".join(NAMES))
    (found / "prompts.txt").write_text("a {}\nthe {} there.\n\n{}s\n")
    return found


def pictures(n: int = 7) -> Tensor:
    return torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def embedded(where: Path, kind: str, texts: list[str]) -> Tensor:
    """Text by text, with nothing after its end: what the model itself makes of it."""
    model = (
        (transformers.CLIPModel if kind == "clip" else transformers.SiglipModel).from_pretrained(where / kind).eval()
    )
    how = {} if kind == "clip" else {"padding": "max_length", "max_length": LONGEST}
    rows = []
    with torch.no_grad():
        for text in texts:
            given = model.get_text_features(input_ids=tokenizer()(text, return_tensors="pt", **how)["input_ids"])
            rows.append(getattr(given, "pooler_output", given)[0])
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_logits_are_those_of_the_model_for_its_prompts(kind: str, where: Path) -> None:
    """transformers' own pass of pictures and texts together."""
    model = (
        (transformers.CLIPModel if kind == "clip" else transformers.SiglipModel).from_pretrained(where / kind).eval()
    )
    backbone = load_backbone(f"clip:{where / kind}?classes={where}/names.txt", device=CPU)
    texts = ["a photo of a bird.", "a photo of a golden retriever.", "a photo of a tench."]
    how = {"padding": True} if kind == "clip" else {"padding": "max_length", "max_length": LONGEST}
    given = tokenizer()(texts, return_tensors="pt", **how)
    words = {"input_ids": given["input_ids"]} | ({"attention_mask": given["attention_mask"]} if kind == "clip" else {})
    with torch.no_grad():
        expected = model(pixel_values=(pictures() - 0.4) / 0.3, **words).logits_per_image
    torch.testing.assert_close(backbone.logits(pictures()), expected, atol=2e-4, rtol=0)
    assert (expected[0] - expected[1]).abs().max() > 0.05
    assert backbone.card.classes == NAMES
    assert backbone.card.outputs == 3
    assert {"features", "attention", "tokens", "token_removal"} <= set(backbone.card.provides)
    assert any("a photo of a {}." in note for note in backbone.card.notes)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_prompts_are_averaged_and_logits_are_scaled_cosines(kind: str, where: Path) -> None:
    spelling = f"clip:{where / kind}?classes={where}/names.txt&prompts={where}/prompts.txt"
    backbone = load_backbone(spelling, device=CPU)
    words = ["bird", "golden retriever", "tench"]
    scale, bias = torch.tensor(3.0).exp().item(), 0.0 if kind == "clip" else -7.0
    assert backbone.features is not None
    seen = backbone.features(pictures()).double()
    found = backbone.logits(pictures()).double()
    for k, word in enumerate(words):
        rows = embedded(where, kind, [f"a {word}", f"the {word} there.", f"{word}s"]).double()
        mean = (rows / rows.norm(dim=1, keepdim=True)).sum(dim=0) / 3
        cosine = (seen * mean).sum(dim=1) / seen.norm(dim=1) / mean.norm()
        torch.testing.assert_close(found[:, k], scale * cosine + bias, atol=2e-4, rtol=0)


def test_answers_do_not_depend_on_the_pictures_or_the_classes_beside(where: Path) -> None:
    whole = load_backbone(f"clip:{where}/clip?classes={where}/names.txt", device=CPU)
    found = whole.logits(pictures())
    for k in range(7):
        torch.testing.assert_close(whole.logits(pictures()[k : k + 1])[0], found[k], atol=1e-5, rtol=0)
    (where / "less.txt").write_text("\n".join(NAMES[:2]))
    less = load_backbone(f"clip:{where}/clip?classes={where}/less.txt", device=CPU)
    torch.testing.assert_close(less.logits(pictures()), found[:, :2], atol=1e-5, rtol=0)


def test_the_same_texts_as_classes_or_as_prompts_are_other_embeddings(where: Path, tmp_path: Path) -> None:
    """Both in one process, which keeps embeddings: `a b` and `b b` are two classes, then two prompts of one."""
    (tmp_path / "c.txt").write_text("a b\nb b")
    (tmp_path / "p.txt").write_text("{}")
    two = load_backbone(f"clip:{where}/clip?classes={tmp_path}/c.txt&prompts={tmp_path}/p.txt", device=CPU)
    (tmp_path / "c.txt").write_text("b")
    (tmp_path / "p.txt").write_text("a {}\nb {}")
    one = load_backbone(f"clip:{where}/clip?classes={tmp_path}/c.txt&prompts={tmp_path}/p.txt", device=CPU)
    assert (two.card.outputs, one.card.outputs) == (2, 1)
    assert two.card.digest != one.card.digest


def test_identity_is_made_of_weights_names_and_prompts_and_of_nothing_else(where: Path, tmp_path: Path) -> None:
    def digest(classes: tuple[str, ...] = NAMES, prompts: str = "a {}", folder: Path = where / "clip") -> str:
        (tmp_path / "c.txt").write_text("\n".join(classes))
        (tmp_path / "p.txt").write_text(prompts)
        way = f"classes={tmp_path}/c.txt&prompts={tmp_path}/p.txt"
        return load_backbone(f"clip:{folder}?{way}", device=CPU).card.digest

    own = digest()
    clip._embedded.clear()
    assert digest() == own
    assert digest(prompts="\na {}  \n") == own
    save(tmp_path / "same", "clip")
    assert digest(folder=tmp_path / "same") == own
    model = save(tmp_path / "text", "clip")
    with torch.no_grad():
        model.text_projection.weight[0, 0] += 1e-3
    model.save_pretrained(tmp_path / "text")
    model = save(tmp_path / "scale", "clip")
    with torch.no_grad():
        model.logit_scale += 0.1
    model.save_pretrained(tmp_path / "scale")
    others = {
        digest(prompts="the {}"),
        digest(prompts="a {}\nthe {}"),
        digest(classes=(*NAMES[:2], "carp")),
        digest(classes=(NAMES[1], NAMES[0], NAMES[2])),
        digest(folder=tmp_path / "text"),
        digest(folder=tmp_path / "scale"),
    }
    assert len(others | {own}) == 7


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_image_tower_alone_is_a_backbone_without_a_classifier(kind: str, where: Path) -> None:
    bare = load_backbone(f"clip:{where / kind}?head=none", device=CPU)
    named = load_backbone(f"clip:{where / kind}?classes={where}/names.txt", device=CPU)
    assert bare.card.outputs == 0
    assert bare.features is not None
    assert named.features is not None
    torch.testing.assert_close(bare.features(pictures()), named.features(pictures()))
    assert bare.card.digest != named.card.digest
    for more in (f"classes={where}/names.txt", "prompts=openai"):
        with pytest.raises(VitalsError, match="`head=none` has no classes"):
            load_backbone(f"clip:{where / kind}?head=none&{more}", device=CPU)


def test_the_prompts_of_openai(where: Path) -> None:
    pytest.importorskip("open_clip")
    found = clip._prompts("openai")
    assert len(set(found)) == 80
    assert all(prompt.count("{}") == 1 for prompt in found)


def test_without_their_package_the_prompts_of_openai_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(VitalsError, match=r'needs open_clip_torch. Install it: pip install "visionvitals\[clip\]"'):
        clip._prompts("openai")


def test_a_class_goes_by_its_first_name_unless_another_has_it_too() -> None:
    names = _classes.imagenet(1000)
    assert names is not None
    spoken = dict(zip(names.keys, clip._spoken(names), strict=True))
    assert spoken["n01440764"] == "tench"
    assert len(set(spoken.values())) >= 998  # `crane` is a bird and a machine: all of its names
    assert clip._spoken(_classes.Names(("a", "b"), ("crane", "crane, bird"))) == ("crane", "crane, bird")


def test_a_byte_order_mark_is_no_part_of_a_name_or_a_prompt(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("tench\ncat\n", encoding="utf-8-sig")
    assert _classes.from_file(tmp_path / "c.txt").keys == ("tench", "cat")
    (tmp_path / "p.txt").write_text("a {}\n", encoding="utf-8-sig")
    assert clip._prompts(str(tmp_path / "p.txt")) == ("a {}",)
    (tmp_path / "c.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(VitalsError, match=r"must be UTF-8 text. Got byte 0xe9 at 3"):
        _classes.from_file(tmp_path / "c.txt")


def test_classes_of_one_name_are_said(where: Path, tmp_path: Path) -> None:
    """ImageNet has two classes that WordNet calls `crane` and nothing else."""
    found = _classes.imagenet(1000)
    assert found is not None
    assert clip._alike(clip._spoken(found))[0].endswith(": `crane` (2 classes)")
    (tmp_path / "cranes.txt").write_text("a\tcrane\nb\tcrane\nc\ttench\n")
    backbone = load_backbone(f"clip:{where}/clip?classes={tmp_path}/cranes.txt", device=CPU)
    assert any(": `crane` (2 classes)" in note for note in backbone.card.notes)
    logits = backbone.logits(pictures())
    torch.testing.assert_close(logits[:, 0], logits[:, 1], atol=0, rtol=0)
    assert not any(
        "equal logits" in n
        for n in load_backbone(f"clip:{where}/clip?classes={where}/names.txt", device=CPU).card.notes
    )


def test_a_file_may_name_keys_that_say_nothing(where: Path, tmp_path: Path) -> None:
    """The labels are matched by their keys, the network reads the names."""
    (tmp_path / "c.txt").write_text("n99999999\tbird\ngolden_retriever\n7\ttench")
    backbone = load_backbone(f"clip:{where}/clip?classes={tmp_path}/c.txt", device=CPU)
    plain = load_backbone(f"clip:{where}/clip?classes={where}/names.txt", device=CPU)
    assert backbone.card.classes == ("n99999999", "golden_retriever", "7")
    assert backbone.card.class_names == ("bird", "golden_retriever", "tench")
    torch.testing.assert_close(backbone.logits(pictures()), plain.logits(pictures()), atol=0, rtol=0)
    images = core.ImageSetCard(spec="x", digest="0", n=2, classes=("7", "n99999999"), class_names=("7", "n99999999"))
    assert labels.align(images, backbone.card).indices == (2, 0)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("bird\nn99999999", r"must have a name in words.*Got 'n99999999'"),
        ("bird\n7", r"must have a name in words.*Got '7'"),
        ("bird\nbird", "each class key must occur once"),
    ],
)
def test_a_class_without_a_name_is_named(lines: str, said: str, where: Path, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text(lines)
    with pytest.raises(VitalsError, match=said):
        load_backbone(f"clip:{where}/clip?classes={tmp_path}/c.txt", device=CPU)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", r"needs the names of its classes.*`\?classes=imagenet1k`"),
        ("?classes=nowhere.txt", "There is no file nowhere.txt"),
        ("?classes=shapes:tset", "shapes:tset"),
        (
            "?classes={0}/names.txt&prompts=opnai",
            r"must be `one`, `openai` or a file. Got 'opnai'. Did you mean openai",
        ),
        ("?classes={0}/names.txt&prompts={0}/names.txt", r"must be a prompt with one `\{\}`"),
        ("?classes={0}/names.txt&head=all", "`head` must be none"),
    ],
)
def test_what_is_wrong_is_said(options: str, said: str, where: Path) -> None:
    with pytest.raises(VitalsError, match=said):
        load_backbone(f"clip:{where}/clip{options.format(where)}", device=CPU)


def test_image_sets_of_numbers_have_no_names(where: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("path,label\na.png,3\n")
    with pytest.raises(VitalsError, match=r"must have names, for a network that reads them. Got 'numbers"):
        load_backbone(f"clip:{where}/clip?classes=csv:{tmp_path}/labels.csv", device=CPU)


def test_other_models_and_unreachable_ones_are_refused(where: Path, tmp_path: Path, monkeypatch: Any) -> None:
    config = transformers.ViTConfig(**VISION)
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    with pytest.raises(VitalsError, match=r"must be a CLIP or SigLIP model.*Got 'ViTModel'"):
        load_backbone(f"clip:{tmp_path}/vit?classes={where}/names.txt", device=CPU)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(VitalsError, match=r"(?s)cannot be fetched.*HF_HUB_OFFLINE is set.*`clip:./FOLDER`"):
        load_backbone(f"clip:some/where?classes={where}/names.txt", device=CPU)
    with pytest.raises(VitalsError, match="there is no folder"):
        load_backbone(f"clip:./nowhere?classes={where}/names.txt", device=CPU)
    save(tmp_path / "dumb", "clip")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "dumb" / file).unlink()
    with pytest.raises(
        VitalsError, match=r"tokenizer must be that of its text tower, which knows 70 tokens. Got 'one of"
    ):
        load_backbone(f"clip:{tmp_path}/dumb?classes={where}/names.txt", device=CPU)


def test_texts_that_are_too_long_are_cut_with_a_note(where: Path, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("bird\n" + "very " * 20 + "large bird")
    notes = load_backbone(f"clip:{where}/clip?classes={tmp_path}/c.txt", device=CPU).card.notes
    assert f"1 of its 2 prompts are longer than {LONGEST} tokens and cut" in notes
    assert not any(
        "are cut" in n for n in load_backbone(f"clip:{where}/clip?classes={where}/names.txt", device=CPU).card.notes
    )


# --- plans


def test_a_plan_gives_the_names_of_its_one_image_set(where: Path) -> None:
    own, sections = f"clip:{where}/clip", (Section(name="clean"),)
    plan = request.plan([f"b={own}", "tiny:vit"], ["s=shapes:test?n=8&variant=conflict"], sections)
    written = f"{own}?classes=shapes:test?n=8%26variant=conflict"
    assert plan.backbones == (written, "tiny:vit")
    assert plan.names[written] == "b"
    assert plan_file.from_dict(plan_file.to_dict(plan), source="x") == plan
    for said in (f"{own}?head=none", f"{own}?prompts=one&classes={where}/names.txt"):
        assert request.plan([said], ["shapes:test"], sections).backbones == (said,)
    with pytest.raises(
        VitalsError, match=r"so there must be exactly one. Got 'shapes:test, folder:x'.*`clip:.*\?classes=SET`"
    ):
        request.plan([own], ["shapes:test", "folder:x"], sections)
    found = request.plan([own], ["shapes:test"], sections, data_for=[("clean", "shapes:val")])
    assert found.backbones == (f"{own}?classes=shapes:test",)


def test_studies_of_answers_run_and_the_names_decide_what_is_one_backbone(where: Path) -> None:
    names = ("clean", "occlusion", "shape_bias", "attack", "fewshot", "lesion")
    asked = tuple(Section(name=name, preset="quick") for name in names)
    found = planner.make(request.plan([f"clip:{where}/clip"], ["shapes:test?variant=conflict"], asked), device=CPU)
    assert {cell.study for cell in found.cells} == set(names)
    card = next(iter(found.backbones.values()))
    images = core.ImageSetCard
    assert isinstance(next(iter(found.sets.values())).card, images)
    assert card.classes == next(iter(found.sets.values())).card.classes
    assert next(iter(found.alignments.values())).indices == tuple(range(16))
    (where / "same.txt").write_text("\n".join(card.class_names or ()))
    again = request.plan([f"clip:{where}/clip?classes={where}/same.txt"], ["shapes:test?variant=conflict"], asked[:1])
    other = planner.make(again, device=CPU).cells[0]
    same = {cell_id(cell) for cell in found.cells if cell.study == "clean"}
    assert (cell_id(other) in same) == (card.classes == card.class_names)


def test_classes_that_stand_for_several_are_read_one_by_one(where: Path, tmp_path: Path) -> None:
    """A set by path, which may be named too."""
    (tmp_path / "fish.py").write_text(
        "from visionvitals.core import ImageSetCard\n"
        "class Fish:\n"
        "    card = ImageSetCard(spec='fish', digest='0', n=1, classes=('fish', 'cock'), class_names=('fish', 'cock'),\n"
        "        stands_for=(('n01440764', 'n01443537'), ('n01514668',)))\n"
        "def open(spec):\n"
        "    return Fish()\n"
    )
    backbone = load_backbone(f"clip:{where}/clip?classes={tmp_path}/fish.py:x", device=CPU)
    assert backbone.card.class_names == ("tench, Tinca tinca", "goldfish, Carassius auratus", "cock")
    images = planner.open_images(f"{tmp_path}/fish.py:x").card
    assert labels.align(images, backbone.card).right == ((0, 1), (2,))


def test_an_image_set_by_path_is_code_in_a_backbone_too(toy_images: str) -> None:
    assert trust.code_of({"backbones": [f"clip:a?classes={toy_images}", "clip:a?classes=folder:b", "c=clip:a"]}) == [
        f"clip:a?classes={toy_images}"
    ]


def test_what_a_family_declares_is_read_without_importing_it() -> None:
    assert registry.declared("backbones", "clip", "NAMED_BY") == clip.NAMED_BY
    assert registry.declared("backbones", "timm", "NAMED_BY") is None
    assert registry.declared("backbones", "./x.py", "NAMED_BY") is None
