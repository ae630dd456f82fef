"""A linear network with fixed weights, for tests. Options: `seed` of the weights, `oom` (batches above this run out of memory),
`outputs` (4), `nan` (images whose first red value, 0 to 255, is below it get NaN)."""

import hashlib

import torch
from torch import Tensor, nn

from visionvitals.core import Backbone, BackboneCard, Preprocess
from visionvitals.errors import require
from visionvitals.registry import Spec

SIZE = (32, 32)


def load(spec: Spec, *, device: torch.device) -> Backbone:
    require(spec.name == "linear", "The toy backbone must be `linear`", spec.name)
    options = spec.only("seed", "oom", "outputs", "nan")
    outputs = int(options.get("outputs", "4"))
    most = int(options.get("oom", "1000000"))
    lost = float(options.get("nan", "-1"))
    generator = torch.Generator().manual_seed(int(options.get("seed", "0")))
    module = nn.Linear(3 * 8 * 8, outputs)
    with torch.no_grad():
        module.weight.copy_(torch.randn(module.weight.shape, generator=generator))
        module.bias.zero_()
    module.to(device)

    def logits(images: Tensor) -> Tensor:
        if len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7 bytes")
        pooled = nn.functional.avg_pool2d(images - 0.5, 4).flatten(1)
        found: Tensor = module(pooled)
        return found.masked_fill((images[:, 0, 0, 0] * 255 < lost)[:, None], torch.nan)

    card = BackboneCard(
        spec=spec.text,
        architecture="linear",
        digest=hashlib.sha256(module.weight.detach().cpu().numpy().tobytes() + repr(lost).encode()).hexdigest(),
        preprocess=Preprocess(size=SIZE, resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3),
        outputs=outputs,
        parameters=module.weight.numel() + outputs,
        ordered=True,
    )
    return Backbone(card=card, device=device, module=module, logits=logits)
