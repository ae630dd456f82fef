"""What nine thresholds and all heads cost: masks compared pixel by pixel, and by counts per patch. python benchmarks/segmentation.py

Random attention and label maps of two classes; medians of five, both ways in one process and on one thread.
"""

import statistics
import time
from collections.abc import Callable

import torch

from visionvitals.probes import segmentation

KEEPS = tuple(d / 10 for d in range(1, 10))


def by_pixels(attention: torch.Tensor, targets: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """The plain way: each mask of each head and threshold, at full size."""
    found = []
    for keep in KEEPS:
        masks = segmentation.upsample(
            segmentation.mass_mask(attention, keep), grid, (targets.shape[1], targets.shape[2])
        )
        found.append(
            [segmentation.jaccard(m, t, n_classes=21).values.mean(dim=0) for m, t in zip(masks, targets, strict=True)]
        )
    return torch.stack([torch.stack(values) for values in found])


def by_counts(attention: torch.Tensor, targets: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """The study's way."""
    return torch.stack([s.fixed for s in segmentation.curve(attention, targets, grid=grid, keeps=KEEPS, n_classes=21)])


def median(function: Callable[[], torch.Tensor]) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    for side, cells, heads, images in ((224, 14, 3, 16), (512, 32, 6, 8)):
        attention = torch.rand(images, heads, cells * cells, generator=generator) ** 4
        targets = torch.zeros(images, side, side, dtype=torch.uint8)
        targets[:, side // 4 : side // 2, side // 4 :] = 3
        targets[:, side // 2 : 3 * side // 4, side // 4 :] = 15
        grid = (cells, cells)
        torch.testing.assert_close(
            by_counts(attention, targets, grid), by_pixels(attention, targets, grid), atol=0, rtol=0
        )
        slow = median(lambda a=attention, t=targets, g=grid: by_pixels(a, t, g)) / images  # type: ignore[misc]
        fast = median(lambda a=attention, t=targets, g=grid: by_counts(a, t, g)) / images  # type: ignore[misc]
        print(
            f"{side} px, {heads} heads, {len(KEEPS)} thresholds: {slow * 1e3:.1f} ms an image by pixels, {fast * 1e3:.1f} ms by "
            f"counts, {slow / fast:.0f} times"
        )


if __name__ == "__main__":
    main()
