"""What a notebook uses: the functions behind the command line, for networks and pictures that live in Python.

import visionvitals as vv

run = vv.audit([net, "timm:resnet50.tv_in1k"], data="folder:val", studies=["clean", "occlusion"], out="runs/a")
run.table(); run.compare("net", "resnet50.tv_in1k"); run.chart("occlusion"); run.report("a.html")
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from visionvitals.core import Interpolation, Preprocess, Preset
from visionvitals.errors import VitalsError, near, require

if TYPE_CHECKING:
    import altair
    import pyarrow
    import torch

    from visionvitals import results
    from visionvitals.results.compare import Difference
    from visionvitals.results.gate import Verdict


@dataclass(frozen=True)
class Run:
    """A run folder, read when something is asked of it. In a notebook it shows its vital signs.

    Attributes:
        folder: as given to `out`.
    """

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))

    @cached_property
    def results(self) -> "results.Run":
        """Every point of the run, see `results.run`."""
        from visionvitals import results

        return results.load(self.folder)

    def table(
        self, *, study: str | None = None, metric: str | None = None, by: str | None = None, per_image: bool = False
    ) -> "pyarrow.Table":
        """Every number with its interval and n, one row per condition and metric, as `vitals table` gives them.

        Args:
            study, metric: only this one.
            by: a row for each group of pictures of this column: `class`, or a further one of a csv image set.
            per_image: a row per backbone and image, a column per metric at each condition.

        Raises:
            VitalsError: the run has no such study, metric or column.
        """
        import pyarrow as pa

        from visionvitals.results import by_image, table

        if per_image:
            return by_image.table(self.results, study=study, metric=metric)
        rows = table.rows(self.results, study=study, metric=metric, by=by)
        return pa.table(table.columns(rows))

    def frame(self, *, study: str | None = None, metric: str | None = None, by: str | None = None) -> Any:
        """`table` as a pandas DataFrame; needs pandas."""
        return self.table(study=study, metric=metric, by=by).to_pandas()

    def signs(self) -> list[dict[str, Any]]:
        """The vital signs: one dict per backbone and image set, with an `Estimate` (value, low, high, n) under the title of each."""
        from visionvitals.results import signs

        return signs.vital_signs(self.results)

    def compare(self, a: str, b: str, *, metric: str | None = None) -> "list[Difference]":
        """b minus a on the same images: every vital sign, then every condition; each has a `verdict`.

        Raises:
            VitalsError: one is not in the run, or the run has no such metric.
        """
        from visionvitals.results import compare

        pair = compare.pair(self.results, a, b)
        known = {m for p, _ in pair.matched[0] for m in p.metrics}
        require(metric in (None, *known), "`metric` must be in the run", metric, near(str(metric), known))
        return [*([] if metric else pair.signs()), *pair.differences(metric)]

    def chart(self, study: str) -> "altair.Chart | altair.ConcatChart":
        """The first chart of a study, as the report draws it.

        Raises:
            VitalsError: the run has no chart of this study.
        """
        from visionvitals.report import figures
        from visionvitals.report.charts import plots

        known = self.results.studies
        found = plots(self.results, study) if study in known else []
        require(bool(found), "A chart must be of a study of the run that has one", study, near(study, known))
        return figures.chart(self.results, study, found[0])

    def report(self, out: str | Path | None = None) -> Path:
        """Write the report, by default into the run folder, and return its path."""
        from visionvitals.report.build import build

        return build(self.results, out=None if out is None else Path(out))

    def _repr_html_(self) -> str:
        from html import escape

        from visionvitals.results import signs, words

        columns = signs.columns(self.results)
        heads = ["backbone", "data", *(c.sign.title + (", %" if c.share else "") for c in columns)]
        rows = [
            [
                *pair,
                *(
                    words.measured(c.readings[pair].estimate, share=c.share) if pair in c.readings else ""
                    for c in columns
                ),
            ]
            for pair in signs.pairs(self.results)
        ]
        head = "".join(f"<th>{escape(text)}</th>" for text in heads)
        body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def backbone(
    module: "torch.nn.Module",
    *,
    name: str,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
    size: int | tuple[int, int] = 224,
    resize: int | None = None,
    interpolation: Interpolation = "bicubic",
) -> str:
    """A module of this process as a spelling, for `audit`. It is copied when it is measured.

    Args:
        module: normalised images float (b, 3, h, w) -> logits (b, k).
        name: of the network in tables.
        classes: keys of its outputs in their order (wnids, folder names), where it has them.
        mean, std: of the normalisation, on the [0, 1] scale.
        size: input in pixels, or (height, width).
        resize: pixels of the shorter side before the crop; by default 8/7 of the longer side of `size`.
        interpolation: of the resize.

    Returns:
        `memory:NAME`.
    """
    import torch

    from visionvitals.backbones import memory

    require(isinstance(module, torch.nn.Module), "A backbone must be a torch.nn.Module", type(module).__name__)
    sides = (size, size) if isinstance(size, int) else size
    two = isinstance(sides, Sequence) and len(sides) == 2 and all(isinstance(side, int) for side in sides)
    require(two, "`size` must be pixels, or (height, width)", size)
    height, width = sides
    known = get_args(Interpolation)
    require(interpolation in known, "`interpolation` must be known", interpolation, near(str(interpolation), known))
    channels: list[tuple[float, float, float]] = []
    for key, given in (("mean", mean), ("std", std)):
        three = isinstance(given, Sequence) and len(given) == 3 and all(isinstance(x, int | float) for x in given)
        require(three, f"`{key}` must have three numbers", given)
        channels.append((float(given[0]), float(given[1]), float(given[2])))
    preprocess = Preprocess(
        size=(height, width),
        resize=round(max(height, width) * 8 / 7) if resize is None else resize,
        interpolation=interpolation,
        mean=channels[0],
        std=channels[1],
    )
    return memory.hold(_name(name), module, preprocess=preprocess, classes=classes)


def images(
    pictures: Any, labels: Sequence[Any] | None = None, *, name: str, classes: Sequence[str] | None = None
) -> str:
    """Pictures of this process as a spelling, for `audit`.

    Args:
        pictures: Pillow images, or arrays (h, w, 3) or (3, h, w), uint8 or float in [0, 1]; or, without `labels`, pairs of one and its
            label, such as a torch data set.
        labels: whole numbers (of Python, numpy or torch) or names of classes.
        name: of the set in tables.
        classes: names in the order of whole-number labels; without `labels`, those of the data set where it has `classes`.

    Returns:
        `memory:NAME`.

    Raises:
        VitalsError: a picture of another form, another number of labels, or a label that is no whole number or name, or no class.
    """
    from visionvitals.datasets import memory

    if labels is None:
        classes = classes if classes is not None else getattr(pictures, "classes", None)
        pairs = [pictures[k] for k in range(len(pictures))]
        pictures, labels = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return memory.hold(_name(name), pictures, labels, classes)


def audit(
    backbones: "str | torch.nn.Module | Sequence[str | torch.nn.Module]",
    *,
    data: str | Sequence[str] = (),
    out: str | Path,
    data_for: Mapping[str, str | Sequence[str]] = MappingProxyType({}),
    studies: str | Sequence[str] = "all",
    preset: Preset = "default",
    limit: int | None = None,
    seed: int = 0,
    decoder: Literal["pillow", "fast"] = "pillow",
    device: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    reuse: Sequence[str | Path] = (),
    rules: str | Path | None = None,
    until_decided: bool = False,
    baseline: "Run | str | Path | None" = None,
) -> Run:
    """Measure backbones on image sets, as `vitals audit` does; what the run folder holds already is not measured again.

    Args:
        backbones: spellings, or modules, which are called by the name of their class; see `backbone` to say more of them.
        data: image sets, spelled.
        out: the run folder.
        data_for: study -> image sets of its own, instead of `data`.
        studies: names or paths of files, with commas between or as a list; "all" for every study.
        preset, limit, seed, decoder, device, batch_size, workers, reuse: as the options of `vitals audit`.
        rules, until_decided, baseline: as its options; only as many images are measured as the rules need. `gate` with the same rules
            then gives the verdict of the last look.

    Returns:
        The run.

    Raises:
        VitalsError: anything that cannot be planned, or cells that failed; what was measured is kept.
    """
    from visionvitals import deciding
    from visionvitals.plan import request
    from visionvitals.report.build import build

    given = [backbones] if not isinstance(backbones, Sequence) or isinstance(backbones, str) else list(backbones)
    spelled = [each if isinstance(each, str) else backbone(each, name=type(each).__name__) for each in given]
    names = studies if isinstance(studies, str) else ",".join(_texts("studies", studies))
    require(limit is None or isinstance(limit, int), "`limit` must be a whole number, or None", limit)
    own = [(name, text) for name, sets in data_for.items() for text in ([sets] if isinstance(sets, str) else sets)]
    asked = request.plan(
        spelled,
        (data,) if isinstance(data, str) else _texts("data", data),
        request.sections(names),
        data_for=own,
        preset=preset,
        seed=seed,
        limit=limit,
        decoder=decoder,
    )
    against = _folder(baseline)
    growing = (
        f", rules={str(rules)!r}, until_decided=True, baseline={against and str(against)!r}" if until_decided else ""
    )
    said = f"visionvitals.audit({spelled!r}, data={data!r}, studies={names!r}, preset={preset!r}, out={str(out)!r}{growing})"
    where = Path(out)
    files = {"rules": None if rules is None else Path(rules), "baseline": against}
    asked = deciding.asked(asked, until_decided=until_decided, **files)
    outcome, _ = deciding.measured(
        asked, out=where, command=(said,), device=device, batch_size=batch_size, workers=workers, reuse=reuse
    )
    run = Run(where)
    if outcome.measured:
        build(run.results)
    if outcome.failed:
        raise VitalsError(f"{len(outcome.failed)} cells failed: {outcome.failed[0]} The rest is kept in {where}.")
    return run


def gate(run: "Run | str | Path", rules: str | Path, *, baseline: "Run | str | Path | None" = None) -> "Verdict":
    """Judge a run by a file of rules, see docs/decide.md.

    Returns:
        The verdict: `status`, `exit_code`, and an outcome per rule, backbone and image set.

    Raises:
        VitalsError: bad rules, or a baseline that was measured on something else.
    """
    from visionvitals.results import gate as gates

    require(run is not None, "A gate must be given a run", run)
    here = _folder(run)
    assert here is not None
    return gates.judged(here, Path(rules), baseline=_folder(baseline))[0]


def _folder(run: "Run | str | Path | None") -> Path | None:
    return None if run is None else run.folder if isinstance(run, Run) else Path(run)


def _texts(what: str, given: Any) -> tuple[str, ...]:
    good = isinstance(given, Sequence) and all(isinstance(each, str) for each in given)
    do = "A module is given as `visionvitals.backbone(...)`, pictures as `visionvitals.images(...)`."
    require(good, f"`{what}` must be a spelling, or several", given, do)
    return tuple(given)


def _name(name: str) -> str:
    good = isinstance(name, str) and bool(name) and not set(name) & set("?@#&=%") and name == name.strip()
    require(good, "A name must be a word without ? @ # & = %", name)
    return name
