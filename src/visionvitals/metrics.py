"""The name and the meaning of every metric. A study that measures something new adds a line here."""

METRICS = {
    "top1": "the predicted class is the label (0 or 1)",
    "top5": "the label is among the five highest logits (0 or 1; only with more than five outputs)",
    "cross_entropy": "minus the natural logarithm of the softmax probability of the label, in nats",
    "information_loss": "share of the input pixels that were removed, in [0, 1]",
    "prediction": "index of the predicted class; an identifier, never averaged",
    "correlation": "correlation of the features of the changed with those of the original image; 1 is unchanged",
    "visible_attention": "share of the attention to patches that goes to those left visible, in [0, 1]",
    "patch_top1": "the class predicted from one patch's token alone is the label (0 or 1), or the share of patches, in [0, 1]",
    "token_cosine": "cosine of the class token and another prefix token of the same block, from -1 to 1",
    "episode_accuracy": "share of a few-shot episode's queries whose predicted class is theirs, in [0, 1]",
    "validation_top1": "the class predicted for a validation image, by a probe fitted without it, is the label (0 or 1)",
}
"""Metric -> what a value means, with its unit. A share says `in [0, 1]` or `(0 or 1)` and is written in percent."""
