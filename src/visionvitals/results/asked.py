"""What is asked of a run must be in it: a study, a metric."""

from collections.abc import Collection

from visionvitals.errors import near, require
from visionvitals.results.derived import DERIVED


def refuse_unknown(
    metric: str | None, known: Collection[str], *, study: str | None = None, studies: Collection[str] = ()
) -> None:
    """Refuse a study that a run has not, and a metric that it, or the study that is asked for, has not there.

    Args:
        metric: as asked; None for all.
        known: the metrics of what is asked for.
        study: as asked; None for all.
        studies: of the run.

    Raises:
        VitalsError: with the names that are known, and of a computed number what it would need.
    """
    require(study is None or study in studies, "`study` must be in the run", study, near(str(study), studies))
    where = "be in the run" if study is None else f"be one that `{study}` has in this run"
    do = near(str(metric), known)
    if metric is not None and metric in DERIVED:
        do = f"It is computed from {' and '.join(DERIVED[metric].needs)}, which is not kept there. {do}"
    require(metric is None or metric in known, f"`metric` must {where}", metric, do)
