"""Which output of a backbone each class of an image set is, or why that cannot be known."""

import csv
import importlib.util
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from visionvitals import registry
from visionvitals.core import BackboneCard, ImageSetCard
from visionvitals.errors import VitalsError, near, require
from visionvitals.stats import Estimate, paired_difference, wilson

_WNID = re.compile(r"n\d{8}")
_SAME_ORDER = 0.99
"""Share of the classes that must match by name at their own position before the few others are taken by position."""


@dataclass(frozen=True)
class Alignment:
    """How an image set's labels become a backbone's.

    Attributes:
        indices: for each class of the image set, the index of the backbone's output, the first where several are right.
        how: one sentence for the report.
        right: for each class all outputs that are right, where a class stands for several; else empty.
        guessed: nobody said it: outputs without names were taken in the order of the classes.
    """

    indices: tuple[int, ...]
    how: str
    guessed: bool = False
    right: tuple[tuple[int, ...], ...] = ()

    @property
    def present(self) -> tuple[int, ...]:
        """The outputs that are right for some class, in order."""
        return tuple(sorted({*self.indices, *(index for several in self.right for index in several)}))

    def outputs(self, labels: np.ndarray) -> np.ndarray:
        """The outputs that are right for images with these labels: int64 (n,), or (n, m), the first again where there are fewer than m."""
        widest = max(map(len, self.right), default=0)
        table = [(*several, *several[:1] * (widest - len(several))) for several in self.right]
        return np.take(np.asarray(table or self.indices, dtype=np.int64), labels, axis=0)


def align(images: ImageSetCard, backbone: BackboneCard) -> Alignment:
    """Find the backbone's output for every class of an image set.

    Integer labels are output indices. Names are matched with the backbone's class keys, then with its readable names (case,
    spaces and punctuation do not count), then with any comma-separated part of them. A backbone that does not name its outputs
    is taken to have them in the sorted order of the classes, if their numbers agree; classes called 0, 1, 2, ... are taken in the
    order of the numbers. Both are guesses.

    Raises:
        VitalsError: a class that matches nothing or several outputs, integer labels that are also the names of other outputs, or
            numbers that do not agree (it says how to map them), or a backbone without a classifier.
    """
    if backbone.outputs == 0:
        raise VitalsError(f"`{backbone.spec}` has no classifier: what it gives are features, which are no answers")
    if images.stands_for:
        return _by_several(images, backbone)
    numbers = all(key.isdecimal() and key.isascii() for key in images.classes)
    unnamed = backbone.classes is None and backbone.class_names is None
    candidates = [] if unnamed else _candidates(images, backbone)
    if images.kind == "indices":
        _not_other_names(images, backbone, candidates)
        return _by_index(images, backbone)
    if unnamed:
        return _by_number(images, backbone) if numbers else _by_order(images, backbone)
    if numbers and not any(candidates):
        return _by_index(images, backbone)
    return _by_name(images, backbone, candidates)


def chance_warning(accuracy: float, n: int, *, how: str, backbone: BackboneCard) -> str | None:
    """A sentence that names the likely causes when a clean accuracy looks like guessing, else None.

    It looks like guessing when the 95 % interval of the accuracy holds chance, 1 / outputs, or, with at least ten outputs, when
    the accuracy is below three times chance; in both cases only if the interval ends below the middle between chance and 1, so
    that a handful of pictures proves nothing.

    Args:
        accuracy: top-1 on the unperturbed pictures, in [0, 1].
        n: number of pictures.
        how: `Alignment.how`.
        backbone: its mean and std are quoted; it chooses among its outputs.
    """
    outputs, look, spec = backbone.outputs, backbone.preprocess, backbone.spec
    if n == 0 or outputs < 2:
        return None
    chance = 1 / outputs
    interval = wilson(round(accuracy * n), n)
    guesses = interval.low <= chance or (outputs >= 10 and accuracy < 3 * chance)
    if not guesses or interval.high >= (1 + chance) / 2:
        return None
    return (
        f"Clean accuracy is {accuracy:.1%} on {n} images (95 % interval {interval.low:.1%} to {interval.high:.1%}); guessing "
        f"among {outputs} outputs gives {chance:.1%}. Likely causes: another class order ({how}; give the model's own with "
        f"{registry.way(spec, 'classes', value='FILE')}), another normalisation (mean {look.mean}, std {look.std}; give it with "
        f"{registry.way(spec, 'mean', 'std')}), another input size ({look.size[0]}x{look.size[1]}; give it with "
        f"{registry.way(spec, 'size')}), or weights of another model."
    )


