"""The commands that read what is there and measure nothing, registered by `cli`. Every heavy import is inside the function that needs it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from visionvitals.errors import require
from visionvitals.options import RunFolder
from visionvitals.remote import located
from visionvitals.run.progress import say
from visionvitals.terminal import print_line, print_table, show_comparison, show_images, show_numbers, show_vital_signs

if TYPE_CHECKING:
    from visionvitals.core import ImageSet
    from visionvitals.report.comparison import Opened
    from visionvitals.results import Run


def status(run_folder: RunFolder, /) -> int:
    """Show how far a run is, and what failed.

    Args:
        run_folder: As given to `--out`.
    """
    from visionvitals.results import words
    from visionvitals.run import noted, precision
    from visionvitals.run import status as progress_of

    found, failures, superseded = progress_of.of(run_folder)
    columns = ["study", "backbone", "data", "done", "missing", "failed", "skipped"]
    print_table(columns, [[p.study, p.backbone, p.images, p.done, p.missing, p.failed, p.skipped] for p in found])
    for record in failures:
        cell = record["cell"]
        print_line(f"failed: {cell['study']} {cell['condition']} on {cell['backbone']['spec']}: {record['error']}")
    if superseded:
        print_line(
            f"{superseded} superseded cells are left out of the numbers; to remove them: vitals clean {run_folder}"
        )
    for line in (*progress_of.stopped(run_folder), *noted.lines(run_folder), *precision.lines(run_folder)):
        print_line(line)
    left, look = sum(p.missing + p.failed for p in found), progress_of.look(run_folder)
    if look is not None:
        print_line(f"A run that ends when its rules are decided, at {look[0]:,} of {look[1]:,} images")
    if left or (look is not None and look[0] < look[1]):
        do = f"{words.count(left, 'cell')} to do" if left else "To go on where they are not"
        print_line(f"{do}: vitals run {run_folder}")
    else:
        print_line(f"Complete. See {run_folder / 'report.html'}")
    return 1 if failures else 0


def clean(run_folder: RunFolder, /) -> int:
    """Remove the superseded cells of a run: their weights, images or study have changed since.

    Args:
        run_folder: As given to `--out`.
    """
    from visionvitals.run import status as progress_of

    gone, freed = progress_of.clean(run_folder)
    print_line(f"{gone} superseded cells removed, {freed / 1e6:,.1f} MB freed")
    return 0


def report(*run_folders: RunFolder, out: Path | None = None, figures: Path | None = None) -> int:
    """Make one page from a run folder, or from several together.

    Args:
        run_folders: One or several, as given to `--out`.
        out: Where to write it; report.html in the run folder by default. Several need it.
        figures: Write every chart into this folder too, as SVG and PNG.
    """
    from visionvitals.report import build
    from visionvitals.results import load

    do = "A page of several runs needs a place of its own: --out FILE."
    require(out is not None or len(run_folders) < 2, "`--out` must name the page", None, do)
    found = load(*run_folders)
    print_line(build.build(found, out=out))
    for path in build.figures(found, figures) if figures is not None else ():
        print_line(path)
    return 0


def table(
    *run_folders: RunFolder,
    csv: Path | None = None,
    parquet: Path | None = None,
    latex: Path | None = None,
    markdown: Path | None = None,
    signs: Annotated[bool, Parameter(negative=())] = False,
    study: str | None = None,
    metric: str | None = None,
    per_image: Annotated[bool, Parameter(negative=())] = False,
    by: str | None = None,
) -> int:
    """Print every number with its interval and n, or write them to a file.

    Args:
        run_folders: One or several, as given to `--out`.
        csv: Write the rows to this file.
        parquet: Write the rows to this file.
        latex: Write a booktabs table for each study to this file.
        markdown: Write the tables to this file.
        signs: The vital signs, with which the report begins, in place of every number.
        study: Only this study.
        metric: Only this metric; or one that is computed from the answers: overconfidence, ece, ece_mass, ece_null, calibration_error, aurc,
            risk_at_80, auroc, rejection_ratio, unchanged, prediction_entropy, class_shift, fill_agreement.
        per_image: A row for each backbone and image, a column for each metric at each condition; to csv or parquet.
        by: A row for each group of pictures: `class`, or a further column of a csv image set, such as weather.
    """
    from visionvitals.files import write_safely
    from visionvitals.results import by_image, load, numbers
    from visionvitals.results import table as tables

    choice = [
        name for name, given in (("study", study), ("metric", metric), ("per-image", per_image), ("by", by)) if given
    ]
    must = "The vital signs are those of all studies: --signs takes no further choice"
    require(not (signs and choice), must, ", ".join(f"--{name}" for name in choice), "Leave one of both out.")
    pages = {path: form for path, form in ((latex, numbers.as_latex), (markdown, numbers.as_markdown)) if path}
    must, got = "A table by image goes to --csv or --parquet", ", ".join(map(str, pages))
    require(not (per_image and pages), must, got, "Leave out --latex and --markdown.")
    if per_image:
        by_image.refuse_groups(by)
    found = load(*run_folders)
    if signs:
        rows = tables.of_signs(found)
    else:
        rows = [] if per_image else tables.rows(found, study=study, metric=metric, by=by)
    for path in (csv, parquet):
        if path is not None and per_image:
            content = by_image.table(found, study=study, metric=metric)
            tables.save(content, path)
            print_line(f"{content.num_rows} rows in {path}")
        elif path is not None:
            tables.write(rows, path)
            print_line(f"{len(rows)} rows in {path}")
    for path, form in pages.items():
        write_safely(path, form(numbers.of_signs(found) if signs else numbers.blocks(rows)))
        print_line(path)
    if csv is None and parquet is None and not pages:
        if per_image:
            show_images(by_image.parts(found, study=study, metric=metric))
        elif signs:
            show_vital_signs(found)
        else:
            show_numbers(rows)
    for sentence in found.damage:
        say(f"warning: {sentence}")
    return 0


def compare(
    run_folder: RunFolder,
    a: str,
    b: str | None = None,
    /,
    *,
    of: str | None = None,
    and_: Annotated[str | None, Parameter(name="--and")] = None,
    metric: str | None = None,
    by: str | None = None,
    csv: Path | None = None,
    markdown: Path | None = None,
    html: Path | None = None,
) -> int:
    """Compare two backbones on the same images, b - a, paired: `RUN A B`, or `OLD NEW` for the networks of one name of two runs.

    Args:
        run_folder: As given to `--out`.
        a: A backbone of the run, as it was spelled or as the tables call it; or a second run.
        b: Another backbone.
        of: With two runs, the backbone of the first.
        and_: With two runs, the backbone of the second.
        metric: Only this metric.
        by: Compare on each group of pictures: `class`, or a further column of a csv image set, such as weather.
        csv: Write every difference to this file.
        markdown: Write the comparison to this file.
        html: Write it as a page, with the pictures whose answers flip.
    """
    from visionvitals.files import write_safely
    from visionvitals.results import compare as comparison
    from visionvitals.results import compared, load
    from visionvitals.results import table as tables

    two = (of, and_) != (None, None)
    require(b is None or not two, "--of and --and name backbones of two runs", f"{a}, {b}", "Give RUN A B, or OLD NEW.")
    must, do = "A comparison must have two backbones of one run, or two runs", "Give RUN A B, or OLD NEW."
    require(b is not None or located(a).is_dir(), must, a, do)
    other = b is None and located(a) == run_folder
    require(
        not other,
        "Two runs that are compared must be two folders",
        a,
        "Two backbones of one: `vitals compare RUN A B`.",
    )
    pairs = [comparison.pair(load(run_folder), a, b)] if b else comparison.pairs(load(run_folder, located(a)), of, and_)
    found = [each for pair in pairs for each in compared.compared(pair, metric=metric, by=by)]
    for each in found:
        show_comparison(each)
    if csv is not None:
        tables.write([row for each in found for row in compared.rows(each)], csv)
    if markdown is not None:
        write_safely(markdown, "\n".join(map(compared.as_markdown, found)))
    if html is not None:
        from visionvitals.report import comparison as page

        page.write(found, html, opened=_opener(pairs[0].run))
    for path in (csv, markdown, html):
        if path is not None:
            print_line(path)
    return 0


def _opener(run: "Run") -> "Opened":
    """Opens the image sets of a run that are files here, of the content that was measured; nothing is executed or fetched."""
    from visionvitals.errors import VitalsError
    from visionvitals.plan import planner

    def opened(name: str) -> "ImageSet | None":
        card = run.images[name]
        if card["spec"].partition(":")[0] not in ("folder", "csv", "masks", "memory"):
            return None
        try:
            found = planner.open_images(card["spec"])
        except VitalsError:
            return None
        return found if found.card.digest == card["digest"] else None

    return opened


def gate(
    run_folder: RunFolder,
    /,
    *,
    rules: Path,
    baseline: RunFolder | None = None,
    json: Path | None = None,
    junit: Path | None = None,
    markdown: Path | None = None,
) -> int:
    """Judge a run by rules: exit code 0 where all critical ones pass, 1 for a breach or a missing number, 3 where it is undecided.

    Args:
        run_folder: As given to `--out`.
        rules: A TOML file of rules, see examples/gate.toml.
        baseline: The run that `not_worse_by` compares with.
        json: Write the verdict to this file.
        junit: Write it for a test report.
        markdown: Write it for a pull request.
    """
    from visionvitals.files import write_safely
    from visionvitals.results import gate as gates
    from visionvitals.results import verdicts

    verdict, run = gates.judged(run_folder, rules, baseline=baseline)
    print_line("\n".join(verdicts.text(verdict)))
    for path, written in ((json, verdicts.as_json), (junit, verdicts.as_junit), (markdown, verdicts.as_markdown)):
        if path is not None:
            write_safely(path, written(verdict))
    for sentence in run.damage:
        say(f"warning: {sentence}")
    return verdict.exit_code


def list_(what: str = "all", /) -> int:
    """List what there is: backbones, datasets, studies and recipes, or all that has a word in its name.

    Args:
        what: all, backbones, datasets, studies, recipes, presets, metrics or "vital signs"; a part of a name, such as resnet; or a pattern of
            models such as `timm:*vit*`.
    """
    from visionvitals import listing

    print_line("\n".join(listing.listed(what)))
    return 0


def explain(name: str, /) -> int:
    """Tell what a name means: a metric, a vital sign, a study, a recipe, a preset, or a family of backbones or image sets.

    Args:
        name: E.g. ece, "kept at 50 % occlusion", occlusion, shape_distill, quick or timm; or the file of a study, which is executed.
    """
    from visionvitals import explaining

    print_line("\n".join(explaining.explained(name)))
    return 0


def cache(*, clear: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Show the decoded images that are kept for the next run, or delete them.

    Args:
        clear: Delete all of them; they are made again when needed.
    """
    import datetime

    from visionvitals.datasets.base import cache as _cache

    if clear:
        print_line(f"{_cache.clear() / 1e6:,.1f} MB freed in {_cache.cache_folder()}")
        return 0
    entries = _cache.entries()
    used = [datetime.datetime.fromtimestamp(e.last_used).strftime("%Y-%m-%d %H:%M") for e in entries]
    print_table(
        ["images", "MB", "last used"],
        [[e.description, f"{e.bytes / 1e6:,.1f}", when] for e, when in zip(entries, used, strict=True)],
    )
    print_line(
        f"{sum(e.bytes for e in entries) / 1e6:,.1f} MB in {_cache.cache_folder()}. To free it: vitals cache --clear"
    )
    return 0
