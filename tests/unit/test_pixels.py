"""Pixels keep their 256 levels on the way to a network and back."""

import numpy as np
import torch

from visionvitals.pixels import to_float, to_uint8


def test_every_level_is_its_255th_part_and_comes_back() -> None:
    pixels = np.arange(2 * 16 * 8 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 16, 8, 3)
    found = to_float(pixels)
    assert (found.dtype, tuple(found.shape), found.is_contiguous()) == (torch.float32, (2, 3, 16, 8), True)
    assert torch.equal(found, torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32) / 255)
    assert torch.equal(found, to_float(torch.from_numpy(pixels)))
    assert np.array_equal(to_uint8(found[1]), pixels[1])


def test_beyond_the_range_is_clamped() -> None:
    image = torch.tensor([-0.5, 1.5, 0.5]).view(3, 1, 1)
    assert to_uint8(image).ravel().tolist() == [0, 255, 128]
