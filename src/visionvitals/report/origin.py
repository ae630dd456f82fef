"""Where the numbers of a report come from: all that is needed to repeat them."""

import shlex
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from visionvitals.numerics import said
from visionvitals.results import words
from visionvitals.results.run import Run
from visionvitals.run import precision
from visionvitals.run.cell import Stored


def command(run: Run) -> str:
    """The commands that repeat the run, a line each, as they are typed; empty where they are not known. One word is a call from Python. What
    was planned is measured by `vitals run`."""
    lines = []
    for command in run.plan.get("commands", ()):
        lines.append(command[0] if len(command) == 1 else shlex.join(command))
        lines += [shlex.join(("vitals", "run", str(run.folder)))] if command[1:2] == ["plan"] else []
    return "\n".join(lines)


def from_python(run: Run) -> bool:
    """Whether a call from Python began it: another process may not have its networks and pictures."""
    return any(len(command) == 1 for command in run.plan.get("commands", ()))


def date(run: Run) -> str:
    """When the newest cell was measured, e.g. `24 November 2025`; empty where nothing was."""
    times = [p["started"] for p in _provenance(run)] or [t for t in (run.plan.get("started"),) if t]
    if not times:
        return ""
    newest = datetime.fromisoformat(max(times))
    return f"{newest.day} {newest:%B %Y}"


def settings(run: Run) -> list[tuple[str, str]]:
    """(name, value) of what the cells have in common; several values where they differ."""
    cells = _cells(run)
    found = _provenance(run)
    batches = _distinct(p["batch_size"] for p in found)
    threads = _distinct(p["threads"] for p in found)
    commits = _distinct(
        f"{p['commit'][:12]}{' with uncommitted changes' if p['dirty'] else ''}" for p in found if p["commit"]
    )
    pairs = [
        ("seed", _distinct(c.cell["seed"] for c in cells)),
        ("preset", str(run.plan.get("plan", {}).get("preset", ""))),
        ("limit", _distinct(f"{c.cell['limit']:,} images, drawn by the seed" for c in cells if c.cell["limit"])),
        ("decoder", _distinct(c.cell["decoder"] for c in cells)),
        ("study versions", _distinct(f"{c.cell['study']} {c.cell['version']}" for c in cells)),
        ("device", _distinct(p["device"] for p in found)),
        ("weights", _distinct(p["dtype"] for p in found)),
        ("numerics", _distinct(said(c.cell.get("numerics")) for c in cells)),
        *(("measured before the run", line) for line in precision.lines(run.folder)),
        ("batch", f"{batches} images at a time, torch threads: {threads}" if batches else ""),
        ("platform", _distinct(p["platform"] for p in found)),
        ("commit", commits),
        ("time", _time(sum(c.facts.get("seconds", 0.0) for c in cells), len(cells)) if cells else ""),
    ]
    return [(name, value) for name, value in pairs if value]


def versions(run: Run) -> list[tuple[str, str]]:
    """(package, version); several where the cells differ."""
    found = [p["versions"] for p in _provenance(run)]
    return [(n, _distinct(v[n] for v in found if n in v)) for n in dict.fromkeys(n for v in found for n in v)]


def preprocessing(card: Mapping[str, Any]) -> str:
    """How a backbone's card says that a picture becomes its input, as a sentence."""
    p = card["preprocess"]
    height, width = p["size"]
    size = f"{height} × {width}"
    if p["resize"] is None:
        cut = f"stretched to {size} px"
    elif p.get("stretch"):
        cut = f"stretched to {p['resize']} px, centre {size} px cropped"
    else:
        cut = f"shorter side resized to {p['resize']} px, centre {size} px cropped"
    mean, std = (", ".join(f"{v:.4g}" for v in p[key]) for key in ("mean", "std"))
    return f"{cut}; {p['interpolation']}, antialiased; mean {mean}; std {std}"


def facts(card: Mapping[str, Any]) -> str:
    """Size and shape of a backbone in a few words."""
    grid = f", {words.short(tuple(card['patch_grid']))} patches" if card["patch_grid"] else ""
    outputs = f"{card['outputs']:,} outputs" if card["outputs"] else "no classifier"
    return f"{millions(card['parameters'])} parameters, {outputs}{grid}"


def _cells(run: Run) -> list[Stored]:
    """Every cell once, not once for each of its places."""
    return list({cell.id: cell for p in run.points for cell in p.cells}.values())


def _provenance(run: Run) -> list[Mapping[str, Any]]:
    every = [facts for cell in _cells(run) for facts in (cell.facts, *cell.facts["parts"])]
    return [facts["provenance"] for facts in every if facts.get("provenance")]


def _distinct(values: Iterable[Any]) -> str:
    return ", ".join(sorted({str(v) for v in values}))


def millions(n: int) -> str:
    """`5.72 M`, or the number itself below a million."""
    return f"{n / 1e6:.3g} M" if n >= 1e6 else f"{n:,}"


def _time(seconds: float, cells: int) -> str:
    spent = (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
    return f"{spent} of measuring in {words.count(cells, 'cell')}"
