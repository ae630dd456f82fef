"""What a sweep costs beside its forward passes: `occlusion` with a network of almost no cost, images in the cache.

    python benchmarks/host.py                # this edition
    PYTHONPATH=OTHER/src python benchmarks/host.py

On a GPU this is what remains. The network reads 16 pixels of a 224 px input; the set are 300 pictures of `shapes`. Prints CPU seconds of
the cells alone (planning, decoding and the report are not counted), the median of several rounds.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

FACTORY = """
import torch
class Few(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(16, 16)
    def forward(self, x):
        return self.head(x[:, 0, ::64, ::64].flatten(1))
def build():
    return Few()
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=300)
    asked = parser.parse_args()
    import torch

    from visionvitals.plan import planner, request
    from visionvitals.run import runner

    with tempfile.TemporaryDirectory() as folder:
        os.environ["VISIONVITALS_CACHE"] = f"{folder}/cache"
        (Path(folder) / "few.py").write_text(FACTORY)
        section = request.Section(
            name="occlusion", values={"fraction": tuple(k / 10 for k in range(10)), "fill": ("black", "mean")}
        )
        plan = request.Plan(
            backbones=(f"python:{folder}/few.py:build?size=224",),
            data=(f"shapes:test?n={asked.images}",),
            studies=(section,),
        )
        planned = planner.make(plan, device=torch.device("cpu"))
        spent = []
        for k in range(asked.rounds + 1):  # the first one decodes
            start = time.process_time()
            outcome = runner.execute(planned, out=Path(folder) / str(k), device=torch.device("cpu"))
            spent.append(time.process_time() - start)
            assert not outcome.failed, outcome.failed
    cells = len(planned.cells)
    each = statistics.median(spent[1:]) / cells
    print(f"{cells} cells of {asked.images} images: {each * 1000:.1f} CPU ms a cell, median of {asked.rounds}")


if __name__ == "__main__":
    main()
