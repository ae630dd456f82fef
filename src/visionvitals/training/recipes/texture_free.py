"""texture_free: DeiT-Tiny on stylised pictures, in which texture says nothing of the label, without augmentation, label smoothing or
mixing (Naseer et al. 2021, section 3.2).

Command:   vitals train texture_free --data folder:/data/stylised/train --test folder:/data/imagenet/val --out runs/texture_free
           (at small scale, embedded: vitals train tiny_vit --data "shapes:train?n=20000&variant=random" --test shapes:test --out
           runs/free --set crop=0 --set flip=false --set jitter=0 --set smoothing=0; docs/case_training.md)
Hardware:  any; torchrun and `--micro-batch` as for `deit`.
Time:      not measured by us.
Expected:  published for training on Stylized-ImageNet: DeiT-Tiny 40.5 top-1 on ImageNet and a shape bias of 0.87; DeiT-Small 52.5 and 0.93.
           Not repeated by us.

Sources. "Without applying any augmentation, label smoothing or mixup" (the paper); all else is not stated there and is DeiT's, see
`deit`. Not stated: the number of epochs. 300 is DeiT's.
"""

from dataclasses import replace

from visionvitals.training.recipes import deit

RECIPE = replace(
    deit.RECIPE,
    name="texture_free",
    stored=0,
    smoothing=0.0,
    flip=False,
    augment="",
    scale=1.0,
    erase=0.0,
    mixup=0.0,
    cutmix=0.0,
    repeats=1,
)
