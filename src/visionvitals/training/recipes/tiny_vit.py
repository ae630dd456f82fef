"""tiny_vit: the embedded transformer, 1.2 million weights, trained on 40,000 textured shapes.

Command:   vitals train tiny_vit --out runs/tiny_vit
Hardware:  one thread of a shared two-core Xeon, torch 2.15, no GPU.
Time:      37 minutes (1,977 CPU seconds) for 8 epochs = 10,000 steps; drawing the pictures takes 3 minutes more, once.
Reached:   top-1 on 2,000 test pictures, measured with the committed half-precision weights and 95 % intervals:
           natural 68.8 (66.8-70.8), agree 84.2 (82.6-85.8), conflict 6.7 (5.6-7.8), flat 11.8 (10.5-13.3); chance is 6.25.
           vitals audit tiny:vit tiny:cnn --studies clean --out runs/variants --data "shapes:test?n=2000" --data
           "shapes:test?n=2000&variant=agree" --data "shapes:test?n=2000&variant=conflict" --data "shapes:test?n=2000&variant=flat"

So this transformer has learned the textures and hardly the shapes: where the texture contradicts the shape it answers by the texture, and
the shape label is right at chance. It is a model to try the tool on, not evidence about transformers. The training
was still improving when it ended. It got 8 epochs where `tiny_cnn` got 5, because it learns more slowly; all else is equal.

Sources of the values. AdamW, cosine, warm-up, weight decay 0.05, label smoothing 0.1 and an average of the weights are those of DeiT
(Touvron et al. 2021, table 9), scaled down by hand to a training of minutes: peak learning rate 1e-3 at batch 32, 5 % warm-up, average over
about 1,000 steps, gradient norm at most 1. Augmentation: shift by up to 4 px, mirror, brightness and contrast by up to 20 %. Nothing was searched.
"""

from visionvitals.training.recipe import Recipe

RECIPE = Recipe(
    name="tiny_vit",
    model="tiny:vit",
    train="shapes:train?n=40000",
    test="shapes:test?n=2000",
    size=64,
    mean=0.5,
    std=0.5,
    epochs=8,
    batch=32,
    lr=1e-3,
    min_lr=1e-5,
    warmup=0.05,
    weight_decay=0.05,
    clip=1.0,
    smoothing=0.1,
    ema=0.999,
    crop=4,
    flip=True,
    jitter=0.2,
    seed=0,
)
