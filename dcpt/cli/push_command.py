"""``dcpt push``: a fit and its answer in a repository of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from dcpt.cli.options import Json, OwnLaws, Place
from dcpt.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from dcpt.pipeline.hub import HubRepo


class RepoType(StrEnum):
    """Kinds of repositories."""

    MODEL = "model"
    DATASET = "dataset"


def push(
    place: Place,
    repo: Annotated[str, typer.Argument(help="The repository, as owner/name.")],
    repo_type: Annotated[RepoType, typer.Option(help="Kind of repository.")] = RepoType.MODEL,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Send without asking.")] = False,
    law: OwnLaws = None,
    json: Json = False,
) -> None:
    """Send a fit, its runs, the report and a card to a hub.

    It shows what will be sent and asks first. Texts and run folders are never sent.

    Example: dcpt push study.yaml me/law-share --private
    """
    from dcpt.cli.console import as_json, open_console
    from dcpt.pipeline.hub import check_ready, find_repo, send_files
    from dcpt.pipeline.push import pack_fit
    from dcpt.pipeline.workspace import open_place

    if json and not yes:
        raise InputError("--json: dcpt push asks before it sends; give --yes too")
    check_ready(repo)
    files = pack_fit(open_place(place), repo, repo_type.value, law or ())
    found = find_repo(repo, repo_type.value, private=private, files=files)
    if not json:
        show_files(open_console(), found, files)
    if not yes and not _is_confirmed():
        typer.echo("nothing was sent")
        return
    address = send_files(found, files, "Fit, runs table and report, sent by dcpt push")
    typer.echo(as_json({"repo": address, "files": list(files)}) if json else f"sent to {address}")


def show_files(console: Console, repo: HubRepo, files: Mapping[str, bytes]) -> None:
    """Print what will be sent where, with sizes."""
    from dcpt.cli.console import make_table, print_line
    from dcpt.quantities import count_things

    rows = [
        (name, f"{len(content):,}", "replaced" if name in repo.replaced else "")
        for name, content in files.items()
    ]
    seen = {None: "as its owner's settings say", True: "private", False: "public"}
    state = "existing" if repo.exists else "new"
    place = f"to the {state} {repo.repo_type} repository {repo.name} ({seen[repo.is_private]})"
    print_line(
        console,
        f"{count_things(len(files), 'file')}, {sum(map(len, files.values())):,} bytes, {place}",
    )
    console.print(make_table("", ("file", "bytes", ""), rows))


def _is_confirmed() -> bool:
    try:
        return typer.confirm("Send these files?")
    except typer.Abort:
        raise InputError("nothing was sent: nobody answered; give --yes") from None
