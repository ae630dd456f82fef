"""tiny_texture_free: the embedded transformer, fine-tuned on pictures whose texture says nothing of the label.

Command:   vitals train tiny_texture_free --out runs/tiny_texture_free
Hardware:  one thread, no GPU.
Time:      53 s on two idle cores (1 min 30 s of CPU time), drawing the pictures too; docs/student.md has what was reached.

The paper's texture-free training (Naseer et al. 2021, section 3.2, here `texture_free`) in minutes: it starts from `tiny:vit`, which reads
textures, in place of random weights, and each of the 16 textures is equally likely (`variant=random`), which is stricter than style
transfer. No augmentation and no label smoothing, as in the paper.

Sources of the values. 2,000 pictures, four times, at 3e-4, about a third of the rate that `tiny:vit` was trained with, since it is to
change and not to begin anew; all else is `tiny_vit`'s. The budget is the same for all remedies; nothing was searched.
"""

from dataclasses import replace

from visionvitals.training.recipes import tiny_vit

RECIPE = replace(
    tiny_vit.RECIPE,
    name="tiny_texture_free",
    start="tiny:vit",
    train="shapes:train?n=2000&variant=random",
    test="shapes:test?n=1000",
    epochs=4,
    lr=3e-4,
    smoothing=0.0,
    crop=0,
    flip=False,
    jitter=0.0,
)
