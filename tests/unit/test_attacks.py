"""Laws of the attacks on a small trained network, agreement with independent libraries, and what hidden gradients look like."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from visionvitals import randomness, registry
from visionvitals.core import PRESETS, Backbone, BackboneCard, Preprocess, Preset
from visionvitals.errors import VitalsError
from visionvitals.job import Job
from visionvitals.perturb import adversarial_patch, attacks, autoattack, gradients
from visionvitals.perturb.differentiable import differentiable
from visionvitals.perturb.limits import require_eps
from visionvitals.studies import attack as study

N, SIDE, CLASSES = 24, 8, 4
Logits = Callable[[Tensor], Tensor]


def pictures(n: int = N, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise around grey with a bright quarter, which is the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    images = 0.5 + 0.1 * torch.randn(n, 3, SIDE, SIDE, generator=generator)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = divmod(label, 2)
        image[:, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] += 0.1
    return images.clamp(0, 1), labels


@pytest.fixture(scope="module")
def network() -> Logits:
    """A small convolutional network that is right on every picture, its normalisation inside."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(8 * SIDE**2, CLASSES))
        images, labels = pictures(64)
        optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        for _ in range(40):
            optimizer.zero_grad()
            functional.cross_entropy(module((images - 0.5) / 0.1), labels).backward()
            optimizer.step()
    module.eval().requires_grad_(False)
    return lambda x: module((x - 0.5) / 0.1)  # type: ignore[no-any-return]


def keys(purpose: str = "start", n: int = N) -> Tensor:
    return randomness.stream(0, [f"i{k}" for k in range(n)], purpose)


def left(found: attacks.Attacked) -> float:
    return 1 - found.success.double().mean().item()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_accuracy_falls_with_eps_and_eps_0_is_clean(network: Logits, norm: attacks.Norm, method: str) -> None:
    images, labels = pictures()
    scale = 1.0 if norm == "linf" else 8.0
    curve = []
    for eps in (0.0, 0.02, 0.05, 0.1, 0.2):
        if method == "fgsm":
            found = attacks.fgsm(network, images, labels, norm=norm, eps=eps * scale)
        else:
            found = attacks.pgd(network, images, labels, norm=norm, eps=eps * scale, steps=20, keys=(keys(),))
        curve.append(left(found))
        if eps == 0:
            assert torch.equal(found.images, images)
            assert torch.equal(found.logits, network(images))
    assert curve == sorted(curve, reverse=True)
    assert curve[0] == 1
    assert curve[-1] == 0


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("early_stop", [True, False])
def test_it_stays_in_the_ball_and_in_the_range(network: Logits, norm: attacks.Norm, early_stop: bool) -> None:
    images, labels = pictures()
    images = (images - 0.5) * 3 + 0.5
    images = images.clamp(0, 1)  # many values at the ends of the range
    eps = {"linf": 0.3, "l2": 2.0}[norm]
    found = attacks.pgd(
        network, images, labels, norm=norm, eps=eps, step_size=eps, steps=4, keys=(keys(),), early_stop=early_stop
    )
    far = attacks.distance(found.images, images, norm=norm)
    assert far.max() <= eps + 1e-5
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    if not early_stop:
        assert far.max() > 0.5 * eps


def test_pgd_is_stronger_than_fgsm_and_a_second_start_never_loses(network: Logits) -> None:
    images, labels = pictures()
    eps = 0.04
    one = attacks.pgd(network, images, labels, eps=eps, steps=20, keys=(keys("a"),))
    two = attacks.pgd(network, images, labels, eps=eps, steps=20, keys=(keys("a"), keys("b")))
    assert 0 < left(one) < 1, "the law would hold for nothing"
    assert left(one) <= left(attacks.fgsm(network, images, labels, eps=eps))
    assert bool((two.success >= one.success).all())