def known_classes(images: ImageSetCard, backbone: BackboneCard) -> str | None:
    """A sentence where a backbone has outputs for classes of a set, by name: they are not new to it. None where it names none.

    A backbone may know classes that it has no outputs for (self-supervised weights); nothing can be said of those.
    """
    if images.kind == "indices" or (backbone.classes is None and backbone.class_names is None):
        return None
    seen = [key for key, match in zip(images.class_names, _candidates(images, backbone), strict=True) if match]
    if not seen:
        return None
    return (
        f"{backbone.spec} was trained to tell {len(seen)} of the {len(images.classes)} classes of {images.spec} ({_some(seen)}): "
        "what few-shot and transfer say of them is not about new classes"
    )


def readable_names(keys: Sequence[str]) -> tuple[str, ...]:
    """The keys, with wnids replaced by their words ("n01440764" by "tench, Tinca tinca") where they are known."""
    if not any(_WNID.fullmatch(key) for key in keys):
        return tuple(keys)
    words = _wordnet()
    return tuple(words.get(key, key) for key in keys)


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """The wnids of ImageNet-1k in the usual order of the outputs, which is their sorted order."""
    found = tuple(_table("imagenet_synsets.txt").split())
    require(len(found) == 1000, "timm must have its list of the 1,000 classes of ImageNet", f"{len(found)} classes")
    return found


def published_part(classes: Sequence[str]) -> str | None:
    """The published set, ImageNet-A or ImageNet-R, whose 200 wnids these are, or None."""
    for letter in "ar":
        if len(classes) == 200 and {*classes} == {*_table(f"imagenet_{letter}_synsets.txt").split()}:
            return f"ImageNet-{letter.upper()}"
    return None


@cache
def _wordnet() -> dict[str, str]:
    """The words of each wnid."""
    return dict(csv.reader(_table("imagenet_synset_to_lemma.txt").splitlines(), delimiter="\t"))


def _table(name: str) -> str:
    """A table of timm's, "" where it has none; the file is read without importing timm, which takes seconds."""
    found = importlib.util.find_spec("timm")
    for place in (found.submodule_search_locations or ()) if found else ():
        table = Path(place) / "data" / "_info" / name
        if table.is_file():
            return table.read_text(encoding="utf-8")
    return ""


def _by_several(images: ImageSetCard, backbone: BackboneCard) -> Alignment:
    """Classes that stand for several classes of a network, each of which is matched as if it were one of the set."""
    keys = tuple(dict.fromkeys(key for several in images.stands_for for key in several))
    found = align(replace(images, classes=keys, class_names=readable_names(keys), stands_for=()), backbone)
    output = dict(zip(keys, found.indices, strict=True))
    right = tuple(tuple(output[key] for key in several) for several in images.stands_for)
    how = f"{len(images.classes)} classes cover {len(keys)} classes of the network; {found.how}"
    return Alignment(tuple(several[0] for several in right), how, found.guessed, right)


def _by_index(images: ImageSetCard, backbone: BackboneCard) -> Alignment:
    indices = tuple(int(key) for key in images.classes)
    if max(indices) >= backbone.outputs:
        raise VitalsError(
            f"The labels of `{images.spec}` are output indices and must be below the {backbone.outputs} outputs of "
            f"`{backbone.spec}`. Got {max(indices)}. Indices count from 0; labels that are names must be written as names."
        )
    return Alignment(indices, "the labels are the indices of the model's outputs")


def _not_other_names(images: ImageSetCard, backbone: BackboneCard, candidates: list[set[int]]) -> None:
    """Refuse integer labels that are all names of outputs too, where the names stand at other positions."""
    if not candidates or not all(candidates):
        return
    other = next(((k, m) for k, m in zip(images.classes, candidates, strict=True) if int(k) not in m), None)
    if other is not None:
        raise VitalsError(
            f"The labels of `{images.spec}` must mean one thing. Got `{other[0]}`, which is output {int(other[0])} of "
            f"`{backbone.spec}` by its position and output {min(other[1])} by its name. Labels that are numbers are positions: give "
            f"the model's names in words with {registry.way(backbone.spec, 'classes', value='FILE')}, or in the order of the numbers."
        )


def _by_number(images: ImageSetCard, backbone: BackboneCard) -> Alignment:
    """Classes that are called by numbers, of a backbone without names: a guess, as other programs sort 10 before 2."""
    count = len(images.classes)
    if count == backbone.outputs and [int(key) for key in sorted(images.classes)] == list(range(count)):
        return _by_order(images, backbone)
    found = _by_index(images, backbone)
    how = "the model does not name its outputs: classes called by numbers were taken as the outputs of these numbers"
    return Alignment(found.indices, how, guessed=not backbone.ordered)


def _by_order(images: ImageSetCard, backbone: BackboneCard) -> Alignment:
    count = len(images.classes)
    if count != backbone.outputs:
        fewer = "A class may be missing. " if count < backbone.outputs else ""
        raise VitalsError(
            f"`{backbone.spec}` does not name its {backbone.outputs} outputs, so `{images.spec}` must have as many classes. "
            f"Got {count}. {fewer}Name the outputs with {registry.way(backbone.spec, 'classes', value='FILE')}: a class of the image set "
            "for each, in the order of the outputs."
        )
    return Alignment(
        tuple(range(count)),
        f"the model does not name its outputs: its {count} outputs were taken as the {count} classes in their order",
        guessed=not backbone.ordered,
    )


