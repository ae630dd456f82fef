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

from visionvitals.training.recipe import IMAGENET_MEAN, IMAGENET_STD, Recipe

RECIPE = Recipe(
    name="texture_free",
    model="timm:deit_tiny_patch16_224?model.drop_path_rate=0.1",
    train="",
    test="",
    size=224,
    resize=256,
    interpolation="bicubic",
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    epochs=300,
    batch=1024,
    lr=1e-3,
    min_lr=1e-5,
    warmup=5 / 300,
    weight_decay=0.05,
    clip=0.0,
    smoothing=0.0,
    ema=0.99996,
    crop=0,
    flip=False,
    jitter=0.0,
    precision="float16",
    seed=0,
)
