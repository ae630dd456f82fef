"""Can a linear classifier on raw pixels name the object of `textured_shapes`? It must not: prints its test accuracy beside chance.

    python benchmarks/linear_pixels.py

One CPU core, about 20 seconds, most of it drawing. 5,000 training and 1,000 test pictures of 64 pixels, averaged to 32, variant
natural; logistic regression at five strengths of regularisation. To quote the best of them favours the classifier.

Measured: 0.058, 0.079, 0.095, 0.104 and 0.100 on test, from the strongest regularisation to the weakest; chance is 0.0625.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression

from visionvitals.datasets.shapes import SHAPES, Split, render


def pixels(split: Split, n: int) -> tuple[np.ndarray, np.ndarray]:
    drawn = render(np.arange(n), size=64, split=split, variant="natural")
    small = drawn.images.reshape(n, 32, 2, 32, 2, 3).mean(axis=(2, 4), dtype=np.float32) / 255 - 0.5
    return small.reshape(n, -1), drawn.shapes


def main() -> None:
    (train, labels), (test, answers) = pixels("train", 5000), pixels("test", 1000)
    for strength in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
        linear = LogisticRegression(C=strength, max_iter=300).fit(train, labels)
        print(f"C={strength:g}: train {linear.score(train, labels):.3f}, test {linear.score(test, answers):.3f}")
    print(f"chance {1 / len(SHAPES):.4f}")


if __name__ == "__main__":
    main()
