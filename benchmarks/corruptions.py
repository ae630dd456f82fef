"""CPU time of every corruption on a 224-px picture, one thread, beside that of the public per-image implementation.

    python benchmarks/corruptions.py [--against PYTHON]

Milliseconds of `time.process_time()` for one picture: the mean over severities 1-5 of the median over `--repeats` blocks of calls.
`PUBLIC` was measured once on another machine, with the newest code of imagecorruptions (its release fails on 3 of 19). With
`--against`, the interpreter of an environment that has the fork imgcorr, theirs is measured here too, in turn with ours. The picture
is drawn, so that nothing is downloaded. Frost: ours uses a folder of five drawn pictures, theirs its own.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PUBLIC = {
    "gaussian_noise": 5.0, "shot_noise": 12.9, "impulse_noise": 4.0, "defocus_blur": 4.9, "glass_blur": 16.9, "motion_blur": 10.1,
    "zoom_blur": 106.5, "snow": 12.0, "frost": 9.5, "fog": 2.6, "brightness": 24.2, "contrast": 2.2, "elastic_transform": 18.2,
    "pixelate": 0.3, "jpeg_compression": 0.7, "speckle_noise": 3.6, "gaussian_blur": 4.9, "spatter": 5.7, "saturate": 29.1,
}  # fmt: skip
COMMON = tuple(PUBLIC)[:15]
CALLS = 10
THEIRS = """
import sys, time, warnings
warnings.simplefilter("ignore")
import cv2, numpy as np
from imgcorr import corrupt
cv2.setNumThreads(1)
picture = np.load(sys.argv[1])
for line in sys.stdin:
    name, severity, calls = line.split()
    corrupt(picture, corruption_name=name, severity=int(severity))
    start = time.process_time()
    for _ in range(int(calls)):
        corrupt(picture, corruption_name=name, severity=int(severity))
    print((time.process_time() - start) / int(calls), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--against", type=Path, help="python of an environment with imgcorr")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    import torch
    from PIL import Image

    from visionvitals import randomness
    from visionvitals.datasets.shapes import render
    from visionvitals.perturb.corruptions import SEVERITIES, corrupt
    from visionvitals.run import memory

    torch.set_num_threads(1)
    memory.keep()  # as a run does
    drawn = render(np.arange(1), size=224, split="test", variant="natural").images
    images = torch.from_numpy(drawn).permute(0, 3, 1, 2).to(torch.float32).div_(255).contiguous()
    keys = randomness.stream(0, ["0"], "benchmark")
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        for k in range(5):
            Image.fromarray(rng.integers(0, 256, (400, 600, 3), dtype=np.uint8)).save(Path(folder, f"{k}.png"))
        np.save(Path(folder, "picture.npy"), drawn[0])
        theirs = None
        if arguments.against is not None:
            command = [str(arguments.against), "-c", THEIRS, str(Path(folder, "picture.npy"))]
            theirs = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def one(name: str, severity: int) -> tuple[float, float]:
            corrupt(name, images, severity, keys, frost_folder=folder)  # warms the caches after the other process
            start = time.process_time()
            for _ in range(CALLS):
                corrupt(name, images, severity, keys, frost_folder=folder)
            ours = (time.process_time() - start) / CALLS
            if theirs is None or name not in PUBLIC:
                return ours, float("nan")
            assert theirs.stdin is not None
            assert theirs.stdout is not None
            print(name, severity, CALLS if PUBLIC[name] < 60 else 2, file=theirs.stdin, flush=True)
            return ours, float(theirs.stdout.readline())

        print(f"{'ms per picture':20}{'ours':>8}{'public':>9}{'ratio':>8}{'public here':>13}{'ratio':>8}")
        total = [0.0, 0.0]
        for name in (*PUBLIC, "rain"):
            found = []
            for severity in SEVERITIES:
                times = [one(name, severity) for _ in range(arguments.repeats)]
                found.append([1000 * statistics.median(column) for column in zip(*times, strict=True)])
            ours, here = (statistics.mean(column) for column in zip(*found, strict=True))
            if name in COMMON:
                total = [total[0] + 5 * ours, total[1] + 5 * here]
            public = PUBLIC.get(name, float("nan"))
            print(f"{name:20}{ours:8.2f}{public:9.1f}{public / ours:8.1f}{here:13.2f}{here / ours:8.1f}", flush=True)
        public = 5 * sum(PUBLIC[name] for name in COMMON)
        print(
            f"{'15 x 5':20}{total[0]:8.1f}{public:9.0f}{public / total[0]:8.1f}{total[1]:13.0f}{total[1] / total[0]:8.1f}"
        )
        if theirs is not None:
            theirs.terminate()


if __name__ == "__main__":
    sys.exit(main())
