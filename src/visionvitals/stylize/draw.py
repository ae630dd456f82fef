"""Which style a picture gets: the published draw of Stylized-ImageNet, one style per picture, with replacement.

Picture k of the whole (all of validation, then all of training, each in sorted order) takes the k-th number of numpy's legacy
`RandomState(49809)`, uniform over the usable styles (79,395 paintings there). The k-th number depends on k and on the number of
styles only, so every picture can be made alone, in any order and in any process, and a copy of the training part alone is the
published one where it begins at 50,000.
"""

import numpy as np
from jaxtyping import Int64

SEED = 49809
PUBLISHED_STYLES = 79_395


def style_indices(first: int, count: int, styles: int) -> Int64[np.ndarray, " count"]:
    """The styles of pictures first, first + 1, ..., as indices into the usable styles.

    Args:
        first: position of the first picture in the whole, >= 0.
        count: number of pictures.
        styles: number of usable styles, >= 1.
    """
    return np.random.RandomState(SEED).randint(0, styles, size=first + count, dtype=np.int64)[first:]
