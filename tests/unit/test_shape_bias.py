"""Shape bias by known answers: the table of entry classes, the aggregation, and hand-counted decisions."""

import numpy as np
import pytest
import torch

from visionvitals import stats
from visionvitals.probes import shape_bias


def test_the_entry_classes_are_the_published_ones_in_number() -> None:
    counts = {name: len(members) for name, members in shape_bias.ENTRY_CLASSES.items()}
    assert list(counts) == sorted(counts)
    assert list(counts.values()) == [1, 4, 2, 49, 5, 7, 3, 6, 4, 3, 109, 2, 2, 1, 1, 8]
    every = [i for members in shape_bias.ENTRY_CLASSES.values() for i in members]
    assert len(set(every)) == len(every) == 207
    assert (min(every), max(every)) == (8, 914)


def test_the_softmax_is_over_all_outputs_and_the_mean_over_the_members() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.1, 0.2, 0.2]]))
    found = shape_bias.class_probabilities(logits, [(1,), (2, 3), (0, 1)])
    torch.testing.assert_close(found, torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64))
    assert shape_bias.decide(found).tolist() == [2]


def test_many_weak_outputs_do_not_beat_one_strong_one() -> None:
    """With a sum instead of the mean, a dog would be seen wherever nothing else is strong."""
    logits = torch.zeros(1, 1000)
    logits[0, shape_bias.ENTRY_CLASSES["knife"][0]] = 1.0
    members = list(shape_bias.ENTRY_CLASSES.values())
    found = shape_bias.class_probabilities(logits, members)
    assert list(shape_bias.ENTRY_CLASSES)[shape_bias.decide(found)[0]] == "knife"


def test_a_tie_goes_to_the_first_class() -> None:
    tied = torch.tensor([[0.1, 0.4, 0.4], [0.3, 0.3, 0.3]], dtype=torch.float64)
    assert shape_bias.decide(tied).tolist() == [1, 0]


def test_hand_counted() -> None:
    #                  shape  texture neither no-conflict no answer unknown
    decisions = np.array([0, 0, 1, 2, 3, 2, -1, 0])
    shapes = np.array([0, 0, 0, 0, 1, 2, 1, 0])
    textures = np.array([1, 1, 1, 1, 3, 2, 2, -1])
    found = shape_bias.summary(decisions, shapes, textures)
    assert found.bias == stats.wilson(2, 4)
    assert found.shape_accuracy == stats.wilson(2, 6)
    assert found.texture_accuracy == stats.wilson(2, 6)
    assert found.coverage == stats.wilson(4, 6)
    assert found.per_class == {0: stats.wilson(2, 3), 1: stats.wilson(0, 1)}
    assert found.class_mean.value == pytest.approx((2 / 3 + 0) / 2)
    assert found.class_mean.n == 2


def test_nothing_answered_is_no_number_and_not_zero() -> None:
    found = shape_bias.summary(np.array([2, -1]), np.array([0, 0]), np.array([1, 1]))
    assert np.isnan(found.bias.value)
    assert found.bias.n == 0
    assert np.isnan(found.per_class[0].value)
    assert found.class_mean.n == 0
    assert found.coverage == stats.wilson(0, 2)
