"""Zero-shot: CLIP or SigLIP of transformers, with class names in place of a classifier. Needs `[clip]`.

`clip:USER/REPO`, `clip:./folder`. An output is a class: its logit is that of the model, scale x cosine of the embeddings of picture and text
(SigLIP: + bias), where the text is the class's name in one or several prompts. `?classes=` says whose names: an image set (`classes=folder:val`),
`imagenet1k`, or a file with a class a line, its name or `KEY<TAB>NAME`; where nothing is said, those of the image set of the run. Of several
names of a class (`tench, Tinca tinca`) the first is taken, or all where two classes share it; `_` is a space. `?prompts=`: `one`
(`a photo of a {}.`), `openai` (the 80 of OpenAI for ImageNet, as the package open_clip_torch has them), or a file with a prompt a line, `{}`
for the name. Of several, the normalised embeddings are averaged and normalised again (Radford et al. 2021, section 3.1.4). `?head=none`: the
image tower alone, a backbone without a classifier. Further options: `size`, `resize`, `crop`, `interpolation`, `mean`, `std`.
"""

import hashlib
import importlib.util
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from visionvitals import core, registry
from visionvitals.backbones import _answers, _classes, _identity, _parts, _token_removal, hf
from visionvitals.errors import VitalsError, near, require
from visionvitals.files import read_text
from visionvitals.registry import Spec, option, reads

EXAMPLES: tuple[str, ...] = ()
NAMED_BY = ("classes", "head")
"""Options of which one must be there; where none is, `plan.request` writes the image set of the run as `classes`."""
ONE = "a photo of a {}."
_KINDS = ("clip", "siglip")
_WNID = re.compile(r"n\d{8}")
_BATCH = 64
_embedded: dict[tuple[str, str], Tensor] = {}  # of this process: a plan and its run load a network each


@dataclass(frozen=True, kw_only=True)
class Options(hf.Options):
    """What a `clip:` spelling may say."""

    classes: Path | None = option(None, "whose names: an image set, a file with a class a line, or `imagenet1k`")
    prompts: str = option("one", "`one`, `openai`, or a file with a prompt a line, `{}` for the class")
    head: Literal["none"] | None = option(None, "`none`: the image tower alone, without classes")


