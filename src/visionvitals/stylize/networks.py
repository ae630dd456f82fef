"""The two networks of AdaIN style transfer, for weights that the user supplies.

The encoder is VGG-19 up to relu4_1 in the "normalised" form of the published weights (`vgg_normalised.pth` of pytorch-AdaIN, a file of
53 modules of which the first 31 are used): its first layer holds the preprocessing, so it takes RGB in [0, 1], and torchvision's VGG-19
does not fit. The decoder mirrors it. All borders are reflected.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from visionvitals import weight_files
from visionvitals.errors import require
from visionvitals.perturb import stylize

ENCODER: tuple[int | str, ...] = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, 256, "pool", 512)
DECODER: tuple[int | str, ...] = (256, "up", 256, 256, 256, 128, "up", 128, 64, "up", 64, 3)
_ENCODER_MODULES = 31


def encoder() -> nn.Sequential:
    """VGG-19 to relu4_1: float (b, 3, h, w) in [0, 1] -> (b, 512, ceil(h / 8), ceil(w / 8)). Random weights."""
    return nn.Sequential(nn.Conv2d(3, 3, 1), *_blocks(3, ENCODER))


def decoder() -> nn.Sequential:
    """Features (b, 512, h, w) -> a picture (b, 3, 8 h, 8 w), not clipped. Random weights."""
    return nn.Sequential(*_blocks(512, DECODER)[:-1])  # no ReLU behind the colours


def _blocks(channels: int, plan: Sequence[int | str]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for step in plan:
        if step == "pool":
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
        elif step == "up":
            layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
        else:
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(channels, int(step), 3), nn.ReLU()]
            channels = int(step)
    return layers


@dataclass(frozen=True)
class Adain:
    """Style transfer by AdaIN for whole batches.

    Attributes:
        encode, decode: the networks, in evaluation mode on one device.
    """

    encode: nn.Module
    decode: nn.Module

    def __call__(
        self, content: Float[Tensor, "b 3 h w"], style: Float[Tensor, "b 3 h w"], *, alpha: float = 1.0
    ) -> Float[Tensor, "b 3 h w"]:
        """Both in [0, 1]; so is the result. The decoder's picture is padded up to multiples of 8 pixels: what is beyond is cut."""
        with torch.inference_mode():
            mixed = stylize.adain(self.encode(content), self.encode(style), alpha=alpha)
            made: Tensor = self.decode(mixed)
        return made[..., : content.shape[2], : content.shape[3]].clamp(0, 1)


def load(encoder_file: Path, decoder_file: Path, *, device: torch.device) -> Adain:
    """The networks with weights from two files (safetensors, or .pth read without executing code).

    Raises:
        VitalsError: a file that cannot be read or does not fit; the keys that differ are listed.
    """
    first, second = encoder(), decoder()
    given = weight_files.read(encoder_file)
    used = {key: value for key, value in given.state.items() if not _beyond(key)}
    weight_files.load_strict(
        first, given._replace(state=used), architecture="the AdaIN encoder (normalised VGG-19 to relu4_1)"
    )
    weight_files.load_strict(second, weight_files.read(decoder_file), architecture="the AdaIN decoder")
    return Adain(*(network.eval().requires_grad_(False).to(device) for network in (first, second)))


def file_digest(path: Path) -> str:
    """sha256 of a file; a pipe or a device, which has no end, is refused."""
    require(path.expanduser().is_file(), "The weights must be a regular file", str(path))
    with path.expanduser().open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _beyond(key: str) -> bool:
    """Whether a weight belongs to a module of VGG-19 after relu4_1."""
    number = key.partition(".")[0]
    return number.isdecimal() and int(number) >= _ENCODER_MODULES
