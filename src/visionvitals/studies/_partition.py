"""Which images a probe is fitted on, chosen by and tested on: the set's own parts, or stratified ones drawn by the images' hash."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from visionvitals.study import Job, VitalsError, require

TEST_SHARE = 0.25
VALIDATION_SHARE = 0.2


class Partition(NamedTuple):
    """Row numbers of a job, sorted, with what a reader must know about them.

    Attributes:
        fit, validation, test: disjoint. Every class of `validation` and `test` occurs in `fit`.
        notes: sentences.
    """

    fit: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    notes: tuple[str, ...]


def partition(job: Job, usable: np.ndarray, *, keep_duplicates: bool) -> Partition:
    """Part the images of a job.

    With `job.splits`: test is `test`, or `val` where there is no `test`; validation is `val`, or a stratified fifth of `train` where
    there is none or it is the test. Without: of each class a quarter (at least one of two or more) is the test. Copies of a picture
    never lie in two parts, nor twice in a part that is fitted: of copies a test image stays, then a validation image, then the first.

    Args:
        job: with its labels; images of classes with one image go to the fit, for nothing could be tested otherwise.
        usable: bool (n,), False where the features are not finite: such images are left out.
        keep_duplicates: whether copies stay where the set's own parts have them (they are reported in any case).

    Raises:
        VitalsError: fewer than two classes, or a part is empty, or two spellings of one class.
    """
    labels, notes = np.asarray(job.labels), []
    if not usable.all():
        notes.append(f"{int((~usable).sum())} images have features that are not finite and are left out")
    if job.splits is None:
        different = job.different(np.flatnonzero(usable))
        if copies := int(usable.sum()) - len(different):
            notes.append(f"{copies} images are copies of others and are left out")
        test = _drawn(job, different, TEST_SHARE, "transfer/test")
        train = np.setdiff1d(different, test)
        given = np.empty(0, dtype=np.int64)
        notes.append(f"no parts in the set: {len(test)} test images drawn, a quarter of each class (seed {job.seed})")
    else:
        parts = np.array(["" if s is None else s for s in job.splits])
        name = "test" if (parts == "test").any() else "val"
        test = np.flatnonzero((parts == name) & usable)
        train = np.flatnonzero((parts == "train") & usable)
        given = np.flatnonzero((parts == "val") & usable) if name == "test" else np.empty(0, dtype=np.int64)
    _refuse_spellings(job, train, test)
    train, given, said = _without_duplicates(job, train, given, test, keep=keep_duplicates)
    notes += said
    single = [c for c in np.unique(labels[train]) if (labels[train] == c).sum() == 1]
    if single:
        notes.append(f"{len(single)} classes have one training image: {_named(job, single)}")
    validation = given if len(given) else _drawn(job, train, VALIDATION_SHARE, "transfer/validation")
    fit = np.setdiff1d(train, validation)
    known = np.unique(labels[fit])
    lost = np.setdiff1d(labels[test], known)
    if len(lost):
        left_out = int(np.isin(labels[test], lost).sum())
        notes.append(
            f"{len(lost)} classes have no training image; their {left_out} test images are left out: {_named(job, lost)}"
        )
    test, validation = (part[np.isin(labels[part], known)] for part in (test, validation))
    must = "A probe needs two classes, and training, validation and test images of them"
    sizes = {"classes": len(known), "fit": len(fit), "validation": len(validation), "test": len(test)}
    require(len(known) >= 2 and min(sizes.values()) > 0, must, sizes, "Give at least three images a class.")
    return Partition(fit, validation, test, tuple(notes))


def _drawn(job: Job, rows: np.ndarray, share: float, purpose: str) -> np.ndarray:
    """A share of the images of each class, at least one where it has two or more: those of smallest hash."""
    from visionvitals import randomness

    if len(rows) == 0:
        return rows
    order = randomness.bits(randomness.stream(job.seed, [job.ids[k] for k in rows], purpose), 1)[:, 0].numpy()
    labels = np.asarray(job.labels)[rows]
    taken = [np.empty(0, dtype=np.int64)]
    for c in np.unique(labels):
        own = rows[labels == c][np.argsort(order[labels == c], kind="stable")]
        taken.append(own[: min(len(own) - 1, max(1, round(share * len(own))))])
    return np.sort(np.concatenate(taken))


def _without_duplicates(
    job: Job, train: np.ndarray, given: np.ndarray, test: np.ndarray, *, keep: bool
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Training and validation images that show a picture each and none of the test images'."""
    chosen = job.different(given, besides=test)
    fitted = job.different(train, besides=[*test, *chosen])
    both = [job.ids[k] for k in np.setdiff1d([*train, *given], [*fitted, *chosen])]
    if not both:
        return train, given, []
    named = ", ".join(both[:3]) + (f" and {len(both) - 3} more" if len(both) > 3 else "")
    what = "they stay, as in the paper" if keep else "they are left out"
    said = [f"{len(both)} training images are copies of test images or of other training images; {what}: {named}"]
    return (train, given, said) if keep else (fitted, chosen, said)


def _refuse_spellings(job: Job, train: np.ndarray, test: np.ndarray) -> None:
    """`Black Cat` in one part and `black_cat` in the other would be two classes, and neither could be learnt."""
    keys = job.images.classes
    if not keys:
        return
    labels = np.asarray(job.labels)
    found: dict[str, set[str]] = defaultdict(set)
    for c in np.setxor1d(labels[train], labels[test]):
        found["".join(ch for ch in keys[c].casefold() if ch.isalnum())].add(keys[c])
    for names in found.values():
        if len(names) > 1:
            raise VitalsError(
                f"A class must be spelled alike in the training and the test part. Got {sorted(names)}. "
                "Rename the folders, or join them with `?classes=FILE`."
            )


def _named(job: Job, classes: "np.ndarray | list[int]") -> str:
    names = [job.images.class_names[c] if job.images.class_names else str(c) for c in classes[:3]]
    return ", ".join(names) + (f" and {len(classes) - 3} more" if len(classes) > 3 else "")
