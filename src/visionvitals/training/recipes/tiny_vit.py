"""tiny_vit: the embedded transformer."""

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
