from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from made_report import make_recommendation, make_verification
from matplotlib.figure import Figure

from dcpt.decide.records import Interval
from dcpt.report.decision_figures import (
    frontier_at,
    plot_frontier,
    plot_trade_off,
    plot_verification,
)
from dcpt.report.fit_figures import loss_panels, plot_loss_curves
from dcpt.report.line_labels import WIDTH, place_labels
from dcpt.report.residual_figures import plot_predicted_measured
from dcpt.report.theme import COLOURS, number_ids, scale_roles, to_svg


def axes_of(count: int) -> list:
    figure = Figure()
    return [figure.add_subplot(1, count, i + 1) for i in range(count)]


def words_in(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    return " ".join(text.get_text() for ax in figure.axes for text in ax.texts)


def test_every_figure_draws_on_its_own_figure_and_on_given_axes(runs, fit, recommendation):
    verification = make_verification(missed=True)
    for draw, arguments, count in (
        (plot_trade_off, (recommendation,), 2),
        (plot_loss_curves, (fit, runs, "general"), 4),
        (plot_predicted_measured, (fit, runs), 2),
        (plot_verification, (verification,), 2),
    ):
        alone = draw(*arguments)
        assert len(alone.axes) == count
        words_in(alone)
        given = axes_of(count)
        assert draw(*arguments, axes=given) is given[0].figure
        assert all(ax.lines for ax in given)
    (ax,) = axes_of(1)
    assert plot_frontier(recommendation, ax=ax) is ax.figure
    assert len(plot_frontier(recommendation).axes) == 1


def test_trade_off_marks_limit_share_and_interval(recommendation):
    figure = plot_trade_off(recommendation)
    assert "limit +3%" in words_in(figure)
    assert "r* 31.2 %" in words_in(figure)
    rise, cost = figure.axes
    heights = {float(line.get_ydata()[0]) for line in rise.lines}
    assert any(np.isclose(height, 0.03 * 2.775) for height in heights)
    for ax in (rise, cost):
        (strip,) = list(ax.patches)
        assert strip.get_x() == pytest.approx(24.1)
        assert strip.get_x() + strip.get_width() == pytest.approx(39.3)


def test_trade_off_uses_the_recommended_learning_rate(recommendation):
    assert frontier_at(recommendation).learning_rate == 6.4e-4
    moved = replace(recommendation, best=replace(recommendation.best, learning_rate=3e-4))
    assert frontier_at(moved).learning_rate == 3e-4


def test_figures_of_no_recommendation_draw_without_a_marked_share():
    nothing = make_recommendation(ratio=None)
    assert "r*" not in words_in(plot_trade_off(nothing))
    assert "limit" in words_in(plot_frontier(nothing))
    bare = replace(nothing, frontiers=[])
    words_in(plot_trade_off(bare))
    words_in(plot_frontier(bare))


def test_figures_draw_where_no_learning_rate_is_known(recommendation):
    unknown = replace(
        recommendation,
        best=replace(recommendation.best, learning_rate=None),
        frontiers=[replace(recommendation.frontiers[0], learning_rate=None)],
        ratio_interval=Interval(0.3127, None, None),
    )
    for figure in (plot_trade_off(unknown), plot_frontier(unknown)):
        assert "None" not in words_in(figure)
        assert "nan" not in words_in(figure)


def test_verification_names_a_miss_in_the_figure():
    assert words_in(plot_verification(make_verification(missed=True))).count("MISS") == 1
    assert "MISS" not in words_in(plot_verification(make_verification(missed=False)))


def test_panels_hold_every_fitted_point_once_and_the_law_near_it(runs, fit):
    panels = loss_panels(fit, runs, "general")
    assert [(p.n_params, p.learning_rate) for p in panels] == [
        (1.8e6, 3e-4),
        (1.8e6, 9e-4),
        (6.6e6, 3e-4),
        (6.6e6, 9e-4),
    ]
    curves = [curve for panel in panels for curve in panel.curves]
    assert [curve.ratio for curve in panels[0].curves] == [0.1, 0.5, 0.9]
    constant = sum(curve.losses.size for curve in curves)
    assert constant == ((runs["phase"] == "constant") & (runs["n_tokens"] > 1e6)).sum()
    assert sum(curve.annealed_losses.size for curve in curves) == 12
    for curve in curves:
        at_points = np.interp(curve.n_tokens, curve.line_n_tokens, curve.line)
        assert np.abs(at_points - curve.losses).max() < 0.05
        assert np.abs(curve.annealed_law - curve.annealed_losses).max() < 0.05


def test_scale_keeps_the_order_and_spans_the_palette():
    roles = scale_roles([0.9, 0.1, 0.5, 0.1])
    assert roles == {0.1: "s0", 0.5: "s4", 0.9: "s8"}
    assert scale_roles([None]) == {None: "s0"}
    assert len(scale_roles([i / 20 for i in range(20)])) == 20


def test_svg_follows_the_page(recommendation):
    svg = number_ids(to_svg(plot_trade_off(recommendation), 'a <label> "quoted"'), 7)
    assert "#" not in svg.replace("url(#f7-", "").replace('href="#f7-', "")
    assert svg.count(' id="f7-') == svg.count(' id="') > 0
    assert "var(--general)" in svg
    assert "DejaVu" not in svg
    assert "<text" in svg
    assert "&lt;label&gt; &quot;quoted&quot;" in svg


def contrast(first: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_and_lines_have_enough_contrast(mode):
    paper = getattr(COLOURS["paper"], mode)
    for role, colour in COLOURS.items():
        if role not in ("paper", "rule"):
            needed = 3.0 if role.startswith("s") else 4.5
            assert contrast(getattr(colour, mode), paper) >= needed, role
    assert len({colour.light for colour in COLOURS.values()}) == len(COLOURS)


def test_labels_stand_on_their_own_lines_and_apart():
    ax = Figure().add_subplot()
    ax.set_xlim(0, 10)
    ax.set_ylim(0, 10)
    x = np.linspace(0, 10, 21)
    lines = [(x, x), (x, 0.8 * x), (x, x**2 / 10), (x, np.full(21, 20.0))]
    places = np.array(place_labels(ax, lines))
    for (x_0, y_0), slope in zip(places[:2], (1.0, 0.8), strict=True):
        assert y_0 == pytest.approx(slope * x_0)
    assert np.isnan(places[3]).all()
    for i, j in ((0, 1), (0, 2), (1, 2)):
        gap = np.abs(places[i] - places[j])
        assert gap[0] > 10 * WIDTH or gap[1] > 10 * WIDTH / 3
