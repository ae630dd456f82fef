"""Pictures are cut as their source cuts them: timm, torchvision, and image processors of transformers, whose code is run and compared."""

import io
import re
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from visionvitals.backbones import _processor, hf
from visionvitals.core import Preprocess
from visionvitals.datasets.base import cache, decode
from visionvitals.errors import VitalsError

transformers = pytest.importorskip("transformers")
SIZES = ((301, 402), (500, 375), (333, 333), (97, 151), (480, 641))


def photograph(height: int, width: int) -> Image.Image:
    rng = np.random.default_rng(height * width)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)).resize((width, height))
    grain = rng.normal(0, 12, (height, width, 3))
    return Image.fromarray((np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8))


def settings(processor: Any) -> dict[str, Any]:
    found = processor.to_dict()
    return {key: found.get(key, getattr(processor, key, None)) for key in hf._READ}


def cut(processor: Any) -> tuple[Preprocess, tuple[str, ...]]:
    said = settings(processor)
    return _processor.fitted(hf.preprocessing(said), processor, flips=bool(said.get("do_flip_channel_order")))


def difference(processor: Any, preprocess: Preprocess, size: tuple[int, int], *, flips: bool = False) -> float:
    """Largest difference of their picture and ours, of 255."""
    picture = photograph(*size)
    theirs = torch.as_tensor(processor(images=[picture], return_tensors="pt")["pixel_values"])[0]
    theirs = theirs.flip(0) if flips else theirs
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (preprocess.mean, preprocess.std))
    ours = torch.from_numpy(decode.decode(picture, preprocess).copy()).permute(2, 0, 1)
    return float((theirs * std + mean - ours / 255).abs().max() * 255)


def of(name: str, **settings: Any) -> Any:
    """A processor with Pillow's filters, where this version of transformers tells them apart."""
    return getattr(transformers, f"{name}ImageProcessorPil", None) or getattr(
        transformers, f"{name}ImageProcessor"
    ), settings


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Levit", {}),
        ("Levit", {"size": {"shortest_edge": 192}, "crop_size": {"height": 192, "width": 192}}),
        ("CLIP", {}),
        ("Bit", {"size": {"shortest_edge": 256}}),
        ("DeiT", {}),
        ("DeiT", {"size": {"height": 438, "width": 438}, "crop_size": {"height": 384, "width": 384}}),
        ("ConvNext", {}),
        ("ConvNext", {"size": {"shortest_edge": 224}}),
        ("PoolFormer", {}),
        ("MobileNetV2", {}),
        ("MobileViT", {"size": {"shortest_edge": 288}}),
        ("ViT", {}),
        (
            "Beit",
            {"size": {"height": 256, "width": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
        ),
        ("EfficientNet", {}),
        ("Siglip", {}),
    ],
)
def test_a_processor_and_we_give_the_same_pixels(name: str, settings: dict[str, Any], size: tuple[int, int]) -> None:
    kind, more = of(name, **settings)
    processor = kind(**more)
    found, notes = cut(processor)
    assert notes == ()
    assert difference(processor, found, size, flips=name == "MobileViT") <= 1.01


@pytest.mark.parametrize(
    ("name", "settings", "note"),
    [
        ("CLIP", {"do_center_crop": False}, "gives pictures of other sizes"),
        ("ViT", {"do_resize": False}, "gives pictures of other sizes"),
        ("Bit", {"do_resize": False}, "up to [0-9]+ of 255 apart"),
        ("Vilt", {}, "gives pictures of other sizes"),
        ("ImageGPT", {}, "could not be run"),
    ],
)
def test_what_we_cannot_give_gets_a_note(name: str, settings: dict[str, Any], note: str) -> None:
    kind, more = of(name, **settings)
    _, (said,) = cut(kind(**more))
    assert re.search(note, said)


def test_the_default_crop_is_torchvisions_and_the_other_is_down() -> None:
    from torchvision.transforms import v2

    base = Preprocess(size=(64, 64), resize=72, interpolation="bilinear", mean=(0,) * 3, std=(1,) * 3)
    down = Preprocess(size=(64, 64), resize=72, interpolation="bilinear", mean=(0,) * 3, std=(1,) * 3, crop="floor")
    moved = 0
    for size in (*SIZES, (72, 75), (72, 77), (75, 72), (72, 79)):
        picture = photograph(*size)
        theirs = np.asarray(v2.CenterCrop(64)(v2.Resize(72)(picture)))
        assert np.array_equal(decode.decode(picture, base), theirs)
        left, top = (side - 64 for side in down.resized(*picture.size))
        resized = picture.resize(down.resized(*picture.size), Image.Resampling.BILINEAR)
        by_hand = resized.crop((left // 2, top // 2, left // 2 + 64, top // 2 + 64))
        assert np.array_equal(decode.decode(picture, down), np.asarray(by_hand))
        moved += not np.array_equal(theirs, np.asarray(by_hand))
    assert moved > 0
    assert cache._key("d", base, "pillow", None, 0) != cache._key("d", down, "pillow", None, 0)


def test_timm_stretches_then_crops_and_so_do_we() -> None:
    from timm.data import create_transform, resolve_data_config

    config = resolve_data_config(
        pretrained_cfg=timm.get_pretrained_cfg("vit_medium_patch16_gap_384.sw_in12k_ft_in1k").to_dict()
    )
    theirs = create_transform(**{**config, "mean": (0, 0, 0), "std": (1, 1, 1)})
    ours = Preprocess(size=(384, 384), resize=404, interpolation="bicubic", mean=(0,) * 3, std=(1,) * 3, stretch=True)
    for size in SIZES:
        picture = photograph(*size)
        expected = (theirs(picture) * 255).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(decode.decode(picture, ours), expected)
        mask = np.asarray(picture)[:, :, 0] > 128
        assert decode.decode_mask(mask, ours).shape == (384, 384)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("how", [{"stretch": True}, {"crop": "floor"}])
def test_the_fast_decoder_cuts_likewise(how: dict[str, Any], interpolation: Any) -> None:
    pytest.importorskip("simplejpeg")
    preprocess = Preprocess(size=(64, 64), resize=77, interpolation=interpolation, mean=(0,) * 3, std=(1,) * 3, **how)
    for size in SIZES:
        data = io.BytesIO()
        photograph(*size).save(data, "JPEG", quality=95)
        fast, plain = (
            decode.decode_fast(data.getvalue(), preprocess, "x"),
            decode.decode(decode.open_image(data.getvalue(), "x"), preprocess),
        )
        assert np.abs(fast.astype(int) - plain).max() <= 2


def test_a_stretch_needs_its_size() -> None:
    with pytest.raises(VitalsError, match="`stretch` needs the `resize`"):
        Preprocess(size=(64, 64), resize=None, interpolation="bilinear", mean=(0,) * 3, std=(1,) * 3, stretch=True)
