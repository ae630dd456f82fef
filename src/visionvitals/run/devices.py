"""Which device computes, how many images it takes at once, and whether its memory ran out."""

from typing import TYPE_CHECKING

from visionvitals.errors import VitalsError

if TYPE_CHECKING:
    import torch


def choose_device(name: str | None) -> "torch.device":
    """The device of a name such as `cuda:1`, or the best there is.

    Raises:
        VitalsError: no such device on this machine.
    """
    import torch

    if name is None:
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).partition("\n")[0]
        said = "" if first.startswith("Expected one of") else f": {first}"  # torch lists what nobody has
        must = "`--device` must be one of this machine's (cpu, cuda, cuda:N, mps)"
        raise VitalsError(f"{must}. Got {name!r}{said}. Leave it out for the best there is.") from error
    return device


def default_batch_size(device: "torch.device") -> int:
    """128 on a GPU, 32 elsewhere: larger ones are not faster on a CPU."""
    return 128 if device.type == "cuda" else 32


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said)
