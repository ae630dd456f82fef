"""Laws of the conversion between pixels and numbers."""

import subprocess
import sys

import numpy as np
import torch

from visionvitals import pixels


def test_every_level_comes_back() -> None:
    there = np.arange(256 * 3, dtype=np.uint8).reshape(2, 8, 16, 3)
    values = pixels.to_float(there)
    assert (values.shape, values.dtype, values.is_contiguous()) == ((2, 3, 8, 16), torch.float32, True)
    assert torch.equal(values, torch.from_numpy(there).permute(0, 3, 1, 2).float() / 255)
    np.testing.assert_array_equal(pixels.to_uint8(values), there)
    np.testing.assert_array_equal(pixels.to_uint8(values[1]), there[1])


def test_a_read_only_array_and_a_tensor_are_taken_as_they_are() -> None:
    there = np.random.default_rng(0).integers(0, 256, (1, 4, 5, 3), dtype=np.uint8)
    there.flags.writeable = False
    before = there.copy()
    values = pixels.to_float(there, torch.device("cpu"))
    assert torch.equal(values, pixels.to_float(torch.from_numpy(before)))
    np.testing.assert_array_equal(there, before)


def test_values_outside_are_clipped_and_halves_go_to_even() -> None:
    values = torch.tensor([-0.1, 0.5 / 255, 1.5 / 255, 1.2]).view(1, 2, 2)
    assert pixels.to_uint8(values).ravel().tolist() == [0, 0, 2, 255]


def test_it_needs_no_torch_to_be_imported() -> None:
    code = "import sys, visionvitals.pixels; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
