"""tiny_no_position: the embedded transformer, fine-tuned after its position encoding was taken out.

Command:   vitals train tiny_no_position --out runs/tiny_no_position
Hardware:  one thread, no GPU.
Time:      47 s on two idle cores (1 min 22 s of CPU time), drawing not counted; docs/student.md has what was reached.

The paper's network without position (Naseer et al. 2021, section 3.3, here `no_position`) in minutes: the paper trains it from nothing, here it
starts from `tiny:vit`, which was trained with position. Every other value is that of `tiny_shape_distill`, without a teacher.
"""

from dataclasses import replace

from visionvitals.training.recipes import tiny_shape_distill

RECIPE = replace(
    tiny_shape_distill.RECIPE, name="tiny_no_position", model="tiny:vit?position=none", teacher="", distil="none"
)
