"""Every hostile case, generated from tables: a case is a few words for `vitals`, and what must lie on the disk before.

    options     every option and argument of every command x bad values of its type; the commands are asked for their options
    spellings   of backbones and image sets, part by part
    contents    plans, studies, recipes, csv files, weights, pictures of every bad kind (`contents.py`, `encoded.py`)
    damages     damages of a run folder x the commands that read it; one `vitals run` must heal it (`damages.py`)
    strangers   run folders that would run code, read or write outside their folder (`strangers.py`)
    disks       a disk that is full after so many bytes, and folders that cannot be written

The same list comes out every time, so a number names a case for good as long as the tables stay.
"""

import typing
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import contents
import damages
import encoded
import strangers
from box import Box
from values import BACKBONES, BASE, NEVER, POSITIVE, SETS, bad_values, base_words, twice

T = typing.TypeVar("T")
Must = typing.Literal["end", "refuse", "work"]
"""end: by success or by one clear line. refuse: by one clear line. work: by success."""


@dataclass(frozen=True)
class Case:
    """One try.

    Attributes:
        name: says what is bad, unique.
        steps: commands, one after the other; `<NAME>` stands for a path of the box, see `box.Box.fill`.
        must: how every step must end.
        make: puts the bad files into the box.
        disk: bytes that a file may have, as if the disk were full then; None: no limit.
        check: looks at the box and the printed text of each step afterwards, and says what is wrong.
    """

    name: str
    steps: tuple[tuple[str, ...], ...]
    must: Must = "end"
    make: Callable[[Box], object] | None = None
    disk: int | None = None
    check: Callable[[Box, list[str]], str | None] | None = None


def generate() -> list[Case]:
    """All cases, in a fixed order."""
    found = [*_options(), *_spellings(), *_contents(), *_damages(), *_strangers(), *_disks()]
    names = [case.name for case in found]
    twice_named = {name for name in names if names.count(name) > 1}
    assert not twice_named, f"two cases of one name: {sorted(twice_named)}"
    return found


