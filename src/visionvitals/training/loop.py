"""The training loop, in plain PyTorch with timm's parts: AdamW, cosine, moving average of the weights, exact resume after a kill.

Order and augmentation of the pictures are a hash of (seed, epoch, index), and the state of torch's generator (dropout) is part of
the checkpoint, so a resumed training on the CPU equals the uninterrupted one bit for bit. In the folder of a training:

    checkpoint.pt         what a resume needs, replaced every minute and after every epoch
    metrics.jsonl         one line an epoch: training loss, accuracy of the averaged weights on the test set
    weights.safetensors   the averaged weights of the last whole epoch in half precision; final when the training is over
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn import functional

from visionvitals import randomness, registry
from visionvitals.backbones import _preprocess, tiny
from visionvitals.errors import VitalsError, require
from visionvitals.run import memory
from visionvitals.run.progress import duration
from visionvitals.training import checkpoints
from visionvitals.training.data import Pictures, batch, load_pictures, order, require_fit
from visionvitals.training.recipe import Recipe, learning_rate

SAVE_SECONDS = 60.0
REPORT_SECONDS = 5.0


def train(
    recipe: Recipe,
    *,
    out: Path,
    device: torch.device | str = "cpu",
    resume: bool = True,
    report: Callable[[str], None] = print,
) -> Path:
    """Train a recipe's network on its image sets.

    Args:
        recipe: see `Recipe`.
        out: folder of this training; made where missing.
        device: where to compute.
        resume: go on from the checkpoint in `out` where there is one; False begins anew and replaces it.
        report: is given one plain line every few seconds.

    Returns:
        The final weights, see `checkpoints.export`.

    Raises:
        VitalsError: the network or an image set is unknown, the sets do not fit each other, `out` holds another training, or the
            loss is not finite.
    """
    network_and_kwargs(recipe, outputs=2)  # a wrong spelling is refused before pictures are decoded
    learn = load_pictures(recipe.train, recipe, report)
    test = load_pictures(recipe.test, recipe, report)
    return fit(recipe, learn, test, out=out, device=device, resume=resume, report=report)


def fit(
    recipe: Recipe,
    learn: Pictures,
    test: Pictures,
    *,
    out: Path,
    device: torch.device | str = "cpu",
    resume: bool = True,
    report: Callable[[str], None] = print,
) -> Path:
    """`train` on pictures that are loaded already."""
    require_fit(learn, test, recipe)
    memory.keep()
    out.mkdir(parents=True, exist_ok=True)
    data = {"train": learn.digest, "test": test.digest}
    identity = {**asdict(recipe), **{f"digest of {name}": digest for name, digest in data.items()}}
    saved = checkpoints.read(out, identity) if resume else None
    devices = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # the caller's generators stay as they are
        torch.manual_seed(int(randomness.stream(recipe.seed, ["weights"], "train/init")))
        module, kwargs = network_and_kwargs(recipe, outputs=len(learn.classes))
        module.to(device)
        optimizer = create_optimizer_v2(module, opt="adamw", lr=recipe.lr, weight_decay=recipe.weight_decay)
        average = ModelEmaV3(module, decay=recipe.ema, use_warmup=True)
        step, total, history = 0, 0.0, list[dict[str, Any]]()
        if saved is not None:
            module.load_state_dict(saved["model"])
            average.module.load_state_dict(saved["average"])
            optimizer.load_state_dict(saved["optimizer"])
            step, total, history = saved["step"], saved["total"], saved["history"]
            torch.set_rng_state(saved["generator"])
            report(f"{recipe.name}: going on from step {step:,}")

        def save() -> None:
            state = {"identity": identity, "step": step, "total": total, "history": history}
            state |= {"model": module.state_dict(), "average": average.module.state_dict()}
            checkpoints.save(out, state | {"optimizer": optimizer.state_dict(), "generator": torch.get_rng_state()})

        def export() -> Path:
            weights, last = average.module.state_dict(), history[-1]
            return checkpoints.export(
                out, weights, recipe, kwargs=kwargs, classes=learn.classes, data=data, metrics=last
            )

        a_pass = len(learn.labels) // recipe.batch  # steps
        steps = recipe.epochs * a_pass
        began = said = kept = time.monotonic()
        first = step
        while step < steps:
            epoch, position = divmod(step, a_pass)
            if position == 0 or step == first:
                shuffled = order(recipe, epoch, len(learn.labels))
            now = learning_rate(recipe, step, steps)
            for group in optimizer.param_groups:
                group["lr"] = now
            indices = shuffled[position * recipe.batch : (position + 1) * recipe.batch]
            images, labels = (part.to(device) for part in batch(learn, indices, recipe, epoch))
            module.train()
            loss = functional.cross_entropy(
                module((images - recipe.mean) / recipe.std), labels, label_smoothing=recipe.smoothing
            )
            if not math.isfinite(value := loss.item()):
                raise VitalsError(_not_finite(value, epoch, step, now, out))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if recipe.clip:
                nn.utils.clip_grad_norm_(module.parameters(), recipe.clip)
            optimizer.step()
            step += 1
            average.update(module, step)
            total += value

            if time.monotonic() - said >= REPORT_SECONDS:
                said = time.monotonic()
                rate = (step - first) * recipe.batch / (said - began)
                left = duration((steps - step) * recipe.batch / rate)
                report(
                    f"{recipe.name}: epoch {epoch + 1}/{recipe.epochs}, step {step:,}/{steps:,}, "
                    f"loss {value:.3f}, {rate:,.0f} images/s, {left} left"
                )
            if step % a_pass == 0:
                top1 = accuracy(average.module, test, recipe, device)
                history.append({"epoch": epoch + 1, "step": step, "loss": total / a_pass, "lr": now, "top1": top1})
                total = 0.0
                report(
                    f"{recipe.name}: epoch {epoch + 1} done, mean loss {history[-1]['loss']:.4f}, test top-1 {top1:.4f}"
                )
                save()
                export()
                checkpoints.write_metrics(out, history)
                kept = time.monotonic()
            elif time.monotonic() - kept >= SAVE_SECONDS:
                save()
                kept = time.monotonic()
        checkpoints.write_metrics(out, history)
        return export()


@torch.inference_mode()
def accuracy(module: nn.Module, pictures: Pictures, recipe: Recipe, device: torch.device | str) -> float:
    """Share of pictures whose highest logit is their label, in evaluation mode, in [0, 1]."""
    module.eval()
    right = 0
    for start in range(0, len(pictures.labels), 100):
        part = slice(start, start + 100)
        images = torch.from_numpy(pictures.pixels[part]).to(device).permute(0, 3, 1, 2) / 255
        labels = torch.from_numpy(pictures.labels[part]).to(device)
        right += int((module((images - recipe.mean) / recipe.std).argmax(dim=1) == labels).sum())
    return right / len(pictures.labels)


def network_and_kwargs(recipe: Recipe, *, outputs: int) -> tuple[nn.Module, dict[str, Any]]:
    """The network that a recipe names, with random weights, and the keyword arguments that make it again.

    Raises:
        VitalsError: another family than `tiny:` or `timm:`, an unknown network, or keyword arguments that it does not take.
    """
    spec = registry.parse(recipe.model, families=["tiny", "timm"])
    spec.only(*_preprocess.model_options(spec))
    require(spec.checkpoint is None, "A recipe's model starts from random weights, without `@`", recipe.model)
    kwargs = {**_preprocess.model_kwargs(spec), "num_classes": outputs}
    make = tiny.network if spec.family == "tiny" else timm.create_model
    try:
        return make(spec.name, **kwargs), kwargs
    except (TypeError, RuntimeError, AssertionError, ValueError) as error:
        raise VitalsError(f"`{recipe.model}` cannot be made: {error}") from error


def _not_finite(value: float, epoch: int, step: int, lr: float, out: Path) -> str:
    kept = (
        "The last good checkpoint and weights are kept in"
        if (out / checkpoints.CHECKPOINT).is_file()
        else "Nothing is kept in"
    )
    return (
        f"The loss must be finite. Got {value} in epoch {epoch + 1}, step {step + 1}, at a learning rate of {lr:.3g}. The training "
        f"has stopped. {kept} {out}. Train again into another folder with a smaller `lr`, a longer `warmup` or a smaller `clip`."
    )
