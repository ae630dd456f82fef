"""The name and the meaning of every metric. A study that measures something new adds a line here."""

METRICS = {
    "top1": "the predicted class is the label (0 or 1)",
    "top5": "the label is among the five highest logits (0 or 1; only with more than five outputs)",
    "cross_entropy": "minus the natural logarithm of the softmax probability of the label, in nats",
    "information_loss": "share of the input pixels that were removed, in [0, 1]",
    "prediction": "index of the predicted class; an identifier, never averaged",
    "attack_success": "the attack reached its goal: another class than the label, or its target (0 or 1)",
    "linf_distance": "largest change of a channel value by the attack, where pixel values go from 0 to 1",
    "l2_distance": "Euclidean length of the attack's change, where pixel values go from 0 to 1",
    "zero_gradient": "the attack failed and the loss had a gradient of exactly zero wherever it looked (0 or 1)",
    "covered": "share of the input pixels that the adversarial patch covers, in [0, 1]",
}
"""Metric -> what a value means, with its unit. A share says `in [0, 1]` or `(0 or 1)` and is written in percent."""
