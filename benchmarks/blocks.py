"""Which blocks and which attention are found in one network of every module of timm and of every image classifier of transformers.

python benchmarks/blocks.py            compare with the table that is kept (exit 1 where a row differs)
python benchmarks/blocks.py --write    write tests/golden/blocks.json and the table in docs/blocks.md

All weights are random: what is found depends on how a network is built. Of a timm module it is the network with the fewest weights;
of transformers, a small configuration. `--only NAME` takes the rows whose name contains it.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "blocks.json"
PAGE = ROOT / "docs" / "blocks.md"
MARKS = ("<!-- table -->\n", "<!-- end of the table -->\n")
RANDOM = "?pretrained=false"
LOOK = "?mean=0.5,0.5,0.5&std=0.5,0.5,0.5&size="
SIDE = 160
ASLEEP = ("convmixer", "cspnext", "efficientvit_mit", "hiera", "inception_v4", "mlp_mixer", "sequencer")
"""Modules whose random weights let nothing of the picture through to the logits (a head of zeros, scales of 1e-6, BatchNorm that never saw a
picture): no block of them can be certified, so they are woken."""
NATIVE = ("byoanet", "inception_resnet_v2", "inception_v3", "inception_v4")
"""Modules whose networks say that they take any size, but not one as small as `SIDE`, or lose whole blocks at it."""
SHORT = {"deepseek_vit": "model.depth=2", "gemma4_vit": "model.depth=2"}
"""Networks of timm that are made shallow: the smallest has over 150 million weights."""
MANY = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
STAGES = {"embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 4]}
TOWER = {"vision_config": {**MANY, "image_size": 64, "patch_size": 16}}
HUGGING_FACE: dict[str, tuple[int, dict[str, Any]]] = {
    "beit": (64, {**MANY, "image_size": 64, "patch_size": 16}),
    "bit": (64, {"embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1], "num_groups": 8}),
    "clip": (64, TOWER),
    "convnext": (64, {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}),
    "convnextv2": (64, {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}),
    "cvt": (
        64,
        {"embed_dim": [16, 32, 48], "num_heads": [1, 2, 3], "depth": [1, 2, 3], "drop_path_rate": [0.0, 0.0, 0.1]},
    ),
    "data2vec-vision": (64, {**MANY, "image_size": 64, "patch_size": 16}),
    "deit": (64, {**MANY, "image_size": 64, "patch_size": 16}),
    "dinat": (64, {**STAGES}),
    "dinov2": (56, {**MANY, "image_size": 56, "patch_size": 14}),
    "dinov2_with_registers": (56, {**MANY, "image_size": 56, "patch_size": 14}),
    "donut-swin": (64, {**STAGES, "image_size": 64, "window_size": 2}),
    "efficientnet": (
        64,
        {"width_coefficient": 0.25, "depth_coefficient": 0.5, "hidden_dim": 320, "initializer_range": 0.2},
    ),
    "focalnet": (64, {"embed_dim": 16, "depths": [1, 1, 2, 1], "image_size": 64}),
    "hgnet_v2": (64, {}),
    "hiera": (224, {**STAGES, "depths": [1, 1, 2, 2]}),
    "ijepa": (64, {**MANY, "image_size": 64, "patch_size": 16}),
    "imagegpt": (32, {"n_embd": 32, "n_layer": 2, "n_head": 2}),
    "levit": (
        224,
        {"hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 3, 4], "depths": [2, 2, 2], "key_dim": [8, 8, 8]},
    ),
    "metaclip_2": (64, TOWER),
    "mobilenet_v1": (64, {"depth_multiplier": 0.25}),
    "mobilenet_v2": (64, {"depth_multiplier": 0.25}),
    "mobilevit": (64, {"image_size": 64, "hidden_sizes": [16, 24, 32], "initializer_range": 0.2}),
    "mobilevitv2": (64, {"image_size": 64, "width_multiplier": 0.5, "initializer_range": 0.2}),
    "perceiver": (32, {"num_latents": 16, "d_latents": 32, "image_size": 32, "num_self_attends_per_block": 2}),
    "poolformer": (64, {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}),
    "pp_lcnet": (64, {"scale": 0.25}),
    "pvt": (
        64,
        {
            "image_size": 64,
            "depths": [1, 1, 2, 1],
            "hidden_sizes": [8, 16, 32, 64],
            "num_attention_heads": [1, 2, 2, 4],
        },
    ),
    "pvt_v2": (
        64,
        {
            "image_size": 64,
            "depths": [1, 1, 2, 1],
            "hidden_sizes": [8, 16, 32, 64],
            "num_attention_heads": [1, 2, 2, 4],
        },
    ),
    "regnet": (64, {"embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1], "groups_width": 8}),
    "resnet": (64, {"embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}),
    "segformer": (64, {"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 2, 1], "num_attention_heads": [1, 2, 2, 4]}),
    "shieldgemma2": (
        64,
        {**TOWER, "text_config": {**MANY, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 1000}},
    ),
    "siglip": (64, TOWER),
    "siglip2": (64, TOWER),
    "swiftformer": (64, {"embed_dims": [8, 16, 32, 64], "depths": [1, 1, 2, 1]}),
    "swin": (64, {**STAGES, "image_size": 64, "window_size": 2}),
    "swinv2": (64, {**STAGES, "image_size": 64, "window_size": 2}),
    "textnet": (64, {}),
    "timm_wrapper": (64, {"architecture": "test_vit", "do_pooling": True}),
    "vit": (64, {**MANY, "image_size": 64, "patch_size": 16}),
    "vit_msn": (64, {**MANY, "image_size": 64, "patch_size": 16}),
}
"""Model type -> side of the input in pixels, and the configuration."""


def names() -> list[str]:
    """The rows: `timm MODULE` and `transformers MODEL TYPE`, all that the installed libraries have."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    return [f"timm {m}" for m in sorted(_modules())] + [
        f"transformers {t}" for t in sorted(MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES)
    ]


