"""tiny_cnn: the embedded convolutional network, 1.2 million weights, trained on 40,000 textured shapes.

Command:   vitals train tiny_cnn --out runs/tiny_cnn
Hardware:  one thread of a shared two-core Xeon, torch 2.15, no GPU.
Time:      18 minutes (771 CPU seconds) for 5 epochs = 6,250 steps; drawing the pictures takes 3 minutes more, once.
Reached:   top-1 on 2,000 test pictures, measured with the committed half-precision weights and 95 % intervals:
           natural 93.7 (92.5-94.6), agree 97.8 (97.0-98.3), conflict 77.8 (75.9-79.5), flat 51.5 (49.3-53.7); chance is 6.25.
           The command stands in `tiny_vit`.

So at this scale the convolutional network learned the shapes and the transformer did not. Every value is that of `tiny_vit`, except
the network and 5 epochs instead of 8.
"""

from dataclasses import replace

from visionvitals.training.recipes.tiny_vit import RECIPE as VIT

RECIPE = replace(VIT, name="tiny_cnn", model="tiny:cnn", epochs=5)
