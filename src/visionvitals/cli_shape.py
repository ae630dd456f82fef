"""The commands about shape and texture, registered by `cli`. Every heavy import is inside the function that needs it."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from visionvitals.errors import VitalsError
from visionvitals.terminal import print_table


def responses(
    run_folder: Path,
    /,
    *,
    add: Annotated[Path | None, Parameter(name="--add")] = None,
    write: Annotated[Path | None, Parameter(name="--write")] = None,
) -> int:
    """Compare the shape bias of a run with people and published networks, in the files of model-vs-human and texture-vs-shape.

    Args:
        run_folder: As given to `--out`, with the study shape_bias on cue_conflict: pictures.
        add: Count the answers in this csv, or in all csv files of this folder, on the run's pictures, and put them into its report.
        write: Write the answers of the run's backbones into this folder, one csv each.
    """
    if add is None and write is None:
        raise VitalsError("`vitals responses` must be told what to do. Got neither. Give --add FOLDER or --write FOLDER.")
    from visionvitals.report import build, words
    from visionvitals.run import observers

    if add is not None:
        rows = []
        for found in observers.add(run_folder, add):
            s = found.summary
            shares = [words.measured(e) for e in (s.bias, s.class_mean, s.shape_accuracy, s.texture_accuracy, s.coverage)]
            rows.append([found.observer, found.images, found.persons, s.coverage.n, s.bias.n, *shares])
        heads = ["shape bias %", "class mean %", "shape %", "texture %", "either %"]
        print_table(["observer", "data", "persons", "answers", "shape or texture", *heads], rows)
        print(f"Report: {build.build(run_folder)}")
    for path in observers.export(run_folder, write) if write is not None else ():
        print(path)
    return 0
