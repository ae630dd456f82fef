"""Bad values by the type of an option, good words for every command, and bad spellings part by part."""

import types
import typing
from pathlib import Path
from typing import Any

HUGE = str(10**20)
LONG = "x" * 5_000
UNICODE = "žluť🐎\u202e"
CONTROL = "a\x1b]0;title\x07b\x1b[31m\n\tc\x9b"
NUMBERS = {
    "empty": "",
    "nan": "nan",
    "inf": "inf",
    "-inf": "-inf",
    "1.5": "1.5",
    "-1": "-1",
    "0": "0",
    "1e20": HUGE,
    "of 5,000 digits": "9" * 5_000,
    "word": "x",
    "control": CONTROL,
}
TEXTS = {
    "empty": "",
    "nan": "nan",
    "-1": "-1",
    "0": "0",
    "long": LONG,
    "unicode": UNICODE,
    "control": CONTROL,
    "upwards": "../../x",
    "formula": "=cmd()",
    "commas": ",,",
    "colon": ":",
}
PATHS = {
    "empty": "",
    "nan": "nan",
    "a name of 300 characters": "<OUT>/" + "n" * 300,
    "a path of 5,000 characters": "<OUT>/" + "p/" * 2_500,
    "unicode": f"<OUT>/{UNICODE}",
    "control": f"<OUT>/{CONTROL}",
    "file": "<GIVEN>/file.txt",
    "below a file": "<GIVEN>/file.txt/below",
    "folder": "<GIVEN>/folder",
    "fifo": "<GIVEN>/fifo",
    "endless": "<GIVEN>/zero",
    "broken link": "<GIVEN>/broken",
    "loop of links": "<GIVEN>/loop",
    "closed": "<GIVEN>/closed",
    "missing": "<OUT>/missing/missing",
    "read-only": "/proc/1/nowhere/x",
}
WHOLE_ONLY = ("nan", "inf", "-inf", "1.5", "empty", "word", "control")
POSITIVE = ("--limit", "--batch-size", "--workers", "--micro-batch", "--size")
NEVER = {("train", "--workers", "1e20"), ("train", "--workers", "of 5,000 digits")}
"""Not tried: a process a worker would be started until the machine has none left."""


def bad_values(hint: Any) -> list[tuple[str, str, str]]:
    """(label, value, how it must end) for the type of an argument."""
    kinds = _kinds(hint)
    if typing.get_origin(kinds[0]) is typing.Literal:
        return [(label, value, "refuse") for label, value in TEXTS.items()]
    if kinds[0] is int:
        return [(label, value, "refuse" if label in WHOLE_ONLY else "end") for label, value in NUMBERS.items()]
    if kinds[0] is float:
        return [
            (label, value, "refuse" if label in ("nan", "empty", "word") else "end") for label, value in NUMBERS.items()
        ]
    if kinds[0] is bool:
        return []
    return [(label, value, "end") for label, value in (PATHS if kinds[0] is Path else TEXTS).items()]


