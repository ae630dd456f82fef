"""Features have no unit: a factor, a constant that all images share, and one large dimension change no probe's answer beyond rounding."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from visionvitals.probes import components, correlation, episode_solvers
from visionvitals.probes import episodes as sampler
from visionvitals.studies import _transfer_probes, transfer

CLASSES, EACH, WIDTH = 5, 40, 32
RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(CLASSES), EACH)
PLAIN = RNG.normal(size=(CLASSES, WIDTH))[LABELS] + 1.2 * RNG.normal(size=(len(LABELS), WIDTH))
ORDER = RNG.permutation(len(LABELS))
FORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as they are": lambda x: x,
    "a millionth": lambda x: 1e-6 * x,
    "a million times": lambda x: 1e6 * x,
    "moved by 1,000": lambda x: x + 1e3,
    "moved by 10,000": lambda x: x + 1e4,
    "a millionth, moved": lambda x: 1e-6 * (x + 1e3),
    "beside one large dimension": lambda x: np.concatenate([x, np.full((len(x), 1), 1e5)], axis=1),
}


def form(name: str) -> np.ndarray:
    return FORMS[name](PLAIN).astype(np.float32)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("shot", [1, 5])
def test_few_shot_solvers(name: str, shot: int) -> None:
    drawn = [sampler.fixed(sampler.pools(LABELS), k, way=CLASSES, shot=shot) for k in range(20)]
    for solver in episode_solvers.SOLVERS:
        found = episode_solvers.solve(torch.from_numpy(form(name)), drawn, solver).accuracy.mean()
        plain = episode_solvers.solve(torch.from_numpy(form("as they are")), drawn, solver).accuracy.mean()
        assert plain > 0.85
        assert found > plain - 0.1, solver  # scaled to length 1 they lie closer together: not the same problem


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("probe", ["logistic", "ridge", "neighbours"])
def test_transfer_probes(name: str, probe: str) -> None:
    fit, validation, test = ORDER[:100].tolist(), ORDER[100:140].tolist(), ORDER[140:].tolist()
    x = form(name)
    found = {"pooled": x, "patch_mean": x[:, None], "prefix": x[:, None, :0].reshape(len(x), 1, 0, x.shape[1])}
    pooled = next(s for s in transfer._subsets(found, transfer.Condition(), ORDER[:140]) if s.blocks == "pooled")
    data = _transfer_probes.Data(
        torch.from_numpy(pooled.values), torch.from_numpy(LABELS), fit, validation, test, CLASSES
    )
    answer = getattr(_transfer_probes, probe)(data).test
    assert (answer == LABELS[test]).mean() > 0.9


@pytest.mark.parametrize("name", ["a millionth", "a million times", "moved by 1,000", "a millionth, moved"])
def test_correlation_and_components(name: str) -> None:
    u, v = torch.from_numpy(PLAIN), torch.from_numpy(PLAIN + np.random.default_rng(1).normal(size=PLAIN.shape))
    w = torch.from_numpy(FORMS[name](v.numpy()))
    torch.testing.assert_close(correlation.pearson(u, w), correlation.pearson(u, v), atol=1e-7, rtol=0)
    whole = [correlation.update(correlation.start(WIDTH), u, other) for other in (w, v)]
    ours, plain = (correlation.standardised(m, u, other) for m, other in zip(whole, (w, v), strict=True))
    torch.testing.assert_close(ours, plain, atol=1e-7, rtol=0)
    tokens = torch.from_numpy(PLAIN).view(CLASSES, EACH, WIDTH)
    changed = torch.from_numpy(FORMS[name](PLAIN)).view(CLASSES, EACH, WIDTH)
    colours = components.principal_colours(changed)
    torch.testing.assert_close(colours, components.principal_colours(tokens), atol=1e-5, rtol=0)
    places = components.projection(torch.from_numpy(FORMS[name](PLAIN)))
    torch.testing.assert_close(places, components.projection(torch.from_numpy(PLAIN)), atol=1e-5, rtol=0)
