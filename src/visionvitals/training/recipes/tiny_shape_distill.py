"""tiny_shape_distill: the embedded transformer gets a shape token, which learns from a texture-free convolutional network.

Command:   vitals train tiny_shape_distill --out runs/tiny_shape_distill
           vitals audit "checkpoint:runs/tiny_shape_distill/weights.safetensors?token=class"
           "checkpoint:runs/tiny_shape_distill/weights.safetensors?token=shape" --data "shapes:test?n=1000&variant=conflict"
           --studies shape_bias --preset quick --out runs/both_heads
Hardware:  one thread, no GPU.
Time:      57 s with its teacher on two idle cores (1 min 47 s of CPU time), drawing not counted; docs/student.md has what was reached.

The paper's shape token (Naseer et al. 2021, section 3.2, here `shape_distill`) in minutes: the class token learns the labels of natural
pictures, the second token what `tiny_teacher` says of them. It starts from `tiny:vit`, the shape token as a copy of the class token, so
that both say the same before the first step, and what parts them is the teacher.

Sources of the values. Hard labels of the teacher with weight 0.5, as in `shape_distill`; 2,000 pictures, four times, and 3e-4 as in
`tiny_texture_free`; all else is `tiny_vit`'s. Nothing was searched.
"""

from dataclasses import replace

from visionvitals.training.recipes import tiny_vit

RECIPE = replace(
    tiny_vit.RECIPE,
    name="tiny_shape_distill",
    model="tiny:vit_distilled",
    start="tiny:vit",
    train="shapes:train?n=2000",
    test="shapes:test?n=1000",
    epochs=4,
    lr=3e-4,
    teacher="recipe:tiny_teacher",
    distil="hard",
)
