"""A repository of the Hugging Face Hub, or of a server that speaks its API (``HF_ENDPOINT``)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from dcpt.errors import InputError

RepoType = Literal["model", "dataset"]

_ANSWER_S = 20.0
"""Seconds that the hub may take for its first answer."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)

_SHOWN = 3


@dataclass(frozen=True)
class HubRepo:
    """A repository that files may be sent to.

    Args:
        name: Owner and name.
        repo_type: Kind of repository.
        is_private: Whether it is private, or will be; None leaves it to the owner's settings.
        exists: Whether it exists.
        replaced: Its files that would be replaced.
    """

    name: str
    repo_type: RepoType
    is_private: bool | None
    exists: bool
    replaced: list[str]


def check_ready(name: str) -> None:
    """Check what is needed before anything is sent, without the network.

    Args:
        name: Owner and name of a repository.

    Raises:
        InputError: If the name is wrong, the library is missing, or there is no token.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{name} is not a repository; write it as owner/name")
    try:
        from huggingface_hub import get_token
    except ImportError:
        raise InputError(
            "huggingface_hub is missing; install it with `pip install huggingface_hub`"
        ) from None
    if get_token() is None:
        raise InputError("there is no token for the hub; run `hf auth login`, or set HF_TOKEN")


def find_repo(name: str, repo_type: RepoType, *, private: bool, files: Collection[str]) -> HubRepo:
    """Look up a repository, and check that files may be sent to it; changes nothing.

    Args:
        name: Owner and name.
        repo_type: Kind of repository.
        private: Whether a new repository is to be private.
        files: The files to send.

    Raises:
        InputError: If the hub does not answer, or the repository holds other files.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    with _explained(name):
        try:
            api = HfApi()
            look_up = api.model_info if repo_type == "model" else api.dataset_info
            found = look_up(name, timeout=_ANSWER_S)
        except RepositoryNotFoundError as error:
            if error.response.status_code != 404:  # 401: a wrong token, or another's repository
                raise
            return HubRepo(name, repo_type, private or None, False, [])
    held = {file.rfilename for file in found.siblings or ()} - {".gitattributes"}
    _check_own(name, held, files)
    if private and not found.private:
        raise InputError(
            f"{name} exists and is public; make it private on the hub, or leave out --private"
        )
    return HubRepo(name, repo_type, found.private, True, sorted(held & set(files)))


def send_files(repo: HubRepo, files: Mapping[str, bytes], message: str) -> str:
    """Send files in one commit, creating the repository if needed; returns its address.

    Raises:
        InputError: If the hub refuses, or does not answer.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    with _explained(repo.name):
        if not repo.exists:
            api.create_repo(repo.name, repo_type=repo.repo_type, private=repo.is_private)
        added = [CommitOperationAdd(path, content) for path, content in files.items()]
        done = api.create_commit(repo.name, added, commit_message=message, repo_type=repo.repo_type)
        return str(done.repo_url)


def _check_own(name: str, held: set[str], files: Collection[str]) -> None:
    """Refuse a repository with files that are not of an earlier push."""
    others = sorted(held - set(files))
    if held and "recommendation.json" not in held:
        others = sorted(held)  # such as the card of something else
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        raise InputError(
            f"{name} holds files that dcpt push did not send ({', '.join(others[:_SHOWN])}{more}); "
            "choose another repository"
        )


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn errors of the hub's library into a sentence with a remedy."""
    from huggingface_hub import constants

    try:
        yield
    except Exception as error:
        sentence = _explain(constants.ENDPOINT, name, error)
        if sentence is None:
            raise
        raise InputError(sentence) from None


def _explain(hub: str, name: str, error: BaseException) -> str | None:
    """A sentence about an error of the hub's library; None if it is another error."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
    )

    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it to push"
    if isinstance(error, HFValidationError):
        return f"{name} is not a repository: {_line(error)}"
    if isinstance(error, HfHubHTTPError):
        return _refusal(hub, name, error.response.status_code, error)
    # Without net the library raises errors of httpx or httpx2, by its version.
    if isinstance(error, OSError) or type(error).__module__.startswith("httpx"):
        return (
            f"{hub} cannot be reached ({type(error).__name__}: {_line(error)}); check the network, "
            "and HF_ENDPOINT if it is set"
        )
    if isinstance(error, RuntimeError):  # of an upload; the library gives the reason as its cause
        if error.__cause__ is not None:
            return _explain(hub, name, error.__cause__)
        return (
            f"{hub}: a file of {name} was not uploaded ({_line(error)}); try again, with "
            "HF_HUB_DISABLE_XET=1 if the network blocks the storage of large files"
        )
    return None


def _refusal(hub: str, name: str, code: int, error: Exception) -> str:
    if code == 401:
        return f"{hub} does not accept the token; run `hf auth login`, or set another HF_TOKEN"
    if code == 403:
        return (
            f"{hub}: the token may not write to {name}; take one with write access, or another "
            "owner"
        )
    return (
        f"{hub} refused {name} (HTTP {code}: {_line(error)}); check its name, and try again later"
    )


def _line(error: BaseException) -> str:
    """The first line of an error, without the id of the request."""
    lines = [line for line in str(error).splitlines() if line and "Request ID" not in line]
    return lines[0].rstrip(".")[:150] if lines else type(error).__name__
