"""patch_size: DeiT-Tiny with larger patches (Naseer et al. 2021, section 3.3), 32 px here.

Command:   vitals train patch_size --data folder:/data/imagenet/train --test folder:/data/imagenet/val --out runs/patch_22
           --set "model=timm:deit_tiny_patch16_224?model.drop_path_rate=0.1&model.patch_size=22"
Hardware:  any; torchrun and `--micro-batch` as for `deit`.
Time:      not measured by us.
Expected:  published, top-1 / top-5: 22 px 68.7 / 89.0, 28 px 65.2 / 86.7, 32 px 63.1 / 85.3, 38 px 55.2 / 78.8 (16 px: 72.2 / 91.1). Not repeated
           by us. 224 is no multiple of 22 or 38: the pixels at the right and lower border are unseen, as in the paper's code.

Sources. All else is DeiT's, see `deit`.
"""

from dataclasses import replace

from visionvitals.training.recipes import deit

RECIPE = replace(
    deit.RECIPE,
    name="patch_size",
    model="timm:deit_tiny_patch16_224?model.drop_path_rate=0.1&model.patch_size=32",
)
