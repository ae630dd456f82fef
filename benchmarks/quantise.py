"""A network as ONNX in float32, with dynamic int8 and with static int8. python benchmarks/quantise.py WEIGHTS PHOTOGRAPHS OUT

Args: the weights of `tf_efficientnet_lite0`, a folder of photographs to calibrate on (100 of them are used, sorted by path), and the folder for `float32.onnx`,
`dynamic.onnx` and `static.onnx`. The numbers of docs/case_quantised.md are of these files. Needs `[onnx]` and onnxscript.
"""

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

from visionvitals.core import Preprocess
from visionvitals.datasets.base import decode
from visionvitals.plan.planner import load_backbone

PICTURES = 100


class Photographs(CalibrationDataReader):  # type: ignore[misc]  # a library without types
    """What the calibration looks at, one picture at a time, cut and normalised as the network's card says."""

    def __init__(self, folder: Path, look: Preprocess, name: str) -> None:
        found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg"))[:PICTURES]
        self.batches = self.made(found, look, name)

    def made(self, paths: list[Path], look: Preprocess, name: str) -> Iterator[dict[str, np.ndarray]]:
        mean, std = (np.array(x, dtype=np.float32).reshape(3, 1, 1) for x in (look.mean, look.std))
        for path in paths:
            with Image.open(path) as picture:
                pixels = decode.decode(picture, look).transpose(2, 0, 1).astype(np.float32) / 255
            yield {name: ((pixels - mean) / std)[None]}

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def main(weights: str, photographs: str, out: str) -> None:
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone(f"timm:tf_efficientnet_lite0@{weights}", device=torch.device("cpu"))
    look = backbone.card.preprocess
    images = torch.zeros(2, 3, *look.size)
    plain, prepared = folder / "float32.onnx", folder / "prepared.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sizes = ({0: torch.export.Dim.DYNAMIC},)
        torch.onnx.export(
            backbone.module,
            (images,),
            plain,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=sizes,
            external_data=False,
            verbose=False,
        )
        quant_pre_process(plain, prepared)
        quantize_dynamic(prepared, folder / "dynamic.onnx")
        reader = Photographs(Path(photographs), look, "images")
        quantize_static(prepared, folder / "static.onnx", reader, quant_format=QuantFormat.QDQ, per_channel=True)
    prepared.unlink()
    for path in sorted(folder.glob("*.onnx")):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    print(f"?resize={look.resize}&interpolation={look.interpolation}&mean={look.mean[0]}&std={look.std[0]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
