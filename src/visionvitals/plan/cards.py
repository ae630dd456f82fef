"""Cards of networks that were loaded before, so that a plan needs no network of which nothing has changed.

A card is remembered in the cache folder, one file a spelling and device, with all that it depends on: the files that the spelling names and
those that its family says it reads beside (`files`), each by path, size, times and inode; every file of this package; the versions of the
libraries. What differs in one of these is loaded. A family that has no `files`, or cannot say which they are, such as a function of the
user's, is loaded each time. When a network is measured it is loaded anyway, and must be what its card says.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionvitals import registry, source
from visionvitals.answers import Answers
from visionvitals.core import BackboneCard, Preprocess
from visionvitals.datasets.base.cache_folder import cache_folder
from visionvitals.datasets.base.digest import SETTLED
from visionvitals.files import read_regular, write_safely
from visionvitals.plan.request import parse


@dataclasses.dataclass(frozen=True)
class Remembered:
    """A card, and how fast its network is: batch size -> images per second of a forward pass."""

    card: BackboneCard
    rates: Mapping[int, float]

    def rate(self, batch_size: int) -> float | None:
        """That of the smallest batch which is not smaller; None where none was measured."""
        return next((self.rates[size] for size in sorted(self.rates) if size >= batch_size), None)


def depends(text: str, device: str) -> dict[str, Any] | None:
    """All that the card of a spelling depends on, JSON values; to be taken before it is loaded. None where that cannot be known."""
    spec = parse("backbones", text)
    try:
        module = registry.load("backbones", spec.family)
        ours = Path(str(module.__file__)).is_relative_to(source.PACKAGE)
        if not (ours and hasattr(module, "files")) or (beside := module.files(spec)) is None:
            return None
        named = [spec.name, spec.checkpoint or "", f"{spec.name}@{spec.checkpoint}", *spec.options.values()]
        paths = dict.fromkeys([*map(os.path.expanduser, named), *map(str, beside)])
        lines = [_line(path) for path in paths if path and os.path.exists(path)]
    except Exception:  # what is wrong with a spelling is said where it is loaded
        return None
    settled = all(max(line[2:4]) < (time.time() - SETTLED) * 1e9 for line in lines)
    return {"spelling": text, "device": device, "files": lines, **source.computing()} if settled else None


def recall(key: Mapping[str, Any] | None) -> Remembered | None:
    """What is remembered under a key; None where nothing is, or it is damaged."""
    if key is None:
        return None
    try:
        kept = json.loads(read_regular(_note(key)))
        if kept["key"] != key or kept["sum"] != _sum(kept["card"], kept["rates"]):
            return None
        return Remembered(_card(kept["card"]), {int(size): float(rate) for size, rate in kept["rates"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def remember(key: Mapping[str, Any] | None, found: Remembered) -> None:
    """Keep a card under what was true before its network was loaded, if it still is. A cache that cannot be written costs a load only."""
    if key is None or depends(key["spelling"], key["device"]) != key:
        return
    card, rates = dataclasses.asdict(found.card), {str(size): rate for size, rate in found.rates.items()}
    content = json.dumps({"key": key, "card": card, "rates": rates, "sum": _sum(card, rates)})
    again = _card(json.loads(content)["card"])
    if (again, again.answers) == (found.card, found.card.answers):
        with contextlib.suppress(OSError):
            write_safely(_note(key), content)


def forget(text: str, device: str) -> None:
    """Have a network loaded for its card when it is planned next."""
    with contextlib.suppress(OSError):
        _note({"spelling": text, "device": device}).unlink(missing_ok=True)


def _note(key: Mapping[str, Any]) -> Path:
    named = hashlib.sha256(f"{key['spelling']}\0{key['device']}".encode("utf-8", "surrogatepass"))
    return cache_folder() / "cards" / f"{named.hexdigest()[:32]}.json"


def _line(path: str) -> list[Any]:
    """A file in numbers; the time of its last change of any kind is one that no program can set back."""
    status = os.stat(path)
    return [os.path.abspath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino]


def _sum(card: Mapping[str, Any], rates: Mapping[str, float]) -> str:
    return hashlib.sha256(json.dumps([card, rates], sort_keys=True).encode()).hexdigest()


def _card(value: Mapping[str, Any]) -> BackboneCard:
    """From its JSON form."""
    fields = {name: _tuples(inner) for name, inner in value.items()}
    answers = None if value["answers"] is None else Answers.read(value["answers"])
    return BackboneCard(**{**fields, "preprocess": Preprocess(**fields["preprocess"]), "answers": answers})


def _tuples(value: Any) -> Any:
    """Lists as the tuples that they were."""
    if isinstance(value, dict):
        return {name: _tuples(inner) for name, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
