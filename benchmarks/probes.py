"""What the probes cost beside scikit-learn, and what keeping features costs above the bare forward passes.

    OMP_NUM_THREADS=1 python benchmarks/probes.py [--features 10000 1536 100] [--repeats 3] [--extraction]

Probes: CPU seconds, medians, both in one process and in turn. The features are a mixture of Gaussians, one a class, whose directions
have variances that fall as 1 / rank, turned at random; float32 for both. Logistic regression at two strengths: scikit-learn's
tolerance is tightened until its objective is within 0.1 % of the optimum (the lowest value that any solver found, ours at a gap of
1e-5 included), and the fastest such fit counts. Ridge with exact leave-one-out over five penalties against RidgeClassifierCV.

Extraction: `probes.features.features` on decoded images against the bare network on as many batches of the same shape,
CPU seconds.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV

from visionvitals import registry
from visionvitals.job import Job
from visionvitals.probes import features, linear

NETWORKS = ("timm:deit_tiny_patch16_224?pretrained=false", "timm:mobilenetv2_100?pretrained=false")
RIDGE = (1.0, 10.0, 100.0, 1000.0, 10000.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--features", type=int, nargs=3, default=(10_000, 1536, 100), help="images, width, classes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--extraction", action="store_true", help="measure the extraction instead of the probes")
    arguments = parser.parse_args()
    if arguments.extraction:
        extraction(arguments.repeats)
        return
    x, y = mixture(*arguments.features)
    for penalty in (1e-4, 1e-2):
        logistic(x, y, arguments.features[2], penalty, arguments.repeats)
    ridge(x, y, arguments.features[2], arguments.repeats)


def mixture(n: int, d: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    spread = torch.arange(1, d + 1).float() ** -0.5
    turn = torch.linalg.qr(torch.randn(d, d, generator=generator))[0]
    labels = torch.arange(n) % k
    means = torch.randn(k, d, generator=generator) * spread * 0.35
    x = (means[labels] + torch.randn(n, d, generator=generator) * spread) @ turn
    return (x / x.std(dim=0)).contiguous(), labels


def logistic(x: torch.Tensor, y: torch.Tensor, classes: int, penalty: float, repeats: int) -> None:
    def ours(tolerance: float) -> tuple[linear.Linear, linear.Certificate]:
        return linear.softmax_path(x, y, [penalty], classes=classes, tolerance=tolerance)[0]

    def theirs(tolerance: float) -> Any:
        return LogisticRegression(C=1 / (penalty * len(x)), tol=tolerance, max_iter=5000).fit(x.numpy(), y.numpy())

    def value(weight: np.ndarray, bias: np.ndarray) -> float:
        z = x.double().numpy() @ weight.T.astype(np.float64) + bias
        loss = np.logaddexp.reduce(z, axis=1) - z[np.arange(len(y)), y.numpy()]
        return float(loss.mean() + penalty / 2 * np.square(weight, dtype=np.float64).sum())

    tight = ours(1e-5)[0]
    optimum = value(tight.weight.numpy(), tight.bias.numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reached: dict[float, float] = {}
        for tolerance in (1e-4, 5e-5, 2e-5, 1e-5, 5e-6, 2e-6, 1e-6):
            fitted = theirs(tolerance)
            reached[tolerance] = value(fitted.coef_, fitted.intercept_) / optimum - 1
            if reached[tolerance] <= 1e-3:
                break
        pairs = [(cpu(lambda: ours(1e-3)), cpu(lambda: theirs(tolerance))) for _ in range(repeats)]
    fit, proof = ours(1e-3)
    above = value(fit.weight.numpy(), fit.bias.numpy()) / optimum - 1
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"logistic, penalty {penalty:g}: ours {a:.2f} s, {above:.3%} above the optimum ({proof.gap / proof.objective:.3%} proven, "
        f"{proof.iterations} iterations); scikit-learn {b:.2f} s, {reached[tolerance]:.3%} above (tol {tolerance:g}; at its default "
        f"{reached[1e-4]:.1%}); ratio {statistics.median(p / q for p, q in pairs):.2f}",
        flush=True,
    )


def ridge(x: torch.Tensor, y: torch.Tensor, classes: int, repeats: int) -> None:
    pairs = []
    for _ in range(repeats):
        ours = cpu(lambda: linear.ridge_path(x, y, RIDGE, classes=classes))
        pairs.append((ours, cpu(lambda: RidgeClassifierCV(alphas=RIDGE).fit(x.numpy(), y.numpy()))))
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"ridge, leave-one-out: ours {a:.2f} s, RidgeClassifierCV {b:.2f} s; {statistics.median(q / p for p, q in pairs):.1f} x"
    )


def extraction(repeats: int) -> None:
    for text in NETWORKS:
        spec = registry.parse(text, families=registry.names("backbones"))
        backbone = registry.load("backbones", spec.family).load(spec, device=torch.device("cpu"))
        h, w = backbone.card.preprocess.size
        n = 64
        pixels = np.random.default_rng(0).integers(0, 256, (n, h, w, 3), dtype=np.uint8)
        job = Job(
            backbone=backbone,
            condition=None,
            ids=[str(k) for k in range(n)],
            pixels=pixels,
            labels=np.zeros(n),
            batch_size=16,
        )
        batch = torch.rand(16, 3, h, w)

        def bare(backbone: Any = backbone, batch: torch.Tensor = batch) -> None:
            with torch.inference_mode():
                for _ in range(4):
                    backbone.module(batch)

        bare()
        features.features(job)  # the layout is looked for once, as in a run
        ratios = [cpu(lambda: features.features(job)) / cpu(bare) for _ in range(repeats)]  # noqa: B023  used at once
        print(
            f"{backbone.card.architecture}: extraction / forward = {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        )


def cpu(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
