"""deit: DeiT-Tiny from nothing on ImageNet-1k, 300 epochs, the published recipe (Touvron et al. 2021, "Training data-efficient image
transformers & distillation through attention", table 9, and its public code).

Command:   torchrun --nproc-per-node 4 -m visionvitals train deit --data folder:/data/imagenet/train --test folder:/data/imagenet/val
           --out runs/deit --micro-batch 256
           (DeiT-Small: --set "model=timm:deit_small_patch16_224?model.drop_path_rate=0.1"; one GPU: without torchrun, the same command)
Hardware:  published: 4 GPUs with 256 pictures each. Here any: the batch of 1,024 is accumulated in parts of `--micro-batch`.
Time:      not measured by us. The paper: 53 hours on 8 V100 for DeiT-Base; Tiny is about 14 times fewer operations.
Expected:  top-1 72.2 (Tiny), 79.9 (Small) on ImageNet validation, of the raw weights: `--set ema=0`. Not repeated by us.

Sources. Table 9 and the defaults of the public code: AdamW, lr 5e-4 x batch / 512 = 1e-3, weight decay 0.05, cosine to 1e-5, 5 epochs
of warm-up, no gradient clipping, label smoothing 0.1, drop path 0.1, RandAugment 9 / 0.5, random crops of 8 to 100 % of the area, mixup
0.8, CutMix 1.0, random erasing 0.25, repeated augmentation of 3, average 0.99996, 224 px, shorter side 256 for evaluation, bicubic,
mixed precision. Colour jitter 0.3 is in its defaults and is not applied beside RandAugment, by timm's own rule, so it is not here.
Deviations: random crops come from the picture's central square of 256 px, as it was decoded once, not from the whole file; the
learning rate changes at every step, not every epoch, and the warm-up begins at lr / steps, not 1e-6; one draw of mixing for each part of
a batch (there: for each GPU), so `--micro-batch 256` is the published mixing; copies of a picture lie in one batch in both, here also on
one GPU; the average starts faster (timm's warm-up).
"""

from visionvitals.training.recipe import IMAGENET_MEAN, IMAGENET_STD, Recipe

RECIPE = Recipe(
    name="deit",
    model="timm:deit_tiny_patch16_224?model.drop_path_rate=0.1",
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