def test_it_stops_as_soon_as_an_image_is_lost(network: Logits) -> None:
    images, labels = pictures()
    shown: list[int] = []

    def counting(x: Tensor) -> Tensor:
        shown.append(len(x))
        return network(x)

    found = attacks.pgd(counting, images, labels, eps=0.2, steps=20)
    assert left(found) == 0
    assert sum(shown) < N * 10
    wrong = (labels + 1) % CLASSES
    already = attacks.pgd(network, images, wrong, eps=0.2, steps=20)
    assert torch.equal(already.images, images), "what is wrong already is not changed"


def test_a_targeted_attack_reaches_its_target(network: Logits) -> None:
    images, labels = pictures()
    target = attacks.random_targets(labels, keys("target"), CLASSES)
    assert not (target == labels).any()
    assert len(set(((target - labels) % CLASSES).tolist())) == CLASSES - 1
    found = attacks.pgd(network, images, labels, eps=0.25, steps=20, keys=(keys(),), target=target)
    assert found.success.all()
    assert torch.equal(found.logits.argmax(1), target)
    with pytest.raises(VitalsError, match="at least two classes"):
        attacks.random_targets(labels, keys("target"), 1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_each_image_is_attacked_alone(network: Logits, norm: attacks.Norm) -> None:
    images, labels = pictures()
    eps = {"linf": 0.05, "l2": 0.4}[norm]
    starts = (keys("a"), keys("b"))
    whole = attacks.pgd(network, images, labels, norm=norm, eps=eps, keys=starts)
    parts = [
        attacks.pgd(
            network, images[k : k + 5], labels[k : k + 5], norm=norm, eps=eps, keys=[s[k : k + 5] for s in starts]
        )
        for k in range(0, N, 5)
    ]
    assert torch.equal(whole.success, torch.cat([p.success for p in parts]))
    torch.testing.assert_close(torch.cat([p.images for p in parts]), whole.images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_fill_the_ball(norm: attacks.Norm) -> None:
    centre = torch.full((N, 3, SIDE, SIDE), 0.5)
    ball = attacks.around(centre, norm=norm, eps=0.2)
    start = attacks.random_start(ball, keys())
    far = attacks.distance(start, centre, norm=norm)
    assert far.max() <= 0.2 + 1e-6
    assert far.min() > 0.18, "in so many dimensions nearly all of a ball is at its border"
    assert abs(float((start - centre).mean())) < 0.01


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("steps", [1, 10])
def test_pgd_agrees_with_foolbox(network: Logits, norm: str, targeted: bool, steps: int) -> None:
    """The same start (the image), the same steps: an independent library, to 1e-5."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports an old name of scipy's
        foolbox = pytest.importorskip("foolbox", reason="foolbox is in the dev group")
    images, labels = pictures()
    target = (labels + 1) % CLASSES
    eps, alpha = {"linf": (0.05, 0.01), "l2": (0.6, 0.15)}[norm]
    name = {"linf": "LinfPGD", "l2": "L2PGD"}[norm]
    theirs = getattr(foolbox.attacks, name)(abs_stepsize=alpha, steps=steps, random_start=False)
    model = foolbox.PyTorchModel(_Module(network).eval(), bounds=(0, 1), device="cpu")
    criteria = foolbox.criteria
    goal = criteria.TargetedMisclassification(target) if targeted else criteria.Misclassification(labels)
    expected = theirs.run(model, images, goal, epsilon=eps)
    found = attacks.pgd(
        network,
        images,
        labels,
        norm=norm,  # type: ignore[arg-type]
        eps=eps,
        step_size=alpha,
        steps=steps,
        target=target if targeted else None,
        early_stop=False,
    )
    assert (found.images - images).abs().max() > 0.5 * min(alpha, 0.01)
    torch.testing.assert_close(found.images, expected, atol=1e-5, rtol=0)


class _Module(nn.Module):
    def __init__(self, function: Logits) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def test_autoattack_is_at_least_as_strong_and_hands_its_warnings_on(network: Logits) -> None:
    pytest.importorskip("pyautoattack", reason="pyautoattack is the extra [attack]")
    images, labels = pictures(8)
    before = torch.random.get_rng_state()
    found, _ = autoattack.autoattack(network, images, labels, eps=0.05, keys=keys(n=8))
    assert torch.equal(torch.random.get_rng_state(), before)
    again, _ = autoattack.autoattack(network, images[3:], labels[3:], eps=0.05, keys=keys(n=8)[3:])
    assert torch.equal(found.images[3:], again.images)
    ours = attacks.pgd(network, images, labels, eps=0.05, keys=(keys(n=8),))
    assert bool((found.success >= ours.success).all())
    probabilities = lambda x: network(x).softmax(dim=1)  # noqa: E731
    _, warned = autoattack.autoattack(probabilities, images[:1], labels[:1], eps=0.2, keys=keys(n=1))
    assert any("probability distribution" in text for text in warned)


def test_autoattack_says_what_is_missing(network: Logits, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = pictures(2)
    monkeypatch.setitem(__import__("sys").modules, "pyautoattack", None)
    with pytest.raises(VitalsError, match=r"pip install 'visionvitals\[attack\]'"):
        autoattack.autoattack(network, images, labels, eps=0.1, keys=keys(n=2))


class _Wrong(torch.autograd.Function):
    """The identity, whose derivative points the other way: a network that misleads."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return -gradients[0]


@pytest.mark.parametrize(
    ("hide", "said"),
    [
        (lambda network, x: network((x * 8).round() / 8), "gradient of exactly zero at 24 of 24"),
        (lambda network, x: network(x) * 1e4, "gradient of exactly zero"),
        (lambda network, x: network(_Wrong.apply(x)), "leaves 24 of 24 images right"),
        (lambda network, x: network(x) + torch.rand(len(x), CLASSES), "two passes over the same images"),
    ],
)
def test_masked_gradients_are_named(network: Logits, hide: Any, said: str) -> None:
    images, labels = pictures()
    with torch.random.fork_rng():
        signs = gradients.masked_gradients(lambda x: hide(network, x), images, labels, keys())
    assert any(said in sign for sign in signs), signs
    assert gradients.masked_gradients(network, images, labels, keys()) == ()


def test_a_zero_gradient_is_told_per_image(network: Logits) -> None:
    images, labels = pictures()

    def rounded(x: Tensor) -> Tensor:
        hidden = torch.arange(len(x)) < 0
        return network(torch.where(hidden[:, None, None, None], x, (x * 8).round() / 8))

    found = attacks.pgd(rounded, images, labels, eps=0.03, steps=3)
    assert torch.equal(found.vanished, ~found.success)
    assert found.vanished.any()


def test_an_image_with_broken_logits_is_told_apart(network: Logits) -> None:
    images, labels = pictures()
    bright = images.clone()
    bright[3] = 1.0

    def breaks(x: Tensor) -> Tensor:
        return network(x).masked_fill((x.mean(dim=(1, 2, 3)) > 0.9)[:, None], torch.nan)

    found = attacks.pgd(breaks, bright, labels, eps=0.05, keys=(keys(),))
    assert found.broken.nonzero().tolist() == [[3]]
    assert torch.equal(found.images[3], bright[3])
    alone = attacks.pgd(network, images, labels, eps=0.05, keys=(keys(),))
    others = torch.arange(N) != 3
    assert torch.equal(found.success[others], alone.success[others])


def test_a_gradient_that_is_no_number_is_not_taken_for_a_robust_image(network: Logits) -> None:
    images, labels = pictures()
    found = attacks.pgd(lambda x: network(x) + (x - x).sqrt().sum(dim=(1, 2, 3))[:, None], images, labels, eps=0.05)
    assert found.broken.all()
    assert torch.equal(found.images, images)


@pytest.mark.parametrize(
    ("norm", "eps", "said"),
    [
        ("linf", 8.0, r"units of 0-255: then write 8/255 = 0.03137"),
        ("l2", 128.0, r"128/255 = 0.50196"),
        ("linf", -0.1, "must be a finite number"),
        ("linf", float("nan"), "must be a finite number"),
        ("l1", 0.1, "`norm` must be one of linf, l2"),
    ],
)
def test_a_budget_that_means_something_else_is_refused(norm: str, eps: float, said: str) -> None:
    with pytest.raises(VitalsError, match=said):
        require_eps(norm, eps)
    with pytest.raises(VitalsError, match=said):
        study.Condition(norm=norm, eps=eps)  # type: ignore[arg-type]


def test_a_step_in_other_units_is_refused(network: Logits) -> None:
    images, labels = pictures()
    with pytest.raises(VitalsError, match=r"`step_size` is on the scale of eps.*2 is written 0.0078431"):
        attacks.pgd(network, images, labels, eps=8 / 255, step_size=2.0)
    assert left(attacks.pgd(network, images, labels, eps=1.0, steps=1)) < 1


def test_images_that_are_normalised_already_are_refused(network: Logits) -> None:
    images, labels = pictures()
    with pytest.raises(VitalsError, match="before normalisation"):
        attacks.pgd(network, (images - 0.5) / 0.1, labels, eps=0.1)


@pytest.mark.parametrize(
    "logits",
    [
        lambda x: torch.from_numpy(np.ones((len(x), 4), dtype=np.float32)),
        lambda x: x.detach().mean(dim=(2, 3)),
        lambda x: torch.zeros(4, requires_grad=True).expand(len(x), 4) * 1,
    ],
    ids=["exported", "detached", "constant"],
)
def test_a_network_without_gradients_is_refused(logits: Logits) -> None:
    images, _ = pictures(1)
    with torch.inference_mode(), pytest.raises(VitalsError, match="needs gradients of the logits"):
        gradients.require_gradients(logits, images)


def test_a_step_that_leaves_the_numbers_is_caught(network: Logits) -> None:
    images, labels = pictures()
    with pytest.raises(VitalsError, match="within linf distance"):
        attacks.verify(images + 0.01, images - 0.01, norm="linf", eps=0.01)
    with pytest.raises(VitalsError, match=r"stay in \[0, 1\]"):
        attacks.verify(images + 1, images, norm="linf", eps=1.0)
    found = attacks.attack(network, images, labels, norm="linf", eps=0.1, step=lambda x, g: x + 100 * g, steps=2)
    assert attacks.distance(found.images, images, norm="linf").max() <= 0.1 + 1e-6


def job(logits: Logits, condition: study.Condition, **more: Any) -> Job:
    images, labels = pictures()
    preprocess = Preprocess(size=(SIDE, SIDE), resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.1,) * 3)
    card = BackboneCard(spec="x:y", architecture="y", digest="0", preprocess=preprocess, outputs=CLASSES, parameters=1)
    return Job(
        backbone=Backbone(card=card, device=torch.device("cpu"), logits=logits, module=nn.Identity()),
        condition=condition,
        ids=[f"i{k}" for k in range(N)],
        pixels=images.mul(255).round().byte().permute(0, 2, 3, 1).numpy(),
        labels=labels.numpy(),
        batch_size=7,
        **more,
    )


def measured(work: Job) -> dict[str, dict[str, float]]:
    """metric -> image -> value, without the images that have none."""
    found: dict[str, dict[str, float]] = {}
    for block in study.measure(work):
        for metric, column in block.values.items():
            pairs = zip(block.items, torch.as_tensor(column).tolist(), strict=True)
            found.setdefault(metric, {}).update({item: value for item, value in pairs if value == value})
    return found


def test_the_study_warns_of_masked_gradients_and_gives_broken_images_no_value(network: Logits) -> None:
    said: list[str] = []
    brightness = pictures()[0].mul(255).round().div(255).mean(dim=(1, 2, 3))
    grey = brightness.sort().values[3:5].mean() + 0.002

    def odd(x: Tensor) -> Tensor:
        out = network((x * 8).round() / 8)
        return out.masked_fill((x.mean(dim=(1, 2, 3)) < grey)[:, None], torch.inf)

    found = measured(job(odd, study.Condition(eps=0.03), warn=said.append))
    assert all("masked gradients" in text for text in said)
    assert any("exactly zero" in text for text in said)
    assert 0 < len(found["top1"]) < N
    assert {f"i{k}" for k in (brightness < grey).nonzero()[:, 0].tolist()} & found["top1"].keys() == set()
    assert all(column.keys() == found["top1"].keys() for column in found.values())
    assert any(found["zero_gradient"].values())
    quiet: list[str] = []
    measured(job(network, study.Condition(eps=0.03), warn=quiet.append))
    assert quiet == []


def test_a_gradient_that_is_no_number_leaves_no_value(network: Logits) -> None:
    """The logits are finite, so only the attack knows."""
    found = measured(job(lambda x: network(x) + (x - x).sqrt().sum(dim=(1, 2, 3))[:, None], study.Condition(eps=0.05)))
    assert not any(found.values())


def test_the_study_runs_without_gradients_around_it_and_refuses_a_network_that_has_none(network: Logits) -> None:
    with torch.no_grad():
        strong = study.Condition(eps=0.2)
        assert set(measured(job(network, strong))["top1"].values()) == {0.0}
        with pytest.raises(VitalsError, match="needs gradients"):
            measured(job(lambda x: network(x).detach(), strong))


def test_distances_are_those_of_the_ball(network: Logits) -> None:
    far = measured(job(network, study.Condition(eps=0.05, method="fgsm")))["linf_distance"]
    assert max(far.values()) == pytest.approx(0.05, abs=1e-6)


def test_what_the_methods_stand_for() -> None:
    assert study.Condition(eps=0.1).pgd == (20, 2, pytest.approx(2.5 * 0.1 / 20))
    assert study.Condition(start="image").pgd[1] == 1
    paper = {c.steps for c in study.conditions("paper", (224, 224)) if c.method == "pgd"}
    assert paper == {0, 5}
    for wrong, said in (
        ({"method": "fgsm", "steps": 3}, "belong to `method = pgd`"),
        ({"start": "image", "restarts": 2}, "one start"),
        ({"method": "autoattack", "targeted": True}, "untargeted"),
        ({"method": "pdg"}, "must be one of fgsm, pgd"),
    ):
        with pytest.raises(VitalsError, match=said):
            study.Condition(**wrong)  # type: ignore[arg-type]


def test_too_few_classes_are_a_skip() -> None:
    few = job(lambda x: x, study.Condition()).backbone.card
    three, one = (dataclasses.replace(few, outputs=k) for k in (3, 1))
    images = job(lambda x: x, study.Condition()).images
    assert "at least 4 classes" in str(study.refusal(study.Condition(method="autoattack"), three, images))
    assert study.refusal(study.Condition(), three, images) is None
    assert "at least 2 classes" in str(study.refusal(study.Condition(), one, images))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_gives_every_vital_sign(preset: Preset) -> None:
    points = study.conditions(preset, (224, 224))
    for sign in study.SIGNS:
        assert any(all(vars(p)[name] == value for name, value in sign.where.items()) for p in points), sign.title


@pytest.fixture(scope="module")
def tiny() -> tuple[Logits, Tensor, Tensor]:
    """The embedded transformer, whose stem of convolutions with batch normalisation feeds tokens, and pictures it tells right."""
    spec = registry.parse("tiny:vit", families=["tiny"])
    backbone = registry.load("backbones", "tiny").load(spec, device=torch.device("cpu"))
    images = registry.load("datasets", "shapes").open(registry.parse("shapes:test?n=48", families=["shapes"]))
    pixels = np.stack([np.asarray(images[k].image) for k in range(48)])
    shown = functional.avg_pool2d(torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255), 2).contiguous()
    labels = torch.tensor([images[k].label for k in range(48)])
    right = backbone.logits(shown).argmax(dim=1) == labels
    return backbone.logits, shown[right][:24], labels[right][:24]