class ZeroShot(nn.Module):
    """An image tower beside embedded texts. The texts are no part of its state: they follow from what its digest holds.

    Args:
        tower: normalised images -> an output with `pooler_output`, (b, w).
        projection: (b, w) -> (b, d).
        text: (k, d), each of length one.
        scale, bias: of the logits.
        flips: the tower takes its channels in reverse order.
    """

    text: Tensor

    def __init__(
        self,
        tower: nn.Module,
        projection: nn.Module,
        text: Float[Tensor, "k d"],
        *,
        scale: float,
        bias: float,
        flips: bool,
    ) -> None:
        super().__init__()
        self.tower, self.projection, self.flips = tower, projection, flips
        self.scale, self.bias = scale, bias
        self.register_buffer("text", text, persistent=False)

    def embed(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """What is compared with the texts, before it is normalised."""
        found: Tensor = self.projection(self.tower(images.flip(1) if self.flips else images).pooler_output)
        return found

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        cosine = functional.normalize(self.embed(images), dim=1) @ self.text.T
        return cosine * self.scale + self.bias


@reads(Options)
def load(spec: Spec, options: Options, *, device: torch.device) -> core.Backbone:
    """The backbone that a `clip:` spelling names.

    Raises:
        VitalsError: no class names, a class without one, prompts that cannot be read, a model of another kind; see also `hf.load`.
    """
    bare = options.head is not None
    asked = [key for key in ("classes", "prompts") if key in spec.options]
    require(not (bare and asked), "`head=none` has no classes", f"`{'` and `'.join(asked)}` too", "Leave one out.")
    names = None if bare else _named(spec)
    prompts = () if bare else _prompts(options.prompts)
    model = hf.model(spec.name, family="clip")
    config = model.config
    must = "It must be a CLIP or SigLIP model, with its image tower and its text tower"
    require(config.model_type in _KINDS and hasattr(model, "text_model"), must, type(model).__name__)
    preprocess, flips, notes = hf.looked(spec.name, config, options)
    width, scale = _width(model), float(model.logit_scale.detach().exp())
    text, said = torch.zeros(0, width), ""
    if names is not None:
        spoken = _spoken(names)
        ids, masks, cut = _tokens(spec.name, config, [p.replace("{}", name) for name in spoken for p in prompts])
        said = _digest_of_text(model, ids.view(len(spoken), len(prompts), -1))
        text = _texts(model, ids, masks, len(prompts), key=said, device=device)
        notes += (*cut, _note(spec, spoken, prompts), *_alike(spoken))
    projection = getattr(model, "visual_projection", None) or nn.Identity()
    bias = float(model.logit_bias.detach()) if hasattr(model, "logit_bias") else 0.0
    module = ZeroShot(model.vision_model, projection, text, scale=scale, bias=bias, flips=flips)
    tokens = _token_removal.find_hugging_face(module.tower, preprocess.size)
    build = {**hf.built(config), "flips": flips}
    if names is not None:
        build |= {
            "names": _spoken(names),
            "prompts": prompts,
            "text": said,
            "scale": float(model.logit_scale.detach()),
            "bias": bias,
        }
    made = _parts.Network(
        module=module,
        architecture=type(model).__name__,
        preprocess=preprocess,
        build=build,
        forward=module.embed if bare else None,
        features=module.embed,
        tokens=tokens,
        names=names,
        imagenet=True,
        classifier=not bare,
        notes=(*notes, *hf.resampled(model.vision_model.config, tokens, preprocess.size)),
    )
    return _parts.assemble(made, spelling=spec.text, device=device, order=options.order)


def _width(model: Any) -> int:
    projection = getattr(model, "visual_projection", None)
    return int(projection.out_features if projection is not None else model.config.vision_config.hidden_size)


def _note(spec: Spec, spoken: Sequence[str], prompts: Sequence[str]) -> str:
    how = f"`{prompts[0]}`" if len(prompts) == 1 else f"{len(prompts)} prompts, averaged"
    return f"its {len(spoken)} outputs are the names of {spec.options['classes']} in {how}"


def _alike(spoken: Sequence[str]) -> tuple[str, ...]:
    """A note where classes have one text: their logits are equal, whatever the picture."""
    twice = [name for name in dict.fromkeys(spoken) if spoken.count(name) > 1]
    said = ", ".join(f"`{name}` ({spoken.count(name)} classes)" for name in twice[:5]) + ", ..." * (len(twice) > 5)
    return (
        f"classes of one name have equal logits, so that an answer with them is right in part only: {said}",
    ) * bool(twice)


def _named(spec: Spec) -> _classes.Names:
    """The classes that the spelling names.

    Raises:
        VitalsError: it names none, what it names does not exist, or is an image set whose classes are numbers.
    """
    text = spec.options.get("classes", "")
    do = "Write whose: `?classes=folder:PATH` or another image set, `?classes=FILE`, `?classes=imagenet1k`; `?head=none` takes none."
    require(bool(text), "A zero-shot network needs the names of its classes", "none", do)
    if text == "imagenet1k":
        found = _classes.imagenet(1000)
        assert found is not None
        return found
    family, known = text.partition("?")[0].partition(":")[0], registry.names("datasets")
    if not (family in known or family.endswith(".py")) or Path(text).expanduser().is_file():
        found = _classes.from_file(Path(text).expanduser())
        pairs = [(key.partition("\t"), name) for key, name in zip(found.keys, found.readable, strict=True)]
        return _classes.Names(tuple(k for (k, _, _), _ in pairs), tuple(own or name for (_, _, own), name in pairs))
    images = registry.load("datasets", family).open(registry.parse(text, families=[*known, family]))
    card = cast(core.ImageSetCard, images.card)
    must = f"The classes of `{text}` must have names, for a network that reads them"
    require(
        card.kind == "names",
        must,
        "numbers, the indices of outputs",
        "Give the names, in their order: `?classes=FILE`.",
    )
    if card.stands_for:  # its classes are those of a network with others
        return _classes.keyed(tuple(dict.fromkeys(key for several in card.stands_for for key in several)))
    return _classes.Names(card.classes, card.class_names)


def _spoken(names: _classes.Names) -> tuple[str, ...]:
    """What stands in a prompt for each class.

    Raises:
        VitalsError: a class without a name in words.
    """
    firsts = [name.partition(",")[0].strip() for name in names.readable]
    twice = {name for name in firsts if firsts.count(name) > 1}
    found = [whole if first in twice else first for whole, first in zip(names.readable, firsts, strict=True)]
    found = [name.replace("_", " ").strip() for name in found]
    bad = [
        key
        for key, name in zip(names.keys, found, strict=True)
        if not name or _WNID.fullmatch(name) or name.isdecimal()
    ]
    must = "Each class must have a name in words, for a network that reads it"
    require(not bad, must, ", ".join(bad[:5]), "Write them into a file, a line each, `KEY<TAB>NAME`: `?classes=FILE`.")
    return tuple(found)


def _prompts(text: str) -> tuple[str, ...]:
    """The prompts of a set, `{}` for the name.

    Raises:
        VitalsError: no such set or file, or a line without one `{}`.
    """
    if text == "one":
        return (ONE,)
    if text == "openai":
        if importlib.util.find_spec("open_clip") is None:
            raise VitalsError('`prompts=openai` needs open_clip_torch. Install it: pip install "visionvitals[clip]"')
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from open_clip import OPENAI_IMAGENET_TEMPLATES
        return tuple(str(template("{}")) for template in OPENAI_IMAGENET_TEMPLATES)
    path = Path(text).expanduser()
    if not path.is_file():
        raise VitalsError(f"`prompts` must be `one`, `openai` or a file. Got {text!r}. {near(text, ('one', 'openai'))}")
    lines = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    bad = [line for line in lines if line.count("{}") != 1]
    require(
        bool(lines) and not bad, f"{path}: each line must be a prompt with one `{{}}` for the name", bad[:1] or "none"
    )
    return lines


def _tokens(
    name: str, config: Any, texts: Sequence[str]
) -> tuple[Int64[Tensor, "n t"], Tensor | None, tuple[str, ...]]:
    """The texts as the model's own tokens, all of the longest length that it takes; which of them are tokens (SigLIP: None, it was
    trained on all); a note where texts are cut.
    """
    import transformers

    most = int(config.text_config.max_position_embeddings)
    try:
        here = hf.local(name, "tokenizer_config.json")
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, local_files_only=here)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise VitalsError(
            f"It has no tokenizer that transformers can load ({' '.join(str(error).split())[:200]})."
        ) from error
    words = int(config.text_config.vocab_size)  # without its files transformers makes one of two words
    must = f"Its tokenizer must be that of its text tower, which knows {words:,} tokens"
    require(words / 2 <= len(tokenizer) <= words, must, f"one of {len(tokenizer):,}", "Copy the tokenizer's files too.")
    long = sum(len(ids) > most for ids in tokenizer(list(texts))["input_ids"])
    made = tokenizer(list(texts), padding="max_length", truncation=True, max_length=most, return_tensors="pt")
    mask = made.get("attention_mask") if config.model_type == "clip" else None
    return (
        made["input_ids"],
        mask,
        (f"{long} of its {len(texts)} prompts are longer than {most} tokens and cut",) * (long > 0),
    )


