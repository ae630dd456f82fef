"""The rows of a cell in columns: 20 bytes a row and each item once, where a list of `Row` takes some 250. All of ImageNet-C has 19 million."""

from array import array
from collections.abc import Iterable, Iterator

from visionvitals.core import Row

Place = tuple[int | float | str, ...]
"""Where on a study's axes, see `core.Row.at`."""


class Rows:
    """Rows in the order in which they came; iterating makes them anew.

    Attributes:
        items, metrics, places: what occurs, in order of first appearance.
        item, metric, place: for each row its position therein.
        value: for each row.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        items: dict[str, int] = {}
        metrics: dict[str, int] = {}
        places: dict[Place, int] = {}
        self.item, self.metric, self.place, self.value = array("i"), array("i"), array("i"), array("d")
        for item, metric, value, at in rows:
            self.item.append(items.setdefault(item, len(items)))
            self.metric.append(metrics.setdefault(metric, len(metrics)))
            self.place.append(places.setdefault(at, len(places)))
            self.value.append(value)
        self.items, self.metrics, self.places = list(items), list(metrics), list(places)

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Row]:
        for item, metric, value, place in zip(self.item, self.metric, self.value, self.place, strict=True):
            yield Row(self.items[item], self.metrics[metric], value, self.places[place])
