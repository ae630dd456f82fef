"""tiny_teacher: the embedded convolutional network, fine-tuned on pictures whose texture says nothing: the teacher of `tiny_shape_distill`.

Command:   none needed, `tiny_shape_distill` trains it first; alone: vitals train tiny_teacher --out runs/tiny_teacher
Hardware:  one thread, no GPU.
Time:      part of that of `tiny_shape_distill`; docs/student.md has what was reached.

Convolutional, as the paper's teacher is. Every value is that of `tiny_texture_free`, except the network and 2 epochs instead of 4: it has
much less to change.
"""

from dataclasses import replace

from visionvitals.training.recipes import tiny_texture_free

RECIPE = replace(tiny_texture_free.RECIPE, name="tiny_teacher", model="tiny:cnn", start="tiny:cnn", epochs=2)