def _kinds(hint: Any) -> list[Any]:
    """The type itself, without None and without the tuple around it."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType, tuple):
        return [k for inner in typing.get_args(hint) if inner not in (type(None), ...) for k in _kinds(inner)]
    return [hint]


BASE: dict[str, tuple[list[str], dict[str, str]]] = {
    "audit": (["<TOY>"], {"--data": "<NOISE>", "--studies": "<STUDY>", "--device": "cpu", "--out": "<OUT>/run"}),
    "plan": (["<TOY>"], {"--data": "<NOISE>", "--studies": "<STUDY>", "--device": "cpu"}),
    "run": (["<PLAN>"], {"--out": "<OUT>/run", "--device": "cpu"}),
    "demo": ([], {"--out": "<OUT>/run", "--device": "cpu"}),
    "status": (["<RUN>"], {}),
    "report": (["<RUN>"], {}),
    "table": (["<RUN>"], {}),
    "compare": (["<RUN>", "<TOY>", "<TOY>?seed=1"], {}),
    "gate": (["<RUN>"], {"--rules": "<RULES>"}),
    "card": (["<RUN>", "<TOY>"], {}),
    "note": (["<RUN>", "ship it"], {}),
    "serve": (["<GIVEN>/folder"], {"--port": "0"}),  # no run: a server that starts would never end
    "list": (["all"], {}),
    "cache": ([], {}),
    "train": (["<RECIPE>"], {"--out": "<OUT>/t", "--device": "cpu"}),
    "show": (["occlusion"], {"--image": "<PNG>", "--model": "tiny:cnn", "--out": "<OUT>/x.png", "--device": "cpu"}),
    "responses": (["<RUN>"], {"--write": "<OUT>/answers"}),
    "stylize": (["folder:<PICTURES>"], {"--styles": "<STYLES>", "--out": "<OUT>/copy", "--size": "32"}),
}
"""command -> (arguments, options) of a call that works and takes a second."""


def base_words(
    command: str, *, option: str | None = None, place: int | None = None, value: str = ""
) -> tuple[str, ...]:
    """The good call of a command, with one argument or one option replaced by `value`."""
    places, options = BASE.get(command, ([], {}))
    places, options = list(places), dict(options)
    if place is not None:
        places[place : place + 1] = [value]
    if option is not None:
        options[option] = value
    flags = [
        word
        for key, given in options.items()
        for word in ((f"{key}={given}",) if given.startswith("-") else (key, given))
    ]
    return (command, *places, *flags, *(("<TRUST>",) if command in ("run", "plan") else ()))


def twice(command: str, option: str, hint: Any) -> tuple[str, ...]:
    """The good call of a command with one option given twice."""
    kind = _kinds(hint)[0]
    if kind is bool:
        return (command, option, option)
    good = BASE.get(command, ([], {}))[1].get(option) or {int: "1", float: "0.5", Path: "<OUT>/a"}.get(kind, "cpu")
    if typing.get_origin(kind) is typing.Literal:
        good = str(typing.get_args(kind)[0])
    return (*base_words(command, option=option, value=good), option, good)


_ODD = (
    "",
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "1e308",
    "1,2",
    "1,2,3,4",
    "abc",
    HUGE,
    "\x1b[31m",
    "0.5,nan,0.5",
    "1x-1",
    "%00",
)
BACKBONES: tuple[str, ...] = (
    *(f"tiny:cnn?{key}={value}" for key in ("mean", "std", "crop", "resize") for value in _ODD),
    *(f"tiny:vit?{key}={value}" for key in ("interpolation", "position", "token", "classes") for value in _ODD[::4]),
    *(f"python:<IN>/good.py:make?{key}={value}" for key in ("size", "resize") for value in _ODD[::2]),
    *(
        f"checkpoint:<IN>/good.safetensors?{key}={value}"
        for key in ("size", "arch", "model.stem_width")
        for value in _ODD[::3]
    ),
    *(
        "",
        ":",
        "tiny",
        "tiny:",
        "tiny:vit@",
        "tiny:vit@<IN>/missing",
        "tiny:vit@<IN>/fifo",
        "tiny:vit@<IN>/zero",
        "@",
        "?x",
    ),
    *(
        "tiny:vit?",
        "tiny:vit?a",
        "tiny:vit?=1",
        "tiny:vit?mean=0.5&mean=0.4",
        "tiny:vit?crop=0.9&resize=80",
        "tiny:vit@%00",
    ),
    *(
        "tiny:vit?classes=<IN>/fifo",
        "tiny:vit?classes=<IN>/zero",
        "tiny:vit?classes=<IN>",
        "tiny:vit@<IN>",
        "tiny:nope",
    ),
    *("timm:", "timm:nope", "timm:../../x", f"timm:{LONG}", "timm:deit_tinny", "hf:", "hf:nope/nope", "hf:../x"),
    *(
        "torchvision:",
        "torchvision:nope",
        "checkpoint:",
        "checkpoint:<IN>/missing",
        "checkpoint:<IN>",
        "checkpoint:<IN>/fifo",
    ),
    *("onnx:", "onnx:<IN>/missing", "onnx:<IN>", "onnx:<IN>/fifo", "onnx:<IN>/zero", "onnx:<IN>/file.txt"),
    *("exported:", "exported:<IN>", "exported:<IN>/fifo", "exported:<IN>/zero", "exported:<IN>/file.txt"),
    *(
        "clip:",
        "clip:nope/nope",
        "clip:../x",
        "clip:<IN>?head=none",
        "clip:<IN>?classes=<IN>/fifo",
        "clip:<IN>?classes=folder:<IN>/fifo",
    ),
    *("checkpoint:<IN>/zero", "python:", "python:os:getcwd", "python:os", "python:nope:f", "python:<IN>/missing.py:f"),
    *(
        "python:os:nope",
        "python:..:f",
        "python:os.path:",
        "garbage",
        UNICODE,
        CONTROL,
        f"tiny:{LONG}",
        f"tiny:vit?{LONG}=1",
    ),
    *(
        "<IN>/missing.py:x",
        "<IN>/file.txt:x",
        "<IN>/fifo.py:x",
        "<IN>:x",
        "tiny:vit?mean=0.5;std=0.5",
        "tiny://vit",
        "TINY:VIT",
    ),
)
SETS: tuple[str, ...] = (
    *(f"shapes:test?n={value}" for value in _ODD),
    *(
        f"shapes:test?{key}={value}"
        for key in ("variant", "seed", "side", "size")
        for value in ("", "nope", "nan", "-1", HUGE)
    ),
    *(
        "",
        ":",
        "shapes",
        "shapes:",
        "shapes:nope",
        "shapes:test?",
        "shapes:test?n",
        "shapes:test?=1",
        "shapes:test?n=4&n=5",
    ),
    *(
        "folder:",
        "folder:<IN>/missing",
        "folder:<IN>/file.txt",
        "folder:<IN>/fifo",
        "folder:<IN>/zero",
        "folder:<IN>/empty",
    ),
    *(
        "folder:<IN>/loop",
        "folder:/proc/none",
        "folder:%00",
        f"folder:{LONG}",
        f"folder:{UNICODE}",
        f"folder:{CONTROL}",
    ),
    *(
        "csv:",
        "csv:<IN>/missing",
        "csv:<IN>",
        "csv:<IN>/fifo",
        "csv:<IN>/zero",
        "csv:<IN>/file.txt?x=1",
        "csv:%00",
        f"csv:{LONG}",
    ),
    *("garbage", UNICODE, CONTROL, LONG, "hf:nope/nope", "hf:", "hf:../x?split=train", "<NOISE>&n=9", "<NOISE>&x=1"),
    *("masks:<IN>/empty?masks=<IN>/fifo", "masks:<IN>/empty?masks=", "imagenet_c:<IN>/empty?corruption=../x"),
)
