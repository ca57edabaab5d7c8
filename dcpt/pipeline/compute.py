"""The best size for a given compute, from the fit of a study or of a fit folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from dcpt.pipeline.answer import TargetFields, read_target
from dcpt.pipeline.target import sized_runs
from dcpt.pipeline.workspace import Place, fit_folder

if TYPE_CHECKING:
    from dcpt.decide.compute import SizeAnswer
    from dcpt.decide.records import Target
    from dcpt.table.base_rows import TableBase


def recommend_size_for(
    place: Place,
    flops: float,
    level: float = 0.9,
    laws: Sequence[str] = (),
    **fields: Unpack[TargetFields],
) -> SizeAnswer:
    """Choose size, tokens, share and rate; writes ``recommendation.json`` of the best size.

    Args:
        place: A study, or a folder of a fit.
        flops: FLOPs of the run: 6 per token and parameter, as the fit counts parameters.
        level: Interval probability.
        laws: A person's own laws in the fit.
        fields: The target apart from its size, tokens and base.

    Raises:
        InputError: If no size can be compared.
    """
    from dcpt.decide import write_recommendation
    from dcpt.decide.compute import recommend_size
    from dcpt.laws import load_fit
    from dcpt.table.base_rows import bases_by_size

    folder = fit_folder(place)

    def make_target(base: TableBase, n_tokens: float) -> Target:
        asked = fields.copy()
        asked["n_params"], asked["n_tokens"] = base.n_params, n_tokens
        asked["base_losses"] = base.losses
        asked["base_peak_learning_rate"] = base.base_peak_learning_rate
        asked["base_n_tokens"] = base.base_n_tokens
        return read_target(place, **asked)

    bases = bases_by_size(sized_runs(folder))
    answer = recommend_size(load_fit(folder, laws), flops, bases, make_target, level)
    write_recommendation(answer.recommendation, folder)
    return answer
