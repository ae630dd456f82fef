"""no_position: DeiT-Tiny that cannot know where a patch was: its position encoding is removed for all tokens (Naseer et al. 2021, section 3.3).

Command:   vitals train no_position --data folder:/data/imagenet/train --test folder:/data/imagenet/val --out runs/no_position
Hardware:  any; torchrun and `--micro-batch` as for `deit`.
Time:      not measured by us.
Expected:  published: 68.3 top-1, 89.0 top-5 (with position 72.2, 91.1). Not repeated by us. Certain without training: patches of 16 px
           may change places and the answer stays the same, which is checked before the first step.

Sources. All else is DeiT's, see `deit`.
"""

from dataclasses import replace

from visionvitals.training.recipes import deit

RECIPE = replace(
    deit.RECIPE,
    name="no_position",
    model="timm:deit_tiny_patch16_224?model.drop_path_rate=0.1&position=none",
)
