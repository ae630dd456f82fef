"""What a page shows, read and checked: its blocks, the calls that a shell makes of them, and the names in its Python."""

import ast
import inspect
import itertools
import re
import shlex
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclopts import CycloptsError

from visionvitals import registry, study
from visionvitals.backbones import timm
from visionvitals.backbones._t2t_network import VARIANTS
from visionvitals.cli import app
from visionvitals.errors import VitalsError, near, require
from visionvitals.plan import plan_file, request
from visionvitals.results import rules
from visionvitals.results.derived_metrics import METRICS
from visionvitals.show._draw import KINDS
from visionvitals.training import recipe

ROOT = Path(__file__).parents[2]
PROGRAMS = "vitals python python3 pip make git uv podman torchrun mkdir rm ln ls head basename"
"""What the pages call; another word that a shell takes for a program is a mistake on the page."""
SHELL = r"""
PATH=/nonexistent
say() { local IFS=$'\x1f'; printf '%s\x1e' "$*" >>"$CALLS"; }
for program in $PROGRAMS; do eval "$program() { say \"\$BLOCK\" $program \"\$@\"; }"; done
cat() { local line; while IFS= read -r line || [ -n "$line" ]; do printf '%s\n' "$line"; done; }
cd() { :; }
function . { :; }
for BLOCK in "$@"; do eval "$(<"$BLOCKS/$BLOCK")"; done
"""
"""Shell blocks are read by a shell: it expands, joins and cuts comments, and notes what it would have called. Nothing else is within its reach."""
PLACEHOLDERS = {
    **dict.fromkeys(("BACKBONE", "NET", "NETWORK"), "tiny:vit"),
    "SET": "shapes:test",
    "RECIPE": "tiny_cnn",
    "KIND": "all",
    "STUDY": "clean",
    "METRIC": "top1",
    "OPTION": "",
    "N": "1",
    "I/N": "0/2",
    "PLAN.toml": "plans/quick.toml",
}
"""Words in capitals that stand for the reader's own; those that are not here are read as paths."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: the words after the fence, its text, and where it begins.

    Attributes:
        slow: `<!-- takes minutes -->` stands above it.
    """

    language: str
    title: str
    text: str
    line: int
    slow: bool

    @property
    def is_shell(self) -> bool:
        """Said, or, where nothing is said, begun as a command."""
        begun = re.match(rf"({PROGRAMS.replace(' ', '|')}|cat) |[A-Z]+='", self.text)
        return self.language in ("bash", "sh") or (not self.language and begun is not None)


@dataclass(frozen=True)
class Call:
    """The words that a shell would have called, and the block that they are of."""

    words: tuple[str, ...]
    block: Block


def blocks(page: str) -> list[Block]:
    """Every fenced block of a page."""
    fence = r"^(?P<in> *)```(?P<language>\w*)(?: title=\"(?P<title>[^\"]*)\")?[^\n]*\n(?P<text>.*?)^(?P=in)```$"
    return [
        Block(
            language=found["language"],
            title=found["title"] or "",
            text=found["text"],
            line=page[: found.start()].count("\n") + 1,
            slow=page[: found.start()].rstrip().endswith("<!-- takes minutes -->"),
        )
        for found in re.finditer(fence, page, flags=re.MULTILINE | re.DOTALL)
    ]


def calls(found: Sequence[Block], folder: Path) -> list[Call]:
    """What the shell blocks of a page call, in order; the files that they write lie in `folder`.

    Raises:
        VitalsError: what the shell complains of.
    """
    shown = [block for block in found if block.is_shell]
    kept = folder / ".blocks"
    kept.mkdir(parents=True)
    for i, block in enumerate(shown):
        (kept / str(i)).write_text(block.text, encoding="utf-8")
    around = {"CALLS": str(kept / "calls"), "BLOCKS": str(kept), "PROGRAMS": PROGRAMS}
    command = ["/bin/bash", "-c", SHELL, "page", *map(str, range(len(shown)))]
    done = subprocess.run(command, cwd=folder, env=around, capture_output=True, text=True, check=False)
    require(not done.stderr, "A shell must take what a page shows", done.stderr)
    (kept / "calls").touch()
    said = [each.split("\x1f") for each in (kept / "calls").read_text(encoding="utf-8").split("\x1e")[:-1]]
    return [Call(tuple(words), shown[int(block)]) for block, *words in said]


