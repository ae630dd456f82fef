"""What is read of an answer: right or not among all outputs and among those of the set, how sure, how far from the truth."""

import math

import pytest
import torch

from visionvitals.study import answers

OUT = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 3.0, 2.0, 1.0], [1.0, 1.0, 0.0, 0.0]])
LABELS = torch.tensor([0, 2, 1])


def test_confidence_is_the_largest_probability_and_brier_the_squared_distance_from_the_truth() -> None:
    found = answers(OUT, LABELS)
    shares = OUT.double().softmax(dim=1)
    truth = torch.eye(4, dtype=torch.float64)[LABELS]
    assert found["confidence"].tolist() == pytest.approx(shares.amax(dim=1).tolist(), abs=1e-6)
    assert found["brier"].tolist() == pytest.approx((shares - truth).square().sum(dim=1).tolist(), abs=1e-6)
    assert "top1_present" not in found


def test_brier_of_two_classes_is_twice_the_squared_doubt_and_its_ends_are_0_and_2() -> None:
    two = answers(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    assert two["brier"].item() == pytest.approx(2 / (1 + math.exp(-1)) ** 2, abs=1e-6)
    sure = torch.tensor([[90.0, 0.0, 0.0], [90.0, 0.0, 0.0]])
    assert answers(sure, torch.tensor([0, 1]))["brier"].tolist() == [0, 2]


def test_only_the_classes_that_the_set_has_may_be_answered() -> None:
    found = answers(OUT, LABELS, torch.tensor([0, 2]))
    assert found["top1"].tolist() == [1, 0, 0.5]
    assert found["top1_present"][:2].tolist() == [1, 1], "output 1 is none of the set's"


def test_the_reading_among_all_classes_of_a_full_set_is_the_plain_one() -> None:
    every = answers(OUT, LABELS, torch.arange(4))
    assert every["top1_present"].tolist() == every["top1"].tolist()


def test_a_class_that_stands_for_several_outputs_is_right_with_any_of_them() -> None:
    several = torch.tensor([[1, 2], [2, 2], [3, 1]])
    found = answers(OUT, several)
    assert found["top1"].tolist() == [0, 0, 0.5]
    shares = OUT.double().softmax(dim=1)
    added = torch.stack([shares[0, 1] + shares[0, 2], shares[1, 2], shares[2, 1] + shares[2, 3]])
    assert found["cross_entropy"].tolist() == pytest.approx((-added.log()).tolist(), abs=1e-6)
    rest = torch.stack([shares[0, [0, 3]], torch.tensor([0.0, 0.0]), shares[2, [0, 2]]]).square().sum(dim=1)
    rest[1] = shares[1, [0, 1, 3]].square().sum()
    assert found["brier"].tolist() == pytest.approx(((1 - added) ** 2 + rest).tolist(), abs=1e-6)


def test_right_outputs_that_share_the_highest_logit_do_not_take_it_from_each_other() -> None:
    out = torch.tensor([[2.0, 2.0, 0.0, 2.0, -1.0, -1.0, -1.0]])
    assert answers(out, torch.tensor([[0, 1]]))["top1"].tolist() == pytest.approx([2 / 3])
    assert answers(out, torch.tensor([[0, 1]]), torch.tensor([0, 1, 2]))["top1_present"].tolist() == [1]
    assert answers(out, torch.tensor([[0, 1, 3]]))["top1"].tolist() == [1]
    level = torch.zeros(1, 8)  # five of eight places; both right ones miss with 6/8 5/7 4/6 3/5 2/4
    assert answers(level, torch.tensor([[2, 6]]))["top5"].tolist() == pytest.approx([1 - 3 / 28])
    assert answers(level, torch.tensor([[2, 2]]))["top5"].tolist() == pytest.approx([5 / 8])


def test_several_equal_outputs_are_the_plain_label() -> None:
    plain, twice = answers(OUT, LABELS), answers(OUT, torch.stack([LABELS, LABELS], dim=1))
    for metric, values in plain.items():
        assert twice[metric].tolist() == pytest.approx(values.tolist(), abs=1e-6), metric


def test_an_answer_that_is_not_finite_is_none_in_every_column() -> None:
    out = torch.tensor([[float("nan"), 0.0, 1.0], [float("inf"), 0.0, 1.0]])
    for labels in (torch.tensor([1, 1]), torch.tensor([[1, 2], [1, 1]])):
        for values in answers(out, labels, torch.tensor([1, 2])).values():
            assert values.isnan().all()
