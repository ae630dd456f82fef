"""Weights that must be fetched: look into the cache first, ask once whether the host answers, and fail within seconds.

Left to themselves, the hub's libraries try for a minute and name neither the model nor the host.
"""

import functools
import queue
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import torch
from huggingface_hub import constants, try_to_load_from_cache

from visionvitals.errors import VitalsError

TIMEOUT = 3.0
"""Seconds that a host, or the proxy before it, has to accept a connection."""


def cached(repo: str, *names: str) -> Path | None:
    """The first of the files that the local cache of the hub holds, or None. `repo` may end in `@revision`."""
    repo, _, revision = repo.partition("@")
    for name in names:
        found = try_to_load_from_cache(repo, name, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    return None


def hub_url(repo: str = "") -> str:
    """Address of a repository on the hub that the environment names."""
    return f"{constants.ENDPOINT.rstrip('/')}/{repo.partition('@')[0]}"


def hub_cache() -> str:
    """Where the hub's library keeps its files."""
    return str(constants.HF_HUB_CACHE)


def no_answer(url: str) -> str | None:
    """Why the host of `url` cannot be reached, or None if it answers; asked once in a process.

    Obeys HF_HUB_OFFLINE for the hub, and connects to the proxy where the environment sets one.
    """
    if constants.HF_HUB_OFFLINE and url.startswith(hub_url()):
        return "HF_HUB_OFFLINE is set"
    target = urlsplit(url)
    proxy = None if proxy_bypass(target.hostname or "") else getproxies().get(target.scheme, getproxies().get("all"))
    if proxy:
        target = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return _connect(target.hostname or "", target.port or (80 if target.scheme == "http" else 443))


@functools.cache
def _connect(host: str, port: int) -> str | None:
    answers: queue.Queue[str | None] = queue.Queue()

    def attempt() -> None:
        try:
            socket.create_connection((host, port), timeout=TIMEOUT).close()
            answers.put(None)
        except OSError as error:
            answers.put(f"{host}:{port} does not answer: {error}")

    # A thread, because looking up a name knows no timeout; a daemon, so that it cannot hold up the end of the process.
    threading.Thread(target=attempt, daemon=True).start()
    try:
        return answers.get(timeout=TIMEOUT + 0.5)
    except queue.Empty:
        return f"{host}:{port} does not answer within {TIMEOUT:g} s"


def downloaded(url: str, *, name: str, file_way: str, spelling_way: str, hash_prefix: str | None = None) -> Path:
    """A published file in torch's own cache, downloaded if it is not there.

    Args:
        url: where it is published.
        name, file_way, spelling_way: see `cannot_fetch`.
        hash_prefix: the beginning of its sha256, where the publisher says it.

    Raises:
        VitalsError: its host does not answer, or the download fails.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(url).name
    if path.is_file():
        return path
    reason = no_answer(url)
    if reason is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=hash_prefix, progress=False)
            return path
        except (OSError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {error}"
    raise cannot_fetch(name, source=url, cache=str(folder), reason=reason, file_way=file_way, spelling_way=spelling_way)


def cannot_fetch(name: str, *, source: str, cache: str, reason: str, file_way: str, spelling_way: str) -> VitalsError:
    """The one error for weights that are neither here nor within reach: model, source, cache, and the three ways out."""
    return VitalsError(
        f"The weights of `{name}` are not on this machine and cannot be fetched.\n"
        f"  source: {source}\n"
        f"  reason: {reason}\n"
        f"  cache:  {cache}\n"
        f"Three ways out: (1) a local file: {file_way}; (2) the environment: HF_HOME or TORCH_HOME for a folder that holds the "
        f"weights, HF_ENDPOINT for a mirror, HTTPS_PROXY for a proxy; (3) another spelling: {spelling_way}."
    )
