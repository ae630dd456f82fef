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
from onnxruntime import InferenceSession
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

from visionvitals.core import Preprocess
from visionvitals.datasets.base import decode
from visionvitals.plan.planner import load_backbone

PICTURES = 100


def photographs(folder: Path, look: Preprocess) -> Iterator[np.ndarray]:
    """Float32 (1, 3, height, width), cut and normalised as the network's card says."""
    mean, std = (np.array(x, dtype=np.float32).reshape(3, 1, 1) for x in (look.mean, look.std))
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg"))[:PICTURES]:
        with Image.open(path) as picture:
            pixels = decode.decode(picture, look).transpose(2, 0, 1).astype(np.float32) / 255
        yield ((pixels - mean) / std)[None]


class Calibration(CalibrationDataReader):  # type: ignore[misc]  # a library without types
    """What the calibration looks at, one picture at a time."""

    def __init__(self, pictures: list[np.ndarray]) -> None:
        self.left = iter(pictures)

    def get_next(self) -> dict[str, np.ndarray] | None:
        picture = next(self.left, None)
        return None if picture is None else {"images": picture}


def beside(path: Path, pictures: list[np.ndarray], size: int = 20) -> int:
    """How many answers of a file are others in batches of `size` than alone."""
    session = InferenceSession(path)
    alone = [session.run(None, {"images": each})[0].argmax() for each in pictures]
    batches = [np.concatenate(pictures[k : k + size]) for k in range(0, len(pictures), size)]
    together = np.concatenate([session.run(None, {"images": each})[0].argmax(axis=1) for each in batches])
    return int((together != np.array(alone)).sum())


def main(weights: str, calibration: str, out: str) -> None:
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
        pictures = list(photographs(Path(calibration), look))
        reader = Calibration(pictures)
        quantize_static(prepared, folder / "static.onnx", reader, quant_format=QuantFormat.QDQ, per_channel=True)
    prepared.unlink()
    for path in sorted(folder.glob("*.onnx")):
        print(
            f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, {beside(path, pictures)} of {len(pictures)} answers are others in a batch of 20"
        )
    print(f"?resize={look.resize}&interpolation={look.interpolation}&mean={look.mean[0]}&std={look.std[0]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
