"""Where a number came from: versions, commit, machine, settings, command. It goes into every cell, and decides nothing."""

import functools
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import visionvitals
from visionvitals.source import versions

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The facts that repeat a number.

    Attributes:
        versions: of visionvitals, Python and the packages that compute; absent packages are left out.
        commit: of the checkout that visionvitals runs from, or None where it is installed.
        dirty: the checkout differs from that commit.
        platform: operating system and architecture.
        device: kind and name, e.g. `cuda: NVIDIA H200`.
        dtype: of the weights.
        shares: what passes that give only logits left out or shared, equal to the plain pass within 1e-5 (see `core.Backbone.shares`).
        batch_size: images a forward pass, as the run began; a cell that had to halve it says so in its warnings.
        threads: of torch inside one operation.
        command: what the user typed, as words.
        started: of the run, UTC, ISO 8601.
    """

    versions: dict[str, str]
    commit: str | None
    dirty: bool
    platform: str
    device: str
    dtype: str
    shares: tuple[str, ...] = ()
    batch_size: int
    threads: int
    command: tuple[str, ...]
    started: str


def collect(
    *,
    device: "torch.device",
    dtype: "torch.dtype | None",
    batch_size: int,
    command: Sequence[str],
    shares: tuple[str, ...] = (),
) -> Provenance:
    """The provenance of what this process computes from now on."""
    import torch

    commit, dirty = _our_checkout()
    return Provenance(
        versions=versions(),
        commit=commit,
        dirty=dirty,
        platform=platform.platform(),
        device=f"{device.type}: {_device_name(device)}",
        dtype="none" if dtype is None else str(dtype).removeprefix("torch."),
        shares=shares,
        batch_size=batch_size,
        threads=torch.get_num_threads(),
        command=tuple(command),
        started=now(),
    )


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@functools.cache
def _our_checkout() -> tuple[str | None, bool]:
    return checkout(Path(visionvitals.__file__).parent)


def checkout(folder: Path) -> tuple[str | None, bool]:
    """(commit, dirty) of the git checkout that tracks `folder`; (None, False) where none does.

    An environment inside some other project's checkout must not pass that project's commit off as ours, so the folder's own
    `__init__.py` must be tracked.
    """
    git = shutil.which("git")
    if git is None:
        return None, False

    def ask(*words: str) -> str | None:
        assert git is not None
        done = subprocess.run([git, "-C", str(folder), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    if ask("ls-files", "--error-unmatch", "__init__.py") is None:
        return None, False
    return ask("rev-parse", "HEAD"), bool(ask("status", "--porcelain", "--", "."))


def _device_name(device: "torch.device") -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")  # platform.processor() is empty on most Linux systems
    if device.type == "cpu" and cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
