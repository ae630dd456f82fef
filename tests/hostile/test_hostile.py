"""A seeded tenth of the hostile cases, and a few kills; `make hostile` runs all of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SEED = os.environ.get("VISIONVITALS_HOSTILE_SEED", "0")


def script(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=HERE, capture_output=True, text=True, timeout=1000)


@pytest.mark.slow
@pytest.mark.timeout(1100)
@pytest.mark.skipif(os.name != "posix", reason="FIFOs, limits of files and kill -9 are of posix")
def test_a_tenth_of_the_hostile_cases_ends_by_success_or_one_clear_line() -> None:
    done = script("run.py", "--tenth", SEED)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2_000:]


@pytest.mark.slow
@pytest.mark.timeout(1100)
@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a posix signal")
def test_a_killed_run_ends_with_the_same_rows() -> None:
    done = script("kills.py", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr[-2_000:]


@pytest.mark.slow
@pytest.mark.timeout(1100)
@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a posix signal")
def test_killed_shares_of_a_run_end_with_the_same_rows() -> None:
    done = script("kill_shares.py", "--tenth", "--seed", SEED)
    assert done.returncode == 0, done.stdout + done.stderr[-2_000:]


def test_the_cases_are_many_and_the_same_every_time() -> None:
    """At least 700, every name once; a tenth is the same for the same seed."""
    sys.path.insert(0, str(HERE))
    try:
        from cases import generate, tenth
    finally:
        sys.path.remove(str(HERE))
    cases = generate()
    names = [case.name for case in cases]
    assert len(names) == len(set(names)) >= 700
    assert names == [case.name for case in generate()]
    assert tenth(cases, 3) == tenth(cases, 3) != tenth(cases, 4)
