"""The name and the meaning of every metric. A study that measures something new adds a line here."""

METRICS = {
    "top1": "the predicted class is the label (0 or 1)",
    "top5": "the label is among the five highest logits (0 or 1; only with more than five outputs)",
    "cross_entropy": "minus the natural logarithm of the softmax probability of the label, in nats",
    "information_loss": "share of the input pixels that were removed, in [0, 1]",
    "prediction": "index of the predicted class; an identifier, never averaged",
    "mass_removed": "share of the saliency that lay in what was removed, in [0, 1]",
    "jaccard": "pixels in both a mask and the truth over pixels in either, mean over the classes in the image, in [0, 1]",
    "correlation": "correlation of the features of the changed with those of the original image; 1 is unchanged",
    "visible_attention": "share of the attention to patches that goes to those left visible, in [0, 1]",
    "patch_top1": "the class predicted from one patch's token alone is the label (0 or 1), or the share of patches, in [0, 1]",
    "token_cosine": "cosine of the class token and another prefix token of the same block, from -1 to 1",
    "shape_choice": "of the pictures answered by shape or texture: the answer was the shape (0 or 1); its mean is the shape bias",
    "class_shape_bias": "shape bias of the pictures of one shape class, in [0, 1]; the items are classes, each counts the same",
    "shape_accuracy": "the answer is the class of the shape (0 or 1), over all pictures with a conflict",
    "texture_accuracy": "the answer is the class of the texture (0 or 1), over all pictures with a conflict",
    "cue_coverage": "the answer is the class of the shape or of the texture (0 or 1), over all pictures with a conflict",
    "training_loss": "mean loss of the training over an epoch, in nats",
    "learning_rate": "of the optimiser at the end of an epoch",
    "episode_accuracy": "share of a few-shot episode's queries whose predicted class is theirs, in [0, 1]",
    "attack_success": "the attack reached its goal: another class than the label, or its target (0 or 1)",
    "linf_distance": "largest change of a channel value by the attack, where pixel values go from 0 to 1",
    "l2_distance": "Euclidean length of the attack's change, where pixel values go from 0 to 1",
    "zero_gradient": "the attack failed and the loss had a gradient of exactly zero wherever it looked (0 or 1)",
    "covered": "share of the input pixels that the adversarial patch covers, in [0, 1]",
}
"""Metric -> what a value means, with its unit. A share says `in [0, 1]` or `(0 or 1)` and is written in percent."""