def row(name: str, network: str | None = None) -> dict[str, Any]:
    """What is found, as plain JSON.

    Args:
        name: one of `names()`.
        network: of timm, where the smallest network of the module is known already.
    """
    from visionvitals.errors import VitalsError

    library, _, what = name.partition(" ")
    with tempfile.TemporaryDirectory() as folder:
        try:
            if library == "timm":
                network = network or smallest(what)
                weights = f"@{_awake(network, Path(folder))}?" if what in ASLEEP else RANDOM + "&"
                spelling = f"timm:{network}{weights}{SHORT.get(what) or _smaller(what, network)}".rstrip("?&")
            else:
                network, spelling = _saved(what, Path(folder))
            return {"name": name, "network": network, **_found(spelling)}
        except (
            VitalsError,
            ImportError,
            TypeError,
            ValueError,
            AttributeError,
            NotImplementedError,
            IndexError,
            RuntimeError,
        ) as error:
            return {"name": name, "network": network, "refused": _reason(str(error).replace(folder, "FOLDER"))}


def _smaller(module: str, network: str) -> str:
    """A smaller input, where the network takes any."""
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(network)
    free = (
        module not in NATIVE
        and config is not None
        and not config.fixed_input_size
        and min(config.input_size[1:]) > SIDE
    )
    return f"size={SIDE}" if free else ""