def some(values: Sequence[T], count: int, salt: str) -> list[T]:
    """`count` of the values, others for another `salt`; the same ones every time."""
    start = zlib.crc32(salt.encode())
    step = max(1, len(values) // count)
    return [values[(start + k * step) % len(values)] for k in range(min(count, len(values)))]


def _options() -> Iterator[Case]:
    """Every argument of every command, as the command line itself declares them: all bad values for the first command that has it,
    and a few for the others, where the same code reads it."""
    from visionvitals.cli import app

    seen: set[tuple[str, str]] = set()
    for command in (name for name in app if not name.startswith("-")):
        for argument in app[command].assemble_argument_collection(parse_docstring=False):
            if not argument.parse or argument.children:
                continue
            option, place = argument.names[0], argument.index
            values = bad_values(argument.hint)
            again = (option, str(argument.hint)) in seen and option != "--out"
            seen.add((option, str(argument.hint)))
            for label, value, must in some(values, 3, command + option) if again else values:
                if (command, option, label) in NEVER:
                    continue
                if (
                    option in POSITIVE
                    and label in ("0", "-1")
                    and (command, option, label) != ("train", "--workers", "0")
                ):
                    must = "refuse"
                words = base_words(
                    command, **({"place": place} if place is not None else {"option": option}), value=value
                )
                yield Case(f"{command} {option} {label}", (words,), typing.cast(Must, must))
            if place is None and "tuple" not in str(argument.hint):
                yield Case(f"{command} {option} twice", (twice(command, option, argument.hint),), "refuse")
    for command in BASE:
        for extra in some(("--nope", "--=", "-", "--", "\x1b[2J", "--out"), 2, command):
            yield Case(f"{command} with {extra!r}", ((*base_words(command), extra),))
    for words in ((), ("nope",), ("",), ("audit",), ("--version", "x"), ("-h", "nope"), ("\x1b]0;title\x07",)):
        yield Case(f"words {words!r}", (words,))


def _spellings() -> Iterator[Case]:
    for spelling in BACKBONES:
        words = ("plan", spelling, "--data", "shapes:test?n=4", "--studies", "clean", "--device", "cpu")
        yield Case(f"backbone {spelling[:60]!r} {len(spelling)}", (words,), make=encoded.weights_beside)
    for spelling in SETS:
        words = ("plan", "<TOY>", "--data", spelling, "--studies", "clean", "--device", "cpu")
        yield Case(f"set {spelling[:60]!r} {len(spelling)}", (words,), make=encoded.odd_beside)
    from visionvitals import registry

    for family in registry.names("datasets"):
        names = (
            "",
            "<IN>/missing",
            "<IN>/file.txt",
            "<IN>/empty",
            "<IN>/fifo",
            "<IN>/empty?part=nope",
            "<IN>/empty?x=1",
            "%00",
        )
        for name in ("<IN>/empty", *some([n for n in names if n != "<IN>/empty"], 3, family)):
            if f"{family}:{name}" not in SETS:
                words = ("plan", "<TOY>", "--data", f"{family}:{name}", "--studies", "clean", "--device", "cpu")
                yield Case(f"set {family}:{name}", (words,), make=encoded.odd_beside)
    from visionvitals.training.recipe import Recipe

    for field in Recipe.__dataclass_fields__:
        for value in some(("", "nan", "1e999", "-1", "0", "1.5", "x\x1b[31m", "1,2", "../../x"), 4, field):
            if (field, value) in (("seed", "-1"), ("seed", "0")):
                continue
            yield Case(
                f"train --set {field}={value!r}", (base_words("train", option="--set", value=f"{field}={value}"),)
            )


def _conditions() -> Iterator[Case]:
    """Every field of every study's condition with bad values, in a plan file."""
    from visionvitals import registry

    for study in registry.names("studies"):
        for field in registry.load("studies", study).Condition.__dataclass_fields__:
            for value in some(
                ("inf", "nan", "2020-01-01", "-1", "1e300", '"x"', "[]", "true", "[[nan]]", "1" * 30), 3, study + field
            ):
                put = contents.writer("plan.toml", contents.condition(study, f"{field} = {value}"))
                words = ("plan", "<IN>/plan.toml", "--device", "cpu", "<TRUST>")
                yield Case(f"plan file: {study}: {field} = {value}", (words,), make=put)


def _contents() -> Iterator[Case]:
    cpu = ("--device", "cpu")
    for name, plan in contents.PLANS.items():
        put = contents.writer("plan.toml", plan)
        words = ("run", "<IN>/plan.toml", "--out", "<OUT>/run", "<TRUST>", *cpu)
        yield Case(f"plan file: {name}", (words,), make=put)
        yield Case(f"rules: {name}", (("gate", "<RUN>", "--rules", "<IN>/plan.toml"),), "refuse", make=put)
    yield from _conditions()
    for name, code in contents.STUDIES.items():
        words = ("audit", "<TOY>", "--data", "<NOISE>", "--studies", "<IN>/bad_study.py", "--out", "<OUT>/run", *cpu)
        yield Case(f"study file: {name}", (words,), make=contents.writer("bad_study.py", code))
    for name, code in contents.RECIPES.items():
        words = ("train", "<IN>/bad_recipe.py", "--out", "<OUT>/t", *cpu)
        yield Case(f"recipe file: {name}", (words,), make=contents.writer("bad_recipe.py", code))
    for name, code in contents.FACTORIES.items():
        words = ("plan", "python:<IN>/factory.py:make", "--data", "shapes:test?n=4", "--studies", "clean", *cpu)
        yield Case(f"factory: {name}", (words,), make=contents.writer("factory.py", code))
    for name, table in encoded.TABLES.items():
        put = encoded.table(table)
        audit = ("audit", "<TOY>", "--data", "csv:<IN>/set.csv", "--studies", "clean", "--out", "<OUT>/run", *cpu)
        yield Case(f"csv: {name}", (audit,), "refuse" if name in encoded.NO_TABLE else "end", make=put)
        if name.startswith(("labels", "path")):
            copy = ("stylize", "csv:<IN>/set.csv", "--styles", "<STYLES>", "--out", "<OUT>/copy", "--size", "32")
            yield Case(f"csv stylised: {name}", (copy,), make=put, check=encoded.only_copy)
        else:
            yield Case(f"answers: {name}", (("responses", "<RUN>", "--add", "<IN>/set.csv"),), make=put)
            yield Case(f"answers of people: {name}", (("consistency", "<IN>/set.csv"),), make=put)
    for name, write in encoded.WEIGHTS.items():
        for spelling in some((f"checkpoint:<IN>/{name}?arch=tiny:cnn", f"tiny:cnn@<IN>/{name}"), 1, name):
            words = ("plan", spelling, "--data", "shapes:test?n=4", "--studies", "clean", *cpu)
            yield Case(f"weights: {spelling}", (words,), make=contents.writer(name, write))
        if name.endswith("safetensors"):
            continue
        train = (*base_words("train"), "--set", "epochs=2")
        yield Case(f"checkpoint of a training: {name}", (train,), make=contents.writer("../out/t/checkpoint.pt", write))
        adain = ("--engine", "adain", "--encoder", f"<IN>/{name}", "--decoder", f"<IN>/{name}")
        yield Case(f"adain weights: {name}", ((*base_words("stylize"), *adain),), make=contents.writer(name, write))
    for name, picture in encoded.PICTURES.items():
        put = encoded.among_pictures(name, picture)
        audit = ("audit", "<TOY>", "--data", "folder:<IN>/set", "--studies", "clean", "--out", "<OUT>/run", *cpu)
        yield Case(f"picture: {name}", (audit,), make=put)
        other = f"<IN>/set/class 1/{name}"
        others = {
            "fast decoder": (*audit, "--decoder", "fast"),
            "as style": base_words("stylize", option="--styles", value="<IN>/set"),
            "shown": base_words("show", option="--image", value=other),
            "as mask": (*base_words("show", place=0, value="mask"), "--mask", other),
        }
        special = not isinstance(picture, bytes)
        for how in others if special else some(list(others), 2, name):
            yield Case(f"picture {how}: {name}", (others[how],), make=put)


def _damages() -> Iterator[Case]:
    run = ("run", "<RUN>", "--device", "cpu", "<TRUST>")
    readers = {
        "status": ("status", "<RUN>"),
        "table": ("table", "<RUN>"),
        "report": ("report", "<RUN>"),
        "compare": ("compare", "<RUN>", "<TOY>", "<TOY>?seed=1"),
        "gate": ("gate", "<RUN>", "--rules", "<RULES>"),
        "card": ("card", "<RUN>", "<TOY>"),
        "run": run,
    }
    for damage in damages.DAMAGES:
        for command, words in readers.items():
            check = damages.never_complete if command == "status" and damage.loses_a_cell else None
            yield Case(f"damage: {damage.name}: {command}", (words,), make=damage.do, check=check)
        steps = (run, ("status", "<RUN>"), ("table", "<RUN>", "--csv", "<OUT>/table.csv"))
        if damage.can_heal:
            yield Case(f"damage: {damage.name}: healed", steps, "work", make=damage.do, check=damages.healed)


def _strangers() -> Iterator[Case]:
    for stranger in strangers.STRANGERS:
        for command in ("status", "table", "report", "gate", "card", "run"):
            more = {"run": ("--device", "cpu"), "gate": ("--rules", "<RULES>"), "card": ("<TOY>",)}.get(command, ())
            words = (command, "<RUN>", *more)
            yield Case(f"stranger: {stranger.name}: {command}", (words,), make=stranger.do, check=strangers.untouched)
        figures = ("report", "<RUN>", "--figures", "<OUT>/figures")
        if "scripts" in stranger.name:
            yield Case(f"stranger: {stranger.name}: figures", (figures,), make=stranger.do, check=strangers.untouched)


def _disks() -> Iterator[Case]:
    writing: Mapping[str, tuple[str, ...]] = {
        "audit": base_words("audit"),
        "audit of files": base_words("audit", option="--data", value="folder:<PICTURES>"),
        "train": base_words("train"),
        "stylize": base_words("stylize"),
        "show": base_words("show"),
        "report": ("report", "<RUN>", "--out", "<OUT>/page.html"),
        "figures": ("report", "<RUN>", "--figures", "<OUT>/figures"),
        "csv": ("table", "<RUN>", "--csv", "<OUT>/table.csv"),
        "parquet": ("table", "<RUN>", "--parquet", "<OUT>/table.parquet"),
        "latex": ("table", "<RUN>", "--latex", "<OUT>/t.tex"),
        "by image": ("table", "<RUN>", "--per-image", "--parquet", "<OUT>/i.parquet"),
        "card": ("card", "<RUN>", "<TOY>", "--out", "<OUT>/card.md"),
        "responses": ("responses", "<RUN>", "--write", "<OUT>/answers"),
        "comparison": ("compare", "<RUN>", "<TOY>", "<TOY>?seed=1", "--markdown", "<OUT>/c.md"),
        "verdict": ("gate", "<RUN>", "--rules", "<RULES>", "--junit", "<OUT>/v.xml"),
    }
    for name, words in writing.items():
        for disk in (0, 300, 30_000):
            yield Case(
                f"full disk: {name} at {disk}", (words,), make=Box.empty_cache, disk=disk, check=damages.nothing_half
            )


def tenth(cases: list[Case], seed: int) -> list[int]:
    """The numbers of a tenth of the cases, drawn by `seed`."""
    import random

    return sorted(random.Random(seed).sample(range(len(cases)), len(cases) // 10))


def named(cases: list[Case], pattern: str) -> list[int]:
    """The numbers of the cases whose name matches."""
    import re

    return [number for number, case in enumerate(cases) if re.search(pattern, case.name)]


if __name__ == "__main__":
    print("\n".join(f"{number} {case.name!r}" for number, case in enumerate(generate())))
    print(Path(__file__).name, len(generate()), "cases")
