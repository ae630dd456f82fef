"""no_position: DeiT-Tiny that cannot know where a patch was: its position encoding is removed for all tokens (Naseer et al. 2021, section 3.3).

Command:   vitals train no_position --data folder:/data/imagenet/train --test folder:/data/imagenet/val --out runs/no_position
Hardware:  any; torchrun and `--micro-batch` as for `deit`.
Time:      not measured by us.
Expected:  published: 68.3 top-1, 89.0 top-5 (with position 72.2, 91.1). Not repeated by us. Certain without training: patches of 16 px
           may change places and the answer stays the same, which is checked before the first step.

Sources. All else is DeiT's, see `deit`.
"""

from visionvitals.training.recipe import IMAGENET_MEAN, IMAGENET_STD, Recipe

RECIPE = Recipe(
    name="no_position",
    model="timm:deit_tiny_patch16_224?model.drop_path_rate=0.1&position=none",
    train="",
    test="",
    size=224,
    resize=256,
    stored=256,
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
    smoothing=0.1,
    ema=0.99996,
    crop=0,
    flip=True,
    jitter=0.0,
    augment="rand-m9-mstd0.5-inc1",
    scale=0.08,
    erase=0.25,
    mixup=0.8,
    cutmix=1.0,
    repeats=3,
    precision="float16",
    seed=0,
)
