"""cnn: ResNet-50 on ImageNet or its stylised copy, the convolutional counterpart and the teacher of `shape_distill`.

Command:   vitals train cnn --data folder:/data/stylised/train --test folder:/data/imagenet/val --out runs/cnn
           (at small scale, embedded: vitals train tiny_cnn; docs/case_training.md)
Hardware:  any; torchrun and `--micro-batch` as for `deit`. Its batch normalisation sees the pictures of one part of one process.
Time:      not measured by us.
Expected:  published for ResNet-50 trained on Stylized-ImageNet alone (Geirhos et al. 2019): 60.2 top-1 on ImageNet, shape bias 0.81. Not
           repeated by us.

Sources. Stochastic gradient descent with momentum 0.9, lr 0.1, weight decay 1e-4, batch 256, random crops of 8 to 100 % of the area and
mirroring are those of the usual PyTorch example that Geirhos et al. trained with. Deviations: 60 epochs are our choice; half a cosine takes
the place of their steps; random crops come from the central square of 256 px as it was decoded once; biases and norms do not decay.
"""

from visionvitals.training.recipe import IMAGENET_MEAN, IMAGENET_STD, Recipe

RECIPE = Recipe(
    name="cnn",
    model="timm:resnet50",
    train="",
    test="",
    size=224,
    resize=256,
    stored=256,
    interpolation="bilinear",
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    epochs=60,
    batch=256,
    optimizer="sgd",
    lr=0.1,
    min_lr=0.0,
    warmup=0.0,
    weight_decay=1e-4,
    clip=0.0,
    smoothing=0.0,
    ema=0.0,
    crop=0,
    flip=True,
    jitter=0.0,
    scale=0.08,
    precision="float16",
    seed=0,
)