def test_a_single_image_has_the_gradient_that_it_has_among_others(tiny: tuple[Logits, Tensor, Tensor]) -> None:
    logits, images, _ = tiny

    def slope(network: Logits, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(network(x).logsumexp(dim=1).sum(), x)[0]

    among = slope(logits, images[:4])
    for k in range(4):
        alone = slope(differentiable(logits), images[k : k + 1])[0]
        torch.testing.assert_close(alone, among[k], rtol=1e-3, atol=1e-5 * float(among.abs().max()))


@pytest.mark.parametrize("method", ["fgsm", "pgd", "restarts"])
def test_the_batch_size_decides_no_attack(tiny: tuple[Logits, Tensor, Tensor], method: str) -> None:
    """Alone, in pairs, in sevens (of which one may be left, also for the second start), or all at once: the same images fall."""
    logits, images, labels = tiny

    def fallen(size: int) -> list[bool]:
        found: list[bool] = []
        starts = [k.split(size) for k in (keys()[:24], keys()[:24] + 1)] if method == "restarts" else []
        for part, (x, y) in enumerate(zip(images.split(size), labels.split(size), strict=True)):
            attack = attacks.fgsm if method == "fgsm" else attacks.pgd
            more = {} if method == "fgsm" else {"steps": 5}
            more |= {"keys": tuple(k[part] for k in starts)} if starts else {}
            found += attack(logits, x, y, eps=2 / 255, **more).success.tolist()  # type: ignore[operator]
        return found

    whole = fallen(24)
    assert sum(whole) >= 15
    for size in (1, 2, 7):
        assert fallen(size) == whole


def test_a_patch_climbs_alike_on_one_image_and_on_its_copies(tiny: tuple[Logits, Tensor, Tensor]) -> None:
    """The mean loss over two equal images is that of one, so the patch takes the same step."""
    logits, images, labels = tiny
    placement = adversarial_patch.Placement(shape="square", side=20)
    patch = torch.full((3, 20, 20), 0.5)

    def stepped(rows: list[int]) -> adversarial_patch.State:
        pose = adversarial_patch.poses(keys()[:1].expand(len(rows)), placement, (64, 64))
        state = adversarial_patch.begin(patch)
        x, y = images[rows], labels[rows]
        return adversarial_patch.climb(state, logits, x, y, pose, "square", targeted=False, lr=0.05)[0]

    one, two = stepped([3]), stepped([3, 3])
    torch.testing.assert_close(one.mean, two.mean, rtol=1e-3, atol=1e-3 * float(two.mean.abs().max()))


def test_a_gradient_that_depends_on_the_company_is_named(network: Logits) -> None:
    images, labels = pictures()

    def crowded(x: Tensor) -> Tensor:
        """The answers are those of the network; the way back leaks to the others of the batch."""
        out = network(x)
        return out + 5 * (out.roll(1, dims=0) - out.roll(1, dims=0).detach())

    signs = gradients.masked_gradients(crowded, images, labels, keys())
    assert any("depends on the batch" in sign for sign in signs)


def test_an_l2_step_is_as_long_for_a_saturated_network(network: Logits) -> None:
    """The direction of a gradient counts, not its length: that of a sure network may be 1e-25."""
    images, _ = pictures(4)
    gradient = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    usual = attacks.l2_step(0.1)(images, gradient.clone())
    for scale in (1e-8, 1e-14, 1e-25):
        torch.testing.assert_close(attacks.l2_step(0.1)(images, gradient * scale), usual)
    assert torch.equal(attacks.l2_step(0.1)(images, torch.zeros_like(images)), images)
