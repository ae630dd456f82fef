"""shape_distill: DeiT-Tiny on natural pictures with a shape token: a second token whose head learns what a texture-free convolutional network
says, while the class token learns the labels (Naseer et al. 2021, section 3.2).

Command:   vitals train shape_distill --data folder:/data/imagenet/train --test folder:/data/imagenet/val --out runs/shape
           --set teacher=torchvision:resnet50@resnet50_sin.pth
           vitals audit "checkpoint:runs/shape/weights.safetensors?token=class" "checkpoint:runs/shape/weights.safetensors?token=shape" ...
           `teacher` is any spelling of a backbone. (At small scale, embedded: docs/case_training.md)
Hardware:  any; torchrun and `--micro-batch` as for `deit`. The teacher adds one forward pass.
Time:      not measured by us.
Expected:  published, top-1 | shape bias: Tiny class token 71.8 | 0.35, shape token 63.4 | 0.44; Small 75.3 | 0.39, 67.7 | 0.47. Not repeated
           by us. The heads are measured apart (`top1`, `top1_extra`), never their mean.

Sources. The teacher is a ResNet-50 trained on Stylized-ImageNet (shape bias 0.81, 60.2 top-1). Not stated in the paper: hard or soft,
alpha, tau; here DeiT's published ones: hard, 0.5, 1. `--set distil=soft_batch` divides the divergence by the pictures as timm does,
`soft_elements` by pictures times classes as DeiT's code does: on 1,000 classes a factor of 1,000. All else is DeiT's, see `deit`.
"""

from dataclasses import replace

from visionvitals.training.recipes import deit

RECIPE = replace(
    deit.RECIPE,
    name="shape_distill",
    model="timm:deit_tiny_distilled_patch16_224?model.drop_path_rate=0.1",
    teacher="torchvision:resnet50@resnet50_sin.pth",
    distil="hard",
)
