"""A run as Python reads it: the answers of the commands `table`, `compare`, `report`, `card` and `note`, and a picture of itself in a notebook."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionvitals.errors import VitalsError, near, require
from visionvitals.remote import AnyPath, RemotePath, located

if TYPE_CHECKING:
    import altair
    import pyarrow

    from visionvitals import results
    from visionvitals.results.compare import Difference
    from visionvitals.results.numbers import Block

DRAWN = 3
"""So many studies are drawn in a notebook at once; `chart` draws any."""


@dataclass(frozen=True)
class Run:
    """A run folder, read when something is asked of it. In a notebook it shows its vital signs and its first charts; `print` shows the signs.

    Nothing of it is executed, and the modules that were measured are not needed. What is measured later is in a new `Run` of the folder.

    Attributes:
        folder: as given to `out`, a path or a URL.

    Raises:
        VitalsError: `folder` is no path.

    Example:
        >>> vv.Run(run.folder) == run
        True
    """

    folder: AnyPath

    def __post_init__(self) -> None:
        known = isinstance(self.folder, str | PathLike | RemotePath)
        require(known, "A run must be given by its folder, a path", self.folder)
        object.__setattr__(self, "folder", located(self.folder))

    @cached_property
    def results(self) -> "results.Run":
        """Every point of the run, see `results.run`.

        Raises:
            VitalsError: the folder is no run folder.

        Example:
            >>> sorted({point.study for point in run.results.points})
            ['clean', 'occlusion']
        """
        from visionvitals import results

        return results.load(self.folder)

    def table(
        self, *, study: str | None = None, metric: str | None = None, by: str | None = None, per_image: bool = False
    ) -> "pyarrow.Table":
        """Every number with its interval and n, one row per condition and metric, as `vitals table` gives them.

        Values are on the metric's own scale: 0.6 is 60 %. `low` and `high` are the ends of the 95 % interval, NaN where there is none.

        Args:
            study, metric: only this one.
            by: a row for each group of pictures of this column: `class`, or a further one of a csv image set.
            per_image: a row per backbone and image, a column per metric at each condition.

        Raises:
            VitalsError: the run has no such study, metric or column, or groups of a table by image.

        Example:
            >>> run.table(study="clean", metric="top1").select(["backbone", "n", "runs"]).to_pylist()
            [{'backbone': 'tiny:cnn', 'n': 24, 'runs': 1}, {'backbone': 'tiny:vit', 'n': 24, 'runs': 1}]
            >>> run.table(study="clean", per_image=True).num_rows
            48
        """
        import pyarrow as pa

        from visionvitals.results import by_image, table

        if per_image:
            by_image.refuse_groups(by)
            return by_image.table(self.results, study=study, metric=metric)
        rows = table.rows(self.results, study=study, metric=metric, by=by)
        return pa.table(table.columns(rows))

    def frame(
        self, *, study: str | None = None, metric: str | None = None, by: str | None = None, per_image: bool = False
    ) -> Any:
        """`table` as a pandas DataFrame.

        Args:
            study, metric, by, per_image: as of `table`.

        Raises:
            VitalsError: as `table`, and where pandas is not installed.

        Example:
            >>> run.frame(metric="top1").groupby("study")["n"].max().to_dict()
            {'clean': 24, 'occlusion': 24}
        """
        found = self.table(study=study, metric=metric, by=by, per_image=per_image)
        try:
            return found.to_pandas()
        except ImportError as error:
            raise VitalsError(f"A frame needs pandas. Got: {error}. Install pandas, or take `table()`.") from error

    def signs(self) -> list[dict[str, Any]]:
        """The vital signs: one dict per backbone and image set, with an `Estimate` (value, low, high, n) under the title of each.

        Shares are in [0, 1]. A sign that was not measured is NaN with n = 0.

        Example:
            >>> first = run.signs()[0]
            >>> first["backbone"], first["data"], first["clean top-1"].n
            ('tiny:vit', 'shapes:test?n=24', 24)
        """
        from visionvitals.results import signs

        return signs.vital_signs(self.results)

    def compare(self, a: str, b: str, *, metric: str | None = None) -> "list[Difference]":
        """b minus a on the same images: every vital sign, then every condition; each has a `verdict`.

        Args:
            a, b: backbones, as the tables call them or as they were spelled.
            metric: only this one, without the signs.

        Raises:
            VitalsError: one is not in the run, nothing of both can be compared, or the run has no such metric.

        Example:
            >>> found = run.compare("tiny:cnn", "tiny:vit", metric="top1")
            >>> found[0].study, found[0].value.n, found[0].a.value + found[0].value.value == found[0].b.value
            ('clean', 24, True)
        """
        from visionvitals.results import asked, comparability, compare

        pair = compare.pair(self.results, a, b)
        comparability.refuse_nothing(pair)
        asked.refuse_unknown(metric, {m for p, _ in pair.matched[0] for m in p.metrics})
        return [*([] if metric else pair.signs()), *pair.differences(metric)]

    def chart(self, study: str) -> "altair.Chart | altair.ConcatChart":
        """The first chart of a study, as the report draws it.

        Raises:
            VitalsError: the run has no chart of this study.

        Example:
            >>> run.chart("occlusion").to_dict()["title"]["text"]
            'Occlusion'
        """
        from visionvitals.report import figures
        from visionvitals.report.charts import plots

        known = self.results.studies
        found = plots(self.results, study) if study in known else []
        require(bool(found), "A chart must be of a study of the run that has one", study, near(study, known))
        return figures.chart(self.results, study, found[0])

    def report(self, out: str | Path | None = None) -> AnyPath:
        """Write the report to `out`, by default `report.html` in the run folder, and return its path.

        Raises:
            VitalsError: the file cannot be written.

        Example:
            >>> run.report(folder / "a.html").stat().st_size > 100_000
            True
        """
        from visionvitals.report.build import build

        return build(self.results, out=None if out is None else Path(out))

    def card(self, backbone: str) -> str:
        """A backbone's section for a model card: Markdown below the hub's `model-index`, as `vitals card` prints it.

        Raises:
            VitalsError: the backbone is not in the run.

        Example:
            >>> print(run.card("tiny:vit").partition("  results")[0])
            ---
            model-index:
            - name: tiny:vit
            <BLANKLINE>
        """
        from visionvitals.report import card

        return card.card(self.results, backbone)

    def note(self, text: str | None = None) -> list[str]:
        """Keep a decision with the run where a text is given, and return all that are kept, a line each with its time.

        Raises:
            VitalsError: a text that is empty or longer than 4,000 characters, damaged notes, or a disk that refuses.

        Example:
            >>> [line.partition(" UTC: ")[2] for line in run.note("Ship the transformer.")]
            ['Ship the transformer.']
        """
        from visionvitals.run import noted

        if text is not None:
            noted.add(self.folder, text)
        return noted.lines(self.folder)

    def __str__(self) -> str:
        """The folder, and the vital signs as tables of Markdown: what `print` shows."""
        from visionvitals.results import numbers

        return f"{self.folder}\n\n{numbers.as_markdown(numbers.of_signs(self.results))}".rstrip()

    def _repr_html_(self) -> str:
        """The vital signs as a table, and the first charts as SVG."""
        from visionvitals.report import figures
        from visionvitals.report.charts import plots
        from visionvitals.results import numbers

        tables = "".join(map(_html, numbers.of_signs(self.results)))
        drawn = [(name, found[0]) for name in self.results.studies if (found := plots(self.results, name))]
        pictures = "".join(figures.svg(self.results, *each) for each in drawn[:DRAWN])
        more = ", ".join(f"<code>chart({escape(repr(name))})</code>" for name, _ in drawn[DRAWN:])
        notes = "".join(f"<p>{escape(line)}</p>" for line in self.note())
        below = f"<p>More: {more}</p>" if more else ""
        return f"{tables}{notes}<div>{pictures}</div>{below}"


def _html(block: "Block") -> str:
    def row(cell: str, texts: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{cell}>{escape(text)}</{cell}>" for text in texts) + "</tr>"

    body = "".join(row("td", texts) for texts in block.texts)
    below = "".join(f"<p>{escape(said)}</p>" for said in block.remarks)
    return (
        f"<p>{escape(block.said)}</p><table><thead>{row('th', block.heads)}</thead><tbody>{body}</tbody></table>{below}"
    )
