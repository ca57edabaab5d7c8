"""What a hub repository gets of a fit: the fit, its runs, the answer, the report and a card."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dcpt.pipeline.answer import FIT_FILES, report_on
from dcpt.pipeline.hub import RepoType
from dcpt.pipeline.workspace import Place, fit_folder


def pack_fit(
    place: Place, repo: str, repo_type: RepoType, laws: Sequence[str] = ()
) -> dict[str, bytes]:
    """Collect the files to send. The report is written again, and texts are never among them.

    Args:
        place: A study, or a folder of a fit.
        repo: Owner and name of the repository.
        repo_type: Kind of repository.
        laws: A person's own laws in the fit.

    Returns:
        The content of each file by its path in the repository.

    Raises:
        InputError: As :func:`dcpt.pipeline.answer.report_on`, such as if the recommendation is
            older than the fit.
    """
    from dcpt.decide import read_recommendation, read_verification
    from dcpt.report.card import render_card

    folder = fit_folder(place)
    with tempfile.TemporaryDirectory() as scratch:
        pages = report_on(place, out=Path(scratch), laws=laws)
        files = {f"report/{page.name}": page.read_bytes() for page in pages}
    record = json.loads(files["report/report.json"])
    # The report leaves out what was measured at another recommendation.
    checked = None if record["verification"] is None else read_verification(folder)
    names = [*FIT_FILES, "recommendation.json", *([] if checked is None else ["verification.json"])]
    files = {name: (folder / name).read_bytes() for name in names} | files
    card = render_card(
        record["title"],
        read_recommendation(folder),
        checked,
        repo=repo,
        repo_type=repo_type,
        files=[*files],
        laws=laws,
    )
    return {"README.md": card.encode(), **files}