def inline(page: str) -> list[str]:
    """What stands between single backticks, in sentences and tables."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```$", "", page, flags=re.MULTILINE | re.DOTALL))


def filled(words: Sequence[str]) -> list[str]:
    """With something that can be read in place of words in capitals; `...` is left away."""
    found = [word.removesuffix("...") for word in words]
    return [re.sub(r"=N\b", "=1", PLACEHOLDERS.get(word, word)) for word in found if PLACEHOLDERS.get(word, word)]


class _Enough(Exception): ...


class _Asked(registry.Spec):
    """A spelling of an image set whose opening ends where its options are known."""

    def only(self, *known: str) -> dict[str, str]:
        super().only(*known)
        raise _Enough


def check_images(text: str) -> None:
    """An image set: its family and its options."""
    asked = request.parse("datasets", text)
    if not asked.family.endswith(".py"):
        try:
            registry.load("datasets", asked.family).open(_Asked(**vars(asked)))
        except _Enough:
            return


def check_backbone(text: str) -> None:
    """A backbone: its family, its options, and the network that it names."""
    spec = request.parse("backbones", text)
    if spec.family.endswith(".py"):
        return
    options = registry.options(spec, registry.load("backbones", spec.family).Options)
    if spec.family == "t2t":
        require(spec.name in VARIANTS, "T2T-ViT must have the name", spec.name)
    elif spec.family == "torchvision":
        from torchvision.models import list_models

        require(spec.name in list_models(), "torchvision must have the network", spec.name)
    elif spec.family in ("timm", "checkpoint"):
        name = spec.name if spec.family == "timm" else options.arch
        require(
            not name or name.rpartition(":")[2].isupper() or bool(timm.published(name)),
            "timm must have the network",
            name,
        )


def check_spelling(text: str) -> None:
    """A backbone or an image set, of a family that may be both."""
    try:
        check_backbone(text)
    except VitalsError:
        if text.partition(":")[0] not in registry.names("datasets"):
            raise
        check_images(text)


def check_plan(plan: request.Plan) -> None:
    """The names in a request."""
    for spelling in plan.backbones:
        check_backbone(spelling)
    for spelling in plan.sets:
        check_images(spelling)
    for section in plan.studies:
        known = section.name.endswith(".py") or section.name in study.names()
        require(known, "A study must exist", section.name, near(section.name, study.names()))


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """What a command is given: parameter -> value.

    Raises:
        CycloptsError, VitalsError: an unknown command or flag, a value of another kind.
    """
    _, bound, _ = app.parse_args(filled(words), exit_on_error=False, print_error=False)
    return bound.arguments


def asked(words: Sequence[str], folder: Path) -> request.Plan | None:
    """The request of `vitals audit`, `plan` or `run`; of `run` where it names a plan file."""
    given = parsed(words)
    if words[0] == "audit":
        return given["choices"].plan(given["backbones"]) if "choices" in given else None
    (what, *more) = given.get("what", ()) if words[0] == "plan" else (str(given["what"]),)
    if str(what).endswith(".toml"):
        place = next((place for place in (folder, ROOT) if (place / what).is_file()), None)
        require(place is not None, "A plan file must be in the repository or on the page", what)
        return plan_file.read(place / what)
    return given["choices"].plan((what, *more)) if words[0] == "plan" else None


def check_vitals(words: Sequence[str], folder: Path) -> None:
    """A call of `vitals`: it parses, and what it names exists.

    Raises:
        CycloptsError, VitalsError: what does not.
    """
    given = parsed(words)
    if words[0] in ("audit", "plan", "run") and (plan := asked(words, folder)) is not None:
        check_plan(plan)
    elif words[0] == "show":
        require(given["kind"] in KINDS, "`vitals show` must know", given["kind"], near(given["kind"], KINDS))
        for spelling in given["model"]:
            check_backbone(spelling)
    elif words[0] == "train":
        made = recipe.asked(given["recipe"], given.get("settings", ()), data=given.get("data"), test=given.get("test"))
        for spelling in filter(None, (made.model, made.teacher, made.start)):
            kind, _, name = spelling.partition(":")
            recipe.load_recipe(name) if kind == "recipe" else check_backbone(spelling)
        for spelling in filter(None, (given.get("data"), given.get("test"))):
            check_images(spelling)
    elif words[0] == "stylize":
        check_images(given["data"])
    check_metric(given.get("metric"), given.get("study"))


def check_metric(metric: str | None, name: str | None) -> None:
    """Of `vitals table`: the study measures it, or it is computed from answers."""
    require(name is None or name in study.names(), "`--study` must exist", name, near(str(name), study.names()))
    known = {m for each in ([name] if name else study.names()) for m in study.load(each).metrics} | set(METRICS)
    require(metric is None or metric in known, "`--metric` must exist", metric, near(str(metric), known))


def check_mention(text: str) -> None:
    """A command in a sentence, which may leave out what must be there: the command, its flags, and the names of metrics and studies exist."""
    _, command, *rest = filled(shlex.split(re.sub(r"[][|]|\(.*?\)", " ", text.replace("\\|", " "))))
    require(command in app, "`vitals` must have the command", command, near(command, [n for n in app if n[0] != "-"]))
    known = {name for argument in app[command].assemble_argument_collection() for name in argument.names}
    for word in rest:
        flag = word.partition("=")[0]
        require(not word.startswith("--") or flag in known, f"`vitals {command}` must have", flag, near(flag, known))
    values = {flag: value for flag, value in itertools.pairwise(rest) if not value.isupper()}
    if "--studies" in values:
        request.sections(values["--studies"])
    check_metric(values.get("--metric"), values.get("--study"))


def check_other(words: Sequence[str]) -> None:
    """A call of another program: scripts and their flags, targets of `make`, extras of `pip`, and Python in a word exist."""
    program, *rest = words
    if program in ("python", "python3") and rest[:1] == ["-c"]:
        check_python(rest[1], {})
    elif program in ("python", "python3", "torchrun") and (script := next((w for w in rest if w.endswith(".py")), "")):
        require((ROOT / script).is_file(), "A script must exist", script)
        written = {
            n.value for n in ast.walk(ast.parse((ROOT / script).read_text("utf-8"))) if isinstance(n, ast.Constant)
        }
        for flag in (word.partition("=")[0] for word in rest[rest.index(script) :] if word.startswith("--")):
            require(flag in written, f"{script} must read", flag)
    elif program == "make":
        made = (ROOT / "Makefile").read_text(encoding="utf-8")
        for word in rest:
            at = rf"^{re.escape(word.partition('=')[0])} *{re.escape('?=') if '=' in word else ':'}"
            require(re.search(at, made, flags=re.MULTILINE) is not None, "The Makefile must have", word)
    elif program in ("pip", "uv"):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        extras = [extra for word in rest for extra in re.findall(r"(?:visionvitals|^\.)\[([\w,]+)\]", word)]
        extras += [value for flag, value in itertools.pairwise(rest) if flag == "--extra"]
        for extra in (each for text in extras for each in text.split(",")):
            require(extra in project["project"]["optional-dependencies"], "pyproject.toml must have the extra", extra)


def check(call: Call, folder: Path) -> None:
    """One call.

    Raises:
        VitalsError: what does not exist any more, with where it stands.
    """
    program, *words = call.words
    try:
        check_vitals(words, folder) if program == "vitals" else check_other(call.words)
    except (CycloptsError, VitalsError, SyntaxError, AttributeError, ImportError) as error:
        raise VitalsError(f"line {call.block.line}: {shlex.join(call.words)}\n{error}") from error


def check_toml(text: str, folder: Path) -> None:
    """A plan or a file of rules, by its reader."""
    (folder / "shown.toml").write_text(text, encoding="utf-8")
    if "[[rule]]" in text:
        rules.read(folder / "shown.toml", {name: study.load(name) for name in study.names()})
    else:
        check_plan(plan_file.read(folder / "shown.toml"))


_UNKNOWN = object()


def check_python(source: str, names: dict[str, Any]) -> None:
    """It compiles, what it imports is there, and so is each attribute and keyword of what comes from this project; `names` keeps what it binds.

    Raises:
        SyntaxError, ImportError, AttributeError, VitalsError.
    """
    for node in ast.parse(source).body:
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and re.match(r"(timm|tiny|torchvision|checkpoint):", str(part.value)):
                check_backbone(part.value)
            if isinstance(part, ast.Import | ast.ImportFrom) and " my_" not in ast.unparse(part):  # the reader's own
                exec(ast.unparse(part), names)
            elif isinstance(part, ast.Attribute | ast.Call):
                _resolved(part, names)
        if isinstance(node, ast.Assign):
            names.update({t.id: _resolved(node.value, names) for t in node.targets if isinstance(t, ast.Name)})


def _resolved(node: ast.AST, names: dict[str, Any]) -> Any:
    """What an expression is where this project says it: a module, a function, or a class in place of its instance."""
    if isinstance(node, ast.Name):
        return names.get(node.id, _UNKNOWN)
    if not isinstance(node, ast.Attribute | ast.Call):
        return _UNKNOWN
    before = _resolved(node.value if isinstance(node, ast.Attribute) else node.func, names)
    ours = getattr(before, "__module__", getattr(before, "__name__", None))
    if not str(ours).startswith("visionvitals"):
        return _UNKNOWN
    if isinstance(node, ast.Attribute):
        field = node.attr in getattr(before, "__dataclass_fields__", ())
        return _UNKNOWN if field else getattr(before, node.attr)
    signature = inspect.signature(before)
    if all(p.kind is not p.VAR_KEYWORD for p in signature.parameters.values()):
        for given in node.keywords:
            known = given.arg in (None, *signature.parameters)
            require(known, "An argument must exist", given.arg, near(str(given.arg), signature.parameters))
    made = before if isinstance(before, type) else signature.return_annotation
    return made if isinstance(made, type) else _UNKNOWN
