"""The other backbones, and the folders, that conditions name."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from visionvitals.core import Backbone, BackboneCard
from visionvitals.errors import VitalsError
from visionvitals.plan.identity import changed, folders, spelled


class Companions:
    """The cards of the backbones, and the digests of the folders; each is looked at once."""

    def __init__(self, load: Callable[[str], Backbone]) -> None:
        self.load = load
        self.cards: dict[str, BackboneCard] = {}
        self.folders: dict[str, str] = {}
        self.missing: dict[str, str] = {}

    def of(self, condition: Any) -> tuple[tuple[tuple[str, str], ...], str | None]:
        """((spelling, digest) of each, see `core.Cell.companions`; why one of them is not available, or None)."""
        found = []
        for spec in spelled(condition).values():
            if spec not in self.cards and spec not in self.missing:
                try:
                    self.cards[spec] = self.load(spec).card
                except VitalsError as error:
                    self.missing[spec] = " ".join(str(error).split())
            if spec in self.missing:
                return (), f"it needs another backbone: {self.missing[spec]}"
            card = self.cards[spec]
            seen = json.dumps(changed(card.preprocess), sort_keys=True)
            found.append((spec, hashlib.sha256(f"{card.digest}{seen}".encode()).hexdigest()))
        for path in folders(condition).values():
            if path not in self.folders:
                from visionvitals.datasets.base import digest

                self.folders[path] = digest.folder_digest(Path(path).expanduser())
            found.append((path, self.folders[path]))
        return tuple(found), None
