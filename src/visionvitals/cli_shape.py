"""The commands that train and prepare, and those of people's answers, registered by `cli`. Every heavy import is inside the function that needs it."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from visionvitals.errors import VitalsError, require
from visionvitals.options import Count, Position, Processes, RunFolder, Threads
from visionvitals.remote import on_disk
from visionvitals.run.progress import say
from visionvitals.terminal import print_line, print_table


def responses(
    run_folder: RunFolder,
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
        raise VitalsError(
            "`vitals responses` must be told what to do. Got neither. Give --add FOLDER or --write FOLDER."
        )
    from visionvitals import results
    from visionvitals.report import build
    from visionvitals.responses import observers
    from visionvitals.results import words

    if add is not None:
        rows = []
        for found in observers.add(run_folder, add):
            s = found.summary
            shares = [
                words.measured(e) for e in (s.bias, s.class_mean, s.shape_accuracy, s.texture_accuracy, s.coverage)
            ]
            rows.append([found.observer, found.images, found.persons, s.coverage.n, s.bias.n, *shares])
        heads = ["shape bias %", "class mean %", "shape %", "texture %", "either %"]
        print_table(["observer", "data", "persons", "answers", "shape or texture", *heads], rows)
        print_line(f"Report: {build.build(results.load(run_folder))}")
    for path in observers.export(run_folder, write) if write is not None else ():
        print_line(path)
    return 0


def consistency(*answers: Path) -> int:
    """Whether networks fail on the pictures that people fail on: error consistency (kappa) in the files of model-vs-human.

    Args:
        answers: The csv files of one experiment, or folders of them; `vitals responses RUN --write FOLDER` writes those of a run's
            backbones to cue conflicts. People are the observers called `subject-...`.
    """
    require(bool(answers), "`vitals consistency` must be given the csv files of one experiment, or a folder", "none")
    from visionvitals.responses import csv_files, people

    found = people.consistency([answer for path in answers for answer in csv_files.read_any(path)])
    rows = []
    for c in found:
        spread = f"{c.lowest:.3f} to {c.highest:.3f}" if c.told else ""
        kappa, most = (f"{value:.3f}" if c.told else "not estimable" for value in (c.kappa, c.most))
        of = f"{c.told} of {c.pairs} {'conditions' if c.condition == people.MEAN else 'pairs'}"
        rows.append([c.condition, c.observer, c.pictures, f"{100 * c.accuracy:.1f}", kappa, spread, most, of])
    heads = ["condition", "observer", "pictures", "right %", "kappa with people", "from to", "at most", "mean of"]
    print_table(heads, rows, names=2)
    return 0


def stylize(
    data: str,
    /,
    *,
    out: Path,
    engine: Literal["fourier", "adain", "retexture"] = "fourier",
    styles: Path | None = None,
    alpha: float = 1.0,
    size: Count = None,
    encoder: Path | None = None,
    decoder: Path | None = None,
    first: Position = 0,
    part: str = "1/1",
    batch_size: Count = None,
    device: str | None = None,
    workers: Threads = None,
) -> int:
    """Write a stylised copy of an image set as class folders of PNG. The same command again resumes.

    Args:
        data: An image set, `family:name`, e.g. folder:/data/train.
        out: The folder of the copy; read it as `folder:OUT`.
        engine: fourier: the amplitudes of a style's spectrum, no weights; about 5 % of the values are clipped. adain: style transfer by
            networks, as Stylized-ImageNet was made. retexture: exactly another texture, for `shapes:` only.
        styles: A folder of style pictures, e.g. paintings. Each picture takes one by the published draw.
        alpha: How much of the style, from 0 to 1.
        size: Side of the copies in pixels, 224 by default; of re-textured ones that of the spelling.
        encoder: For adain, weights of the normalised VGG-19 (vgg_normalised.pth).
        decoder: For adain, weights of the decoder.
        first: Position of the first picture in the published draw; 50000 for ImageNet's training part, which comes after validation.
        part: Only part i of n, `i/n`: n processes or machines share the work on one folder.
        batch_size: Pictures at a time, 32 by default; 4 for adain on a CPU, where more are not faster and take much memory.
        device: cpu, cuda, cuda:N or mps, for adain. The best there is by default.
        workers: Threads that read and write, one per core by default.
    """
    number, slash, parts = part.partition("/")
    inside = slash and number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)
    require(bool(inside), "`--part` must read i/n with 1 <= i <= n", part)
    require(0 <= alpha <= 1, "`--alpha` must be in [0, 1]", alpha)
    require(size is None or size >= 16, "`--size` must be at least 16 pixels", size)
    facts: dict[str, Any] = {"version": 1, "data": data, "engine": engine}
    if engine == "retexture":
        must = "`--engine retexture` takes no --styles, --alpha, --size, --encoder, --decoder, --first"
        require((styles, alpha, size, encoder, decoder, first) == (None, 1.0, None, None, None, 0), must, "one")
        require(data.startswith("shapes:"), "`--engine retexture` is for the embedded pictures, `shapes:`", data)
    else:
        do = "E.g. a folder of paintings."
        require(styles is not None, f"`--engine {engine}` needs a folder of --styles", None, do)
        facts |= {"size": size or 224, "alpha": alpha, "first": first}
        given = encoder is not None and decoder is not None
        do = "The published ones are vgg_normalised.pth and decoder.pth of pytorch-AdaIN."
        require(given or engine != "adain", "`--engine adain` needs weights: --encoder FILE --decoder FILE", None, do)
        require((encoder or decoder) is None or engine == "adain", "Only `--engine adain` takes weights", engine)
    from visionvitals.stylize import prepare

    return prepare.stylize(
        data,
        out,
        facts=facts,
        styles=styles,
        weights=None if encoder is None or decoder is None else (encoder, decoder),
        part=(int(number) - 1, int(parts)),
        batch_size=batch_size,
        device=device,
        workers=workers or os.cpu_count() or 1,
        say=say,
    )


def train(
    recipe: str,
    /,
    *,
    out: Path,
    data: str | None = None,
    test: str | None = None,
    settings: Annotated[tuple[str, ...], Parameter(name="--set", negative=())] = (),
    device: str | None = None,
    micro_batch: Count = None,
    workers: Processes = None,
) -> int:
    """Train a network by its recipe. The same command again resumes exactly; under torchrun it uses every process.

    Args:
        recipe: See `vitals list recipes`.
        out: The folder for checkpoints and results.
        data: The image set to learn from, `family:name`, e.g. folder:/data/train. By default the recipe's.
        test: The image set to measure on.
        settings: `key=value`, overrides a value of the recipe. Give it again for several.
        device: cpu, cuda, cuda:N or mps. The best there is by default.
        micro_batch: Images that fit into memory at once; the gradient of the recipe's batch is accumulated.
        workers: Processes that augment images ahead.
    """
    from visionvitals.training import recipe as recipes

    on_disk(out)
    chosen = recipes.asked(recipe, settings, data=data, test=test)
    from visionvitals.run.devices import choose_device  # what follows loads torch and timm
    from visionvitals.training import loop

    done = loop.train(chosen, out=out, device=choose_device(device), micro=micro_batch, workers=workers, report=say)
    if done is not None:
        print_line(done)
    return 0