def _awake(network: str, folder: Path) -> Path:
    """A file with random weights: those that are all but zero are drawn, scales are 1, and BatchNorm has seen eight pictures of noise."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    module = timm.create_model(network, pretrained=False)
    for name, parameter in module.named_parameters():
        weight = parameter.detach()
        if weight.ndim > 1 and float(weight.std()) < 1e-3:
            torch.nn.init.normal_(weight, std=0.02)
        elif weight.ndim == 1 and float(weight.abs().max()) < 1e-3 and not name.endswith("bias"):
            torch.nn.init.ones_(weight)
    for part in module.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.momentum = None
            part.reset_running_stats()
    side = module.pretrained_cfg["input_size"][1] if module.pretrained_cfg.get("fixed_input_size") else SIDE
    with torch.no_grad():
        module.train()(torch.rand(8, 3, side, side))
    path = folder / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in module.state_dict().items()}, path)
    return path


def smallest(module: str) -> str:
    """The network of a timm module with the fewest weights."""
    import timm
    import torch

    def weights(network: str) -> int:
        with torch.device("meta"):
            try:
                made = timm.create_model(network)
            except (RuntimeError, NotImplementedError):  # it computes while it is made
                return sys.maxsize
        return sum(p.numel() for p in made.parameters())

    return min(_modules()[module], key=lambda network: (weights(network), network))


def _modules() -> dict[str, list[str]]:
    import timm
    from timm.models import _registry

    found: dict[str, list[str]] = {}
    for network in timm.list_models():
        found.setdefault(_registry._model_to_module[network], []).append(network)
    return found


def _saved(model_type: str, folder: Path) -> tuple[str, str]:
    """A classifier of this type with random weights, written to a folder: its class and its spelling."""
    import torch
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    side, arguments = HUGGING_FACE[model_type]
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    config = transformers.AutoConfig.for_model(model_type, **arguments)
    found = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES[model_type]
    module = getattr(transformers, found if isinstance(found, str) else found[0])(config)
    module.save_pretrained(folder)
    return type(module).__name__, f"hf:{folder}{LOOK}{side}"


def _found(spelling: str) -> dict[str, Any]:
    import torch

    from visionvitals import registry
    from visionvitals.probes import tokens

    spec = registry.parse(spelling, families=registry.names("backbones"))
    backbone = registry.load("backbones", spec.family).load(spec, device=torch.device("cpu"))
    layout = backbone.inside.layout if backbone.inside else None
    calls = backbone.inside.attention if backbone.inside else ()
    shapes: list[list[int]] = []
    if layout:
        with torch.no_grad():
            seen, _ = tokens.record(backbone, torch.rand(1, 3, *backbone.card.preprocess.size), layout)
        shapes = [list(x.shape[1:]) for x in seen]
    return {
        "size": list(backbone.card.preprocess.size),
        "kind": layout.kind if layout else None,
        "blocks": [block.name for block in layout.blocks] if layout else [],
        "shapes": shapes,
        "grid": list(backbone.card.patch_grid) if backbone.card.patch_grid else None,
        "prefix": backbone.card.prefix_tokens,
        "readout": layout.readout.pool if layout and layout.readout else None,
        "attention": len(calls),
        "attention_over": sorted({call.geometry for call in calls}),
        "no_attention": calls[-1].unusable if calls else None,
        "notes": [note for note in backbone.card.notes if "not offered" in note],
    }


def _reason(text: str) -> str:
    """The first sentence of an error, without the spelling before it."""
    first = text.strip().partition("\n")[0]
    return (first.partition("`: ")[2] or first).partition(" Give a size")[0].partition(" You can install")[0][:200]


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The rows as a table in Markdown."""
    yield "| module | network | blocks | what passes | attention | not offered, and why |"
    yield "|---|---|---|---|---|---|"
    for each in rows:
        start = f"| {each['name']} | `{each['network'] or ''}` |"
        if "refused" in each:
            yield f"{start} | | | refused: {each['refused']} |"
            continue
        first, last = (each["blocks"][:1] or [""])[0], (each["blocks"][-1:] or [""])[0]
        blocks = f"{len(each['blocks'])}: `{first}` to `{last}`" if each["blocks"] else "0"
        shapes = " to ".join(dict.fromkeys(" x ".join(map(str, s)) for s in each["shapes"][:1] + each["shapes"][-1:]))
        passes = f"{each['kind']}, {shapes}" if each["kind"] else ""
        calls = f"{each['attention']} calls ({', '.join(each['attention_over'])})" if each["attention"] else "none"
        why = [*each["notes"], *([f"attention: {each['no_attention']}"] if each["no_attention"] else [])]
        yield f"{start} {blocks} | {passes} | {calls} | {'; '.join(why)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table that is kept")
    parser.add_argument("--only", default="", metavar="NAME", help="rows whose name contains it")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    kept = {each["name"]: each for each in json.loads(GOLDEN.read_text("utf-8"))} if GOLDEN.exists() else {}
    differ = []
    for name in [n for n in names() if arguments.only in n]:
        found = row(name, kept.get(name, {}).get("network"))
        print("\n".join(list(table([found]))[2:]), flush=True)
        differ += [name] if found != kept.get(name) else []
        kept[name] = found
    if not arguments.write:
        print("\n".join(f"differs from the table that is kept: {name}" for name in differ))
        return int(bool(differ))
    rows = [kept[name] for name in names() if name in kept]
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text("[\n" + ",\n".join(json.dumps(each) for each in rows) + "\n]\n", "utf-8")
    before, rest = PAGE.read_text("utf-8").split(MARKS[0])
    PAGE.write_text(before + MARKS[0] + "\n".join(table(rows)) + "\n" + MARKS[1] + rest.split(MARKS[1])[1], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
