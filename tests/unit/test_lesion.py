"""Laws and known answers of the feature drop."""

import pytest
import torch

from visionvitals import randomness
from visionvitals.errors import VitalsError
from visionvitals.perturb import lesion

KEYS = randomness.stream(0, [f"image-{i}" for i in range(5)], "lesion")


def test_lesion_sizes_are_the_published_ones() -> None:
    assert [lesion.lesion_count(ratio, 197) for ratio in (0.25, 0.5, 0.75)] == [49, 98, 147]


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
def test_zeroed_tokens_are_the_masked_patches_and_never_the_prefix(prefix: int) -> None:
    tokens = torch.randn(5, prefix + 16, 3, generator=torch.Generator().manual_seed(0))
    before = tokens.clone()
    dropped = lesion.token_mask(KEYS, 16, 9)
    out = lesion.zero_tokens(tokens, dropped, prefix=prefix)
    for i in range(5):
        for k in range(prefix + 16):
            gone = k >= prefix and bool(dropped[i, k - prefix])
            assert out[i, k].tolist() == ([0, 0, 0] if gone else tokens[i, k].tolist())
    assert torch.equal(tokens, before)
    assert dropped.sum(dim=1).tolist() == [9] * 5


def test_a_dropped_token_is_zero_even_if_it_was_not_finite() -> None:
    tokens = torch.full((5, 5, 2), float("inf"))
    out = lesion.zero_tokens(tokens, lesion.token_mask(KEYS, 4, 4), prefix=1)
    assert (out[:, 1:] == 0).all()
    assert out[:, 0].isinf().all()


def test_nothing_dropped_changes_nothing() -> None:
    tokens, maps = torch.randn(5, 17, 3), torch.randn(5, 3, 4, 6)
    assert torch.equal(lesion.zero_tokens(tokens, lesion.token_mask(KEYS, 16, 0), prefix=1), tokens)
    assert torch.equal(lesion.zero_features(maps, lesion.spatial_mask(KEYS, (4, 6), 0.0)), maps)
    assert not lesion.zero_features(maps, lesion.spatial_mask(KEYS, (4, 6), 1.0)).any()


def test_masks_belong_to_the_image_and_are_nested() -> None:
    small, large = lesion.spatial_mask(KEYS, (14, 14), 0.25), lesion.spatial_mask(KEYS, (14, 14), 0.5)
    assert (large | ~small).all()
    assert not torch.equal(small[0], small[1])
    assert torch.equal(lesion.spatial_mask(KEYS[3:4], (14, 14), 0.25)[0], small[3])
    assert torch.equal(lesion.token_mask(KEYS[3:4], 196, 49)[0], lesion.token_mask(KEYS, 196, 49)[3])


def test_positions_are_dropped_at_the_ratio_and_in_all_channels() -> None:
    keys = randomness.stream(0, [str(i) for i in range(500)], "frequency")
    mask = lesion.spatial_mask(keys, (7, 7), 0.25)
    assert abs(float(mask.float().mean()) - 0.25) < 5 * (0.25 * 0.75 / (500 * 49)) ** 0.5
    assert len(set(mask.sum(dim=(1, 2)).tolist())) > 1  # Bernoulli: the count varies
    out = lesion.zero_features(torch.ones(500, 3, 7, 7), mask)
    assert torch.equal(out == 0, mask[:, None].expand(-1, 3, -1, -1))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(VitalsError, match=r"`count` must be in \[0, 196\].*Got 197.*Lower the ratio"):
        lesion.token_mask(KEYS, 196, lesion.lesion_count(1.0, 197))
    with pytest.raises(VitalsError, match=r"`prefix` must be the 17 tokens less the 16 patches. Got 2"):
        lesion.zero_tokens(torch.ones(5, 17, 2), lesion.token_mask(KEYS, 16, 1), prefix=2)
    with pytest.raises(VitalsError, match=r"`ratio` must be in \[0, 1\]"):
        lesion.spatial_mask(KEYS, (2, 2), 25.0)