def better_order(predicted: np.ndarray, wanted: np.ndarray) -> tuple[list[int], Estimate] | None:
    """Another order of the outputs under which a network is right on over ten points more, if its answers show one.

    The order is the best assignment of outputs to classes (Kuhn 1955, by scipy) on every other image, and is judged on the rest.

    Args:
        predicted, wanted: int (n,), outputs, in the order of the images.

    Returns:
        (for each class its output, the paired difference in accuracy on the images that did not choose it); None where the lower end
        of its 95 % interval is not above 0.1.
    """
    from scipy.optimize import linear_sum_assignment

    count = int(max(predicted.max(initial=0), wanted.max(initial=0))) + 1
    met = np.zeros((count, count))
    np.add.at(met, (wanted[::2], predicted[::2]), 1)
    chosen = linear_sum_assignment(met, maximize=True)[1]
    judged, truth = predicted[1::2], wanted[1::2]
    gain = paired_difference((judged == chosen[truth]).astype(float), (judged == truth).astype(float))
    return (chosen.tolist(), gain) if gain.low > 0.1 else None


def _candidates(images: ImageSetCard, backbone: BackboneCard) -> list[set[int]]:
    """For each class of the set, the outputs whose names match in the strictest way that matches any."""
    keys = backbone.classes or backbone.class_names or ()
    names = backbone.class_names or keys
    tables: tuple[dict[str, set[int]], ...] = (defaultdict(set), defaultdict(set), defaultdict(set))
    for index, (key, name) in enumerate(zip(keys, names, strict=True)):
        for table, forms in zip(tables, _forms(key, name), strict=True):
            for form in forms:
                table[form].add(index)
    found = []
    for key, name in zip(images.classes, images.class_names, strict=True):
        matches = (
            set().union(*(table.get(form, set()) for form in forms))
            for table, forms in zip(tables, _forms(key, name), strict=True)
        )
        found.append(next((match for match in matches if match), set()))
    return found


def _forms(key: str, name: str) -> tuple[Iterable[str], Iterable[str], Iterable[str]]:
    """The ways to write a class, the strictest first: the key, whole names, comma-separated parts of names."""
    whole = {_plain(key), _plain(name)} - {""}
    parts = {_plain(part) for text in (key, name) for part in text.split(",")} - {""}
    return (key,), whole, parts


def _plain(text: str) -> str:
    """Letters and digits alone; a letter with its accent is one, whichever way a file system writes it."""
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFC", text)).strip().casefold()


def _by_name(images: ImageSetCard, backbone: BackboneCard, candidates: list[set[int]]) -> Alignment:
    count = len(candidates)
    single = [index for index, match in enumerate(candidates) if len(match) == 1]
    if count == backbone.outputs and all(candidates[index] == {index} for index in single):
        others = count - len(single)
        if others and len(single) >= _SAME_ORDER * count:
            how = f"{len(single)} of {count} classes match the model's by name at the same position, and the other {others} were"
            return Alignment(tuple(range(count)), f"{how} taken by position")
    known = backbone.class_names or backbone.classes or ()
    unmatched = [key for key, match in zip(images.classes, candidates, strict=True) if not match]
    if unmatched:
        raise _refusal(
            images,
            f"{len(unmatched)} of the {count} classes of `{images.spec}` are not among those of `{backbone.spec}`: "
            f"{_some(unmatched)}. {near(unmatched[0], [*known, *(backbone.classes or ())])}".rstrip(),
        )
    sources: dict[int, list[str]] = defaultdict(list)
    for key, match in zip(images.classes, candidates, strict=True):
        if len(match) > 1:
            several = " and ".join(f"`{known[index]}` (output {index})" for index in sorted(match))
            raise _refusal(images, f"Class `{key}` of `{images.spec}` could be {several} of `{backbone.spec}`.")
        sources[min(match)].append(key)
    for index, keys in sources.items():
        if len(keys) > 1:
            raise _refusal(
                images,
                f"Classes {_some(keys)} of `{images.spec}` all match `{known[index]}` (output {index}) of `{backbone.spec}`.",
            )
    indices = tuple(min(match) for match in candidates)
    part = "all" if count == backbone.outputs else f"{count} of {backbone.outputs}"
    return Alignment(indices, f"the classes were matched with {part} outputs of the model by name")


def _refusal(images: ImageSetCard, why: str) -> VitalsError:
    if images.spec.startswith("folder:"):
        return VitalsError(
            f"{why} Map the folders with `?classes=FILE` on the folder, lines of `folder,class of the model`."
        )
    return VitalsError(
        f"{why} Write the labels as the model's classes, or as output indices from 0 (a csv: path,label)."
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
