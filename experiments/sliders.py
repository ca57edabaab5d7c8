"""Do the sliders of the page say what ``dcpt recommend`` says, and how fast do they move?

Hypothesis: at 200 random positions the share is within 0.005 and the losses are within 0.001 nats
of a recommendation for that very target; the page is smaller than 5 MB and a move takes less than
100 ms.

The page of the bundled runs (29.1M parameters, 44M tokens, +3 %) is opened in a browser without a
window. A script moves the sliders, as a person does, and reads the answer. Python answers the same
targets with ``dcpt.recommend``.

    python experiments/sliders.py --browser chromium

About 2 CPU minutes; the page is ``sliders.md``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pages import markdown

import dcpt
from dcpt.decide.settings import Settings, answer_settings
from dcpt.report.page import write_report

ASK = """<script>
const said = [], times = [];
for (const position of POSITIONS) {
  for (const [name, value] of Object.entries(position)) {
    const input = document.getElementById("slider-" + name);
    const began = performance.now();
    input.value = value;
    input.dispatchEvent(new Event("input"));
    document.body.getBoundingClientRect();
    times.push(performance.now() - began);
  }
  said.push({ ...document.querySelector("#what-if-answer .verdict").dataset });
}
const box = document.createElement("pre");
box.id = "said";
box.textContent = JSON.stringify({ said, times });
document.body.append(box);
</script>"""


def main() -> None:
    """Write the page, ask the browser and Python, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browser", default="chromium")
    parser.add_argument("--positions", type=int, default=200)
    options = parser.parse_args()
    runs = dcpt.bundled_runs("zh_annealed")
    fit = dcpt.fit(runs)
    target = dcpt.Target(
        29_100_000,
        44_000_000,
        dcpt.Limit.parse("+3%"),
        base_losses={"general": 2.775},
        base_peak_learning_rate=1e-3,
    )
    answer = dcpt.recommend(fit, target)
    began = time.process_time()
    settings = answer_settings(fit, answer)
    seconds = time.process_time() - began
    with tempfile.TemporaryDirectory() as folder:
        page = write_report(
            folder,
            runs=runs,
            fit=fit,
            recommendation=answer,
            settings=settings,
            title="Chinese verse",
        )[0]
        places = draw_positions(settings, options.positions)
        found = ask_browser(page, options.browser, [place for place, _ in places])
        size = page.stat().st_size
    differences = [
        compare(fit, asked, said) for (_, asked), said in zip(places, found["said"], strict=True)
    ]
    Path(__file__).with_suffix(".md").write_text(
        describe(differences, found["times"], size, seconds, settings), "utf-8"
    )


def draw_positions(settings: Settings, count: int) -> list[tuple[dict[str, int], dcpt.Target]]:
    """Random positions, each with its target."""
    rng, stops = np.random.default_rng(1), settings.stops
    places = []
    for _ in range(count):
        sizes = settings.cells, stops.limits, stops.confidences
        cell, limit, odds = (int(rng.integers(len(of))) for of in sizes)
        size, tokens = divmod(cell, len(stops.n_tokens))
        asked = replace(
            settings.cells[cell].target,
            limit=stops.limits[limit],
            confidence=stops.confidences[odds],
        )
        place = {"n_params": size, "n_tokens": tokens, "limit": limit, "confidence": odds}
        places.append((place, asked))
    return places


def ask_browser(page: Path, browser: str, places: list[dict[str, int]]) -> dict[str, Any]:
    """What the page says at the positions, and how long each move took, in ms."""
    script = ASK.replace("POSITIONS", json.dumps(places))
    copy = page.with_name("asked.html")
    copy.write_text(page.read_text("utf-8").replace("</body>", script + "</body>"), "utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    flags.append(f"--user-data-dir={page.parent / 'profile'}")
    dumped = subprocess.run(
        [browser, *flags, copy.as_uri()], check=True, capture_output=True, text=True
    ).stdout
    found = re.search(r'<pre id="said">(.*?)</pre>', dumped, re.DOTALL)
    assert found is not None
    answers: dict[str, Any] = json.loads(found[1])
    return answers


def compare(fit: Any, asked: dcpt.Target, said: dict[str, str]) -> dict[str, float] | None:
    """Differences of the page from Python where Python knows a number; None without a share."""
    best = dcpt.recommend(fit, asked)
    if best.best is None:
        assert not said, (asked, said)
        return None
    interval = best.ratio_interval
    expected: dict[str, float | None] = {
        "share": best.best.ratio,
        "share_low": interval.low,
        "share_high": interval.high,
    }
    for side in ("general", "domain"):
        loss = best.best.losses[side]
        expected |= {side: loss.value, f"{side}_low": loss.low, f"{side}_high": loss.high}
    return {
        name: abs(float(said[name]) - value)
        for name, value in expected.items()
        if value is not None
    }


def describe(
    differences: list[dict[str, float] | None],
    times: list[float],
    size: int,
    seconds: float,
    settings: Settings,
) -> str:
    """The page of the experiment."""
    known = [difference for difference in differences if difference is not None]
    positions = sum(len(row) for cell in settings.cells for row in cell.answers)
    names = list(dict.fromkeys(name for difference in known for name in difference))
    values = {name: [d[name] for d in known if name in d] for name in names}
    rows = [
        [name.replace("_", ", "), f"{np.median(of):.1e}", f"{max(of):.1e}"]
        for name, of in values.items()
    ]
    none = len(differences) - len(known)
    about_page = (
        f"The page has {positions:,} positions\nand {size / 1e6:.1f} MB; its answers took "
        f"{seconds:.0f} CPU s."
    )
    slow, slowest = np.quantile(times, 0.99), max(times)
    return (
        "# The sliders of the page against Python\n\n"
        "Written by `python experiments/sliders.py`; its docstring states the question. "
        f"{about_page}\nOf {len(differences)} random positions, {none} have no share within the "
        "limit, on the page as in\nPython. At the others, the differences (shares, and nats per "
        "token) are:\n\n"
        + markdown(["number", "median", "largest"], rows)
        + "Draws of the two-level model depend on the points that are asked for together, so the "
        "ends of\nintervals differ more than the values.\n\n"
        f"A move took {np.median(times):.1f} ms (median of {len(times)}), at most {slow:.0f} ms in "
        f"99 % of the moves and {slowest:.0f} ms\nin all, on 2 cores of a shared machine.\n"
    )


if __name__ == "__main__":
    main()
