"""Nothing on the page runs off it, from a phone to a wide screen."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from made_report import make_verification

from dcpt.decide.records import Recommendation
from dcpt.laws.fits.result import Fit
from dcpt.report.page import write_report

WIDTHS = (360, 768, 1024, 1440, 1920)

MEASURE = """
<script>
addEventListener("load", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
  const page = document.documentElement;
  const scrolled = [...document.querySelectorAll(".scroll")]
    .filter((box) => box.scrollWidth > box.clientWidth + 1)
    .map((box) => box.getAttribute("aria-label"));
  const answer = document.querySelector(".tiles").getBoundingClientRect().bottom;
  const found = { width: page.clientWidth, page: page.scrollWidth, scrolled, answer };
  parent.postMessage(found, "*");
});
</script>
"""

FRAMES = """
<body><pre id="found"></pre>
<script>
addEventListener("message", (event) => {
  document.getElementById("found").textContent += JSON.stringify(event.data) + "\\n";
});
</script>
"""


@pytest.fixture(scope="module")
def measured(
    fit: Fit,
    runs: pd.DataFrame,
    recommendation: Recommendation,
    browse: Callable[[Path], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[int, dict]:
    """What a browser measures at each width."""
    folder = tmp_path_factory.mktemp("widths")
    page = write_report(
        folder,
        runs=runs,
        fit=fit,
        recommendation=recommendation,
        verification=make_verification(missed=True),
        title="Verse",
    )[0]
    probe, frames = folder / "probe.html", folder / "frames.html"
    probe.write_text(page.read_text("utf-8").replace("</body>", MEASURE + "</body>"), "utf-8")
    boxes = [
        f'<iframe src="probe.html" width="{w}" height="740" style="border: 0">' for w in WIDTHS
    ]
    frames.write_text(FRAMES + "</iframe>".join(boxes) + "</iframe></body>", "utf-8")
    found = re.search(r'<pre id="found">(.*?)</pre>', browse(frames), re.DOTALL)
    assert found is not None
    records = [json.loads(line) for line in found[1].replace("&gt;", ">").splitlines()]
    return {record["width"]: record for record in records}


def test_no_table_runs_off_the_page(measured: dict[int, dict]) -> None:
    assert sorted(measured) == sorted(WIDTHS)
    for width, found in measured.items():
        assert found["page"] == width
        assert found["scrolled"] == [], width


def test_the_answer_its_odds_and_its_price_are_on_the_first_screen(
    measured: dict[int, dict],
) -> None:
    # 740 is the height of a small phone, 800 that of a small laptop without the browser's bars.
    assert all(found["answer"] < 740 for found in measured.values())
