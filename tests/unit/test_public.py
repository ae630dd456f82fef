"""Every public name says what it is, with an example that holds."""

import doctest
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import visionvitals as vv

SOURCE = Path(vv.__file__).parent
EXAMPLES = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the examples take for granted: the package, a folder, and a run of the embedded networks."""
    folder = tmp_path_factory.mktemp("examples")
    names = {"studies": ["clean", "occlusion"], "preset": "quick", "data": "shapes:test?n=24", "device": "cpu"}
    run = vv.audit(["tiny:vit", "tiny:cnn"], out=folder / "run", **names)  # type: ignore[arg-type]
    return {"vv": vv, "folder": folder, "run": run}


def run_examples(found: list[doctest.DocTest]) -> int:
    runner = doctest.DocTestRunner(optionflags=EXAMPLES)
    said: list[str] = []
    for test in found:
        runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)
    return runner.tries


def test_what_is_public_is_listed() -> None:
    here = {name for name, value in vars(vv).items() if not name.startswith("_") and not isinstance(value, ModuleType)}
    assert here == set(vv.__all__)


@pytest.mark.parametrize("name", vv.__all__)
def test_every_public_name_has_an_example_that_holds(name: str, around: dict[str, object]) -> None:
    one = getattr(vv, name)
    if name == "Batch":  # its example goes on from that of `Job`
        finder = doctest.DocTestFinder(recurse=False)
        job = finder.find(vv.Job, "Job", globs=dict(around))[0]
        batch = finder.find(one, name)[0]
        job.examples += batch.examples
        assert run_examples([job]) > 0
        return
    own = [(name, one)]
    if name == "Run":
        own += [
            (f"Run.{key}", value) for key, value in vars(one).items() if not key.startswith("_") and key != "folder"
        ]
    for title, each in own:
        found = doctest.DocTestFinder(recurse=False).find(each, title, globs=dict(around))
        assert found, f"{title} has no docstring"
        assert found[0].examples, f"{title} has no example"
        assert run_examples(found) > 0
        told = inspect.getdoc(each) or ""
        if inspect.isfunction(each):
            parameters = set(inspect.signature(each).parameters) - {"self"}
            assert all(key in told for key in parameters), f"{title} must say what {parameters} are"


def test_the_examples_of_all_modules_hold() -> None:
    """Of every docstring outside the public names, whose examples stand alone."""
    public = {inspect.getsourcefile(getattr(vv, name)) for name in vv.__all__}
    tries = 0
    for path in sorted(SOURCE.rglob("*.py")):
        if ">>>" in path.read_text(encoding="utf-8") and str(path) not in public:
            module = importlib.import_module(
                ".".join(("visionvitals", *path.relative_to(SOURCE).with_suffix("").parts))
            )
            tries += run_examples(doctest.DocTestFinder().find(module))
    assert tries > 20
