"""Principal components as colours: equal to scikit-learn's, blind to a rotation of the features, and never without a value."""

import numpy as np
import pytest
import torch

from visionvitals.probes.components import principal_colours

TOKENS = torch.randn(2, 49, 12, generator=torch.Generator().manual_seed(0)).double() * torch.arange(12, 0, -1)


def test_the_colours_are_the_three_first_components() -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    for tokens, colours in zip(TOKENS, principal_colours(TOKENS), strict=True):
        expected = decomposition.PCA(3, svd_solver="full").fit_transform(tokens.numpy())
        for c in range(3):
            inner = (colours[:, c] > 0) & (colours[:, c] < 1)
            correlation = np.corrcoef(expected[inner, c], colours[inner, c])[0, 1]
            assert abs(correlation) == pytest.approx(1, abs=1e-9)


def test_a_rotation_of_the_features_and_another_batch_change_nothing() -> None:
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1)).double()).Q
    torch.testing.assert_close(principal_colours(TOKENS @ rotation), principal_colours(TOKENS))
    torch.testing.assert_close(principal_colours(TOKENS[1:]), principal_colours(TOKENS)[1:])


def test_few_patches_that_differ_are_bright_and_equal_tokens_are_black() -> None:
    tokens = torch.zeros(1, 50, 4)
    tokens[0, :5, 2] = 1
    assert principal_colours(tokens)[0, :, 0].tolist() == [1.0] * 5 + [0.0] * 45
    assert principal_colours(torch.ones(1, 50, 4)).tolist() == torch.zeros(1, 50, 3).tolist()
