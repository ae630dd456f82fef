"""Which images a probe is fitted on, chosen by and tested on: the set's own parts, or stratified ones drawn by the images' hash."""

import hashlib
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
    there is none or it is the test. Without: of each class a quarter (at least one of two or more) is the test.

    Args:
        job: with its labels; images of classes with one image go to the fit, for nothing could be tested otherwise.
        usable: bool (n,), False where the features are not finite: such images are left out.
        keep_duplicates: whether training images that are also test images, pixel for pixel, stay (they are reported in any case).

    Raises:
        VitalsError: fewer than two classes, or a part is empty, or two spellings of one class.
    """
    labels, notes = np.asarray(job.labels), []
    if not usable.all():
        notes.append(f"{int((~usable).sum())} images have features that are not finite and are left out")
    if job.splits is None:
        test = _drawn(job, np.flatnonzero(usable), TEST_SHARE, "transfer/test")
        train = np.setdiff1d(np.flatnonzero(usable), test)
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
    """Training and validation images that are no test image, by the hash of the decoded pixels."""

    def hashes(rows: np.ndarray) -> list[bytes]:
        return [hashlib.blake2b(np.ascontiguousarray(job.pixels[k]).data, digest_size=16).digest() for k in rows]

    seen = set(hashes(test))
    doubled = [np.array([h in seen for h in hashes(rows)], dtype=bool) for rows in (train, given)]
    both = [job.ids[k] for rows, flags in zip((train, given), doubled, strict=True) for k in rows[flags]]
    if not both:
        return train, given, []
    named = ", ".join(both[:3]) + (f" and {len(both) - 3} more" if len(both) > 3 else "")
    what = "they stay, as in the paper" if keep else "they are left out of the training"
    said = [f"{len(both)} training images are also test images, pixel for pixel; {what}: {named}"]
    return (train, given, said) if keep else (train[~doubled[0]], given[~doubled[1]], said)


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
