"""The numbers of a run for people: the vital signs, a block for each image set; and the rows of `results.table`, a block for each study, with
what is equal in all of its rows said once above it. As Markdown and as LaTeX; the terminal and a notebook show the same blocks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from visionvitals import short_names
from visionvitals.errors import escaped
from visionvitals.results import markdown, remarks, signs, words
from visionvitals.results.run import Run
from visionvitals.stats import Estimate

OWN = ("backbone", "value")
"""Columns that are shown in every row, also where they are equal in all."""
APART = ("study", "low", "high", "std_over_items", "std_over_runs")
"""Columns that are not shown: in the head, beside the value, or in the files of --csv and --parquet only."""
VALUE = "value (95 %)"
MEASURED = ("n", "runs", "value")
"""Columns of what was measured, which stand last."""
_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "−": "$-$", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", **{c: f"\\{c}" for c in "&%$#_{}"},
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """The numbers of one study, or the vital signs on one image set.

    Attributes:
        study: its name; `vital signs`.
        fixed: (column, text) of what is equal in all rows.
        heads: of the columns.
        rows: texts under them; numbers that are no text yet stay as they are.
        names: so many columns, the first ones, tell the rows apart.
        remarks: what stands below them, a sentence each.
    """

    study: str
    fixed: tuple[tuple[str, str], ...]
    heads: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    names: int
    remarks: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """What stands above the rows, `occlusion: data val, fill black`."""
        return f"{self.study}: " + ", ".join(f"{name} {text}" for name, text in self.fixed)

    @property
    def texts(self) -> list[list[str]]:
        """The rows as texts."""
        return [[written(value) for value in row] for row in self.rows]


def blocks(table: Sequence[Mapping[str, Any]]) -> list[Block]:
    """The rows of `results.table.rows`, study by study. Columns without a value are left out, spellings are shortened as far as they stay apart."""
    short = {
        name: short_names.labels(dict.fromkeys(row[name] for row in table)) for name in ("backbone", "data") if table
    }
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in table:
        groups.setdefault(row["study"], []).append({**row, **{name: short[name][row[name]] for name in short}})
    found = []
    for study, several in groups.items():
        used = [c for c in several[0] if c not in APART and any(written(r[c]) for r in several)]
        fixed = [c for c in used if c not in OWN and all(r[c] == several[0][c] for r in several)]
        columns = [c for c in used if c not in fixed]
        found.append(
            Block(
                study=study,
                fixed=tuple((c, written(several[0][c])) for c in fixed),
                heads=tuple(VALUE if c == "value" else c for c in columns),
                rows=tuple(tuple(_with_interval(r) if c == "value" else r[c] for c in columns) for r in several),
                names=sum(c not in MEASURED for c in columns),
            )
        )
    return found


def of_signs(run: Run) -> list[Block]:
    """The vital signs: for each image set a row per sign and a column per backbone."""
    found, columns = [], signs.columns(run)
    told = tuple(f"{c.sign.title} means little alone: {why}." for c in columns if (why := remarks.silent(run, c)))
    short = short_names.labels(run.backbones)
    for images in run.images:
        there = [b for b in run.backbones if any((b, images) in c.readings for c in columns)]
        rows = [
            (
                c.sign.title + (", %" if c.share else ""),
                *(_sign(c.readings[b, images].estimate, c.share) if (b, images) in c.readings else "" for b in there),
            )
            for c in columns
            if any((b, images) in c.readings for b in there)
        ]
        if rows:
            heads = ("sign", *(short[b] for b in there))
            found.append(Block("vital signs", (("data", images),), heads, tuple(rows), names=1))
    return [*found[:-1], replace(found[-1], remarks=told)] if found else []


def as_markdown(found: Sequence[Block]) -> str:
    """A heading and a table for each study."""
    lines: list[str] = []
    for block in found:
        lines += [f"## {markdown.text(block.study)}", ""]
        said = ", ".join(f"{markdown.text(name)} {markdown.text(text)}" for name, text in block.fixed)
        lines += [f"{said}. Intervals are of 95 %.", ""] if said else ["Intervals are of 95 %.", ""]
        lines += [*markdown.table(block.heads, block.texts), ""]
        lines += [line for said in block.remarks for line in (markdown.text(said), "")]
    return "\n".join(lines)


def as_latex(found: Sequence[Block]) -> str:
    """A `table` of booktabs for each study; what is equal in all rows is its caption."""
    lines = [r"% needs \usepackage{booktabs} and \usepackage[T1]{fontenc}"]
    for block in found:
        right = [all(isinstance(row[k], int | float) for row in block.rows) for k in range(len(block.heads))]
        lines += ["", r"\begin{table}", r"\centering", rf"\caption{{{latex(block.said)}. Intervals are of 95\,\%.}}"]
        lines += [rf"\begin{{tabular}}{{{''.join('r' if each else 'l' for each in right)}}}", r"\toprule"]
        lines += [_line(block.heads), r"\midrule", *map(_line, block.texts)]
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par\smallskip\footnotesize {latex(said)}" for said in block.remarks]
        lines += [r"\end{table}"]
    return "\n".join(lines) + "\n"


def latex(text: str) -> str:
    r"""A text in one line that means nothing to LaTeX.

    Example:
        >>> print(latex("a_b & 50 % (1–2)"))
        a\_b \& 50 \% (1--2)
    """
    return "".join(_LATEX.get(c, c) for c in " ".join(escaped(text).split()))


def written(value: Any) -> str:
    """A value for people: four digits of a float, nothing for None and NaN."""
    if value is None or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _sign(e: Estimate, share: bool) -> str:
    early = e.early is not None and e.early.by
    return words.measured(e, share=share) + (f", n = {words.n(e)}" if early else "")


def _line(texts: Sequence[str]) -> str:
    return " & ".join(map(latex, texts)) + r" \\"


def _with_interval(row: Mapping[str, Any]) -> str:
    if row["low"] is None or row["low"] != row["low"]:
        return written(row["value"])
    between = " to " if row["low"] < 0 else "–"
    return f"{row['value']:.4f} ({row['low']:.3f}{between}{row['high']:.3f})"
