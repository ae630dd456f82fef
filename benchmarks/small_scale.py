"""The paper's training remedies at small scale: what docs/case_training.md reports.

    python benchmarks/small_scale.py train runs/small     about 25 CPU minutes of one thread; again: goes on where it was
    python benchmarks/small_scale.py table runs/small     accuracy by texture and shape choice, of those that are trained
    python benchmarks/small_scale.py audit runs/small     prints the commands for shuffle, occlusion, shape bias, tokens, segmentation

Every network has 64 px input and sees 20,000 embedded pictures: the transformers (width 96, depth 4, 16 px patches) six times, the
convolutional teacher three times. `natural`: the texture is the shape's own for 80 %; `random`: it says nothing of the shape, without
augmentation and smoothing, as the paper trains on stylised pictures.
"""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from visionvitals import core, registry, stats
from visionvitals.datasets.base import cache as _cache

TEXTURE_FREE = "--set crop=0 --set flip=false --set jitter=0 --set smoothing=0"
NATURAL, RANDOM = "--data shapes:train?n=20000", f"--data shapes:train?n=20000&variant=random {TEXTURE_FREE}"
WIDTH = "model.embed_dim=96&model.depth=4"
TRAININGS = {
    "cnn_texture_free": f"tiny_cnn {RANDOM} --set epochs=3",
    "vit_natural": f"tiny_vit {NATURAL} --set epochs=6 --set model=tiny:vit?{WIDTH}&model.patch_size=16",
    "vit_texture_free": f"tiny_vit {RANDOM} --set epochs=6 --set model=tiny:vit?{WIDTH}&model.patch_size=16",
    "vit_shape": f"tiny_vit {NATURAL} --set epochs=6 --set model=tiny:vit_distilled?{WIDTH}&model.patch_size=16 "
    "--set teacher=checkpoint:{out}/cnn_texture_free/weights.safetensors --set distil=hard",
    "vit_ordinary": f"tiny_vit {NATURAL} --set epochs=6 --set model=tiny:vit_distilled?{WIDTH}&model.patch_size=16 "
    "--set teacher=tiny:cnn --set distil=hard",
    "vit_no_position": f"tiny_vit {NATURAL} --set epochs=6 --set model=tiny:vit?{WIDTH}&model.patch_size=16&position=none",
    "vit_patch32": f"tiny_vit {NATURAL} --set epochs=6 --set model=tiny:vit?{WIDTH}&model.patch_size=32",
}
TWO = ("vit_shape", "vit_ordinary")
VARIANTS = ("natural", "agree", "conflict", "flat")
N = 1000


def train(out: Path) -> None:
    for name, words in TRAININGS.items():
        command = f"train {words.format(out=out)} --test shapes:test?n={N} --out {out / name} --device cpu"
        print("vitals", command, flush=True)
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-m", "visionvitals", *command.split()], check=True, env=environment)


def spellings(out: Path) -> list[str]:
    """The finished networks, two-headed ones once for each head."""
    found = []
    for name in TRAININGS:
        path = out / name / "weights.safetensors"
        if path.is_file():
            heads = ("?token=class", "?token=shape") if name in TWO else ("",)
            found += [f"checkpoint:{path}{head}" for head in heads]
    return found


def load(text: str) -> core.Backbone:
    spec = registry.parse(text, families=registry.names("backbones"))
    made: core.Backbone = registry.load("backbones", spec.family).load(spec, device=torch.device("cpu"))
    return made


def answers(backbone: core.Backbone, variant: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(predicted class, shape, texture) of the test pictures."""
    spec = registry.parse(f"shapes:test?n={N}&variant={variant}", families=["shapes"])
    data = _cache.decoded(registry.load("datasets", "shapes").open(spec), backbone.card.preprocess)
    found = []
    for start in range(0, N, 100):
        images = torch.from_numpy(np.array(data.pixels[start : start + 100])).permute(0, 3, 1, 2) / 255
        with torch.inference_mode():
            found.append(backbone.logits(images).argmax(1).numpy())
    assert data.textures is not None
    return np.concatenate(found), data.labels, data.textures


def percent(right: np.ndarray) -> str:
    e = stats.wilson(int(right.sum()), len(right))
    return f"{100 * right.mean():.1f} ({100 * e.low:.1f}-{100 * e.high:.1f})" if len(right) else "-"


def table(out: Path) -> None:
    print("| network | natural | agree | conflict | flat | answers by shape, where by shape or texture | n |")
    print("|---|---|---|---|---|---|---|")
    for text in [*spellings(out), "tiny:vit", "tiny:cnn"]:
        backbone = load(text)
        by_variant = {variant: answers(backbone, variant) for variant in VARIANTS}
        cells = [percent(predicted == shape) for predicted, shape, _ in by_variant.values()]
        predicted, shape, texture = by_variant["conflict"]
        decided = (predicted == shape) | (predicted == texture)
        name = text.removeprefix("checkpoint:").replace("/weights.safetensors", "").replace(str(out) + "/", "")
        print(
            f"| {name} | {' | '.join(cells)} | {percent((predicted == shape)[decided])} | {int(decided.sum())} |",
            flush=True,
        )
    for name in TWO:
        path = out / name / "weights.safetensors"
        if path.is_file():
            first, second = (choices(load(f"checkpoint:{path}?token={token}")) for token in ("class", "shape"))
            draws = np.random.default_rng(0).integers(0, N, (2000, N))
            sampled = [np.nanmean(second[i]) - np.nanmean(first[i]) for i in draws]
            low, high = np.percentile(sampled, [2.5, 97.5])
            print(
                f"{name}: second minus class token {np.nanmean(second) - np.nanmean(first):.3f} ({low:.3f} to {high:.3f})"
            )


def choices(backbone: core.Backbone) -> np.ndarray:
    """For each conflict picture: 1 answered by shape, 0 by texture, NaN by neither."""
    predicted, shape, texture = answers(backbone, "conflict")
    return np.where((predicted == shape) | (predicted == texture), predicted == shape, np.nan)


def audit(out: Path) -> None:
    """Print the commands for what the studies measure."""
    natural, conflict = f"shapes:test?n={N}", f"shapes:test?n={N}&variant=conflict"
    two = [
        f"checkpoint:{out / name / 'weights.safetensors'}"
        for name in TWO
        if (out / name / "weights.safetensors").is_file()
    ]
    for name, networks, studies, data in (
        ("perturbed", spellings(out), "clean,shuffle,occlusion", natural),
        ("shape_bias", spellings(out), "shape_bias", conflict),
        ("tokens", two, "tokens,segmentation", natural),
    ):
        words = ["vitals", "audit", *networks, "--data", data, "--studies", studies, "--preset", "quick"]
        print(shlex.join([*words, "--device", "cpu", "--out", str(out / name)]))


if __name__ == "__main__":
    steps = {"train": train, "table": table, "audit": audit}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=steps)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    steps[arguments.step](arguments.out)