def _digest_of_text(model: Any, ids: Int64[Tensor, "k p t"]) -> str:
    """The text tower and what it reads of each class: tokens are whole numbers, so that the same texts are the same everywhere."""
    tower = nn.ModuleList([model.text_model, getattr(model, "text_projection", None) or nn.Identity()])
    read = hashlib.sha256(ids.to(torch.int64).contiguous().numpy().tobytes()).hexdigest()
    return _identity.digest(tower, architecture="text", build={"shape": list(ids.shape), "ids": read})


def _texts(
    model: Any, ids: Tensor, masks: Tensor | None, prompts: int, *, key: str, device: torch.device
) -> Float[Tensor, "k d"]:
    """The embedding of each class, of length one: the mean of those of its prompts, each of length one."""
    if (key, str(device)) not in _embedded:
        model.to(device).eval()
        found = []
        with _answers.exact(device):
            for start in range(0, len(ids), _BATCH):
                more = {} if masks is None else {"attention_mask": masks[start : start + _BATCH].to(device)}
                given = model.get_text_features(input_ids=ids[start : start + _BATCH].to(device), **more)
                found.append(functional.normalize(getattr(given, "pooler_output", given).float(), dim=1))
        rows = torch.cat(found).view(len(ids) // prompts, prompts, -1)
        _embedded[key, str(device)] = functional.normalize(rows.mean(dim=1), dim=1).cpu()
    return _embedded[key, str(device)]
