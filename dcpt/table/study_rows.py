"""Rows of the runs table, read from the run folders of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dcpt.runs.identity import CHOSEN, RunConfig, hash_record
from dcpt.runs.names import bases_by_size, table_names
from dcpt.runs.records import EvaluatedText, on_text
from dcpt.runs.stored import StoredRuns
from dcpt.table.channels import GENERAL_TOTAL, OWN_MIXTURE, weighted_total

VERIFICATION = "verification run"
"""Why rows of runs that verify a recommendation are excluded."""

LARGEST_LOSS = 20.0
"""Nats per token; the table's door refuses more, and a run that goes there has diverged."""


@dataclass(frozen=True)
class OwnDecay:
    """The end of a decay with a mixture of its own, and of its trunk's ordinary decay.

    Channels are called as in the runs table; extra ones, which it does not have, by their names.

    Args:
        mixture: What the study calls the mixture.
        shares: Share of each channel in it.
        run: The trunk's name.
        n_params: Parameters in all.
        ratio: Share of domain text on the trunk.
        learning_rate: The trunk's peak.
        seed: Of the trunk.
        branch_n_tokens: D at which both decays left the trunk.
        n_tokens: D at the end of both.
        losses: Of every channel it measured, nats per token.
        ordinary: The same after the decay on the trunk's own mixture; empty if that has not ended.
    """

    mixture: str
    shares: dict[str, float]
    run: str
    n_params: int
    ratio: float
    learning_rate: float
    seed: int
    branch_n_tokens: int
    n_tokens: int
    losses: dict[str, float]
    ordinary: dict[str, float]

    @property
    def differences(self) -> dict[str, float]:
        """Losses minus those after the ordinary decay, nats, where both were measured."""
        known = self.ordinary
        return {name: loss - known[name] for name, loss in self.losses.items() if name in known}


@dataclass(frozen=True)
class StudyRows:
    """What the run folders of a study give.

    Args:
        rows: One dict a point, with the columns of the runs table; unknown values are absent.
        left_out: Names of runs that the study does not ask for (any more): of another base, text,
            tokenizer, batch or evaluation, taken out of its grid, or with a mixture of their own
            that it no longer has.
        chosen: Names of the runs among ``rows`` that ``dcpt refine`` chose.
        damaged: A sentence on each run of the study that a damaged file leaves without rows.
        own_decays: Decays with a mixture of their own; their rows are among ``rows``, excluded.
    """

    rows: list[dict[str, Any]]
    left_out: list[str]
    own_decays: list[OwnDecay]
    damaged: list[str]
    chosen: list[str]


@dataclass(frozen=True)
class _End:
    """A point at the end of a branch, the name of its trunk, and that of its own mixture."""

    config: RunConfig
    run: str
    mixture: str | None
    point: Mapping[str, Any]


def read_study_rows(
    stored: StoredRuns, planned: Sequence[RunConfig], text: EvaluatedText = "clean"
) -> StudyRows:
    """Read the points of every trunk and branch; unfinished runs give those they have.

    A damaged run gives no rows. Neither do the branches of a damaged trunk: their rows are read
    together with its own.

    Runs that ``dcpt refine`` chose are rows like those of the grid. A row is excluded from fits,
    with the reason, if it verifies a recommendation (a law is proved on runs that its fit never
    saw), decays on a mixture of its own, lies beyond the study's trunk, or diverged. Losses of
    extra channels stay in the run folders.

    Args:
        stored: What the study's run folders hold.
        planned: What the study's grid asks for.
        text: Which validation text the losses are on.
    """
    asked = {config.identity.hash: config for config in planned}
    trunks, damaged = stored.trunk_names, stored.damaged
    mixtures, bases = _mixture_names(planned), bases_by_size(planned)
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    ends: list[_End] = []
    unread: list[str] = []
    chosen: set[str] = set()
    for folder, config in stored.sound:
        if config.identity.kind == "pretrain":
            continue
        grid = asked.get(config.identity.hash)
        own = _own_mixture(config)
        base = config.identity.base
        is_chosen = (
            config.recorded.purpose in CHOSEN
            and (own is None or own in mixtures)
            and base in bases.get(config.recorded.size, {base})
        )
        if grid is None and not is_chosen:
            left_out.append(folder.path.name)
            continue
        mixture = None if own is None else mixtures[own]
        trunk = config.identity.trunk or config.identity.hash
        if trunk in damaged:
            unread.append(trunk)
            continue
        run = trunks.get(trunk, trunk)
        if grid is None and config.recorded.purpose == "next":
            chosen.add(run)
        for point in (on_text(point, text) for point in folder.points()):
            row = _row(run, grid or config, point)
            verifies = grid is None and config.recorded.purpose == "verify"
            reason = _reason_to_exclude(row, grid, mixture, verifies=verifies)
            rows.append(row if reason is None else {**row, "excluded": reason})
            if config.identity.decay is not None:
                ends.append(_End(config, run, mixture, point))
    rows.sort(key=_place)
    named = [
        f"{problem}"
        + (f"; its {n} branches are left out with it" if (n := unread.count(run)) else "")
        for run, problem in damaged.items()
    ]
    return StudyRows(rows, left_out, _own_decays(ends), named, sorted(chosen))


def _own_mixture(config: RunConfig) -> str | None:
    """Names the mixture of a decay that has its own, by content."""
    decay = config.identity.decay
    return None if decay is None or decay.mixture is None else hash_record(decay.mixture)


def _mixture_names(planned: Sequence[RunConfig]) -> dict[str, str]:
    """What the study calls its decays' mixtures now, by content."""
    found = {_own_mixture(config): config.recorded.mixture_name for config in planned}
    return {own: name for own, name in found.items() if own is not None and name is not None}


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sort key of a row: ordinary decays come before those with mixtures of their own.

    They end at the same tokens, and whoever looks for the end of a run takes the first.
    """
    own = str(row.get("excluded", "")).startswith(OWN_MIXTURE)
    return row["run"], row["phase"], row["n_tokens"], own


def _reason_to_exclude(
    row: Mapping[str, Any], grid: RunConfig | None, mixture: str | None, *, verifies: bool
) -> str | None:
    if mixture is not None:
        return f"{OWN_MIXTURE}: {mixture}"
    if verifies:
        return VERIFICATION
    if grid is not None and row["n_tokens"] > grid.recorded.n_tokens:
        return "beyond the study's trunk"
    losses = [value for name, value in row.items() if name.startswith(("loss_", "train_loss_"))]
    if max(losses) > LARGEST_LOSS:
        return f"diverged: a loss above {LARGEST_LOSS:g}"
    return None


def _own_decays(ends: Sequence[_End]) -> list[OwnDecay]:
    """Each decay with a mixture of its own, paired with the ordinary decay of its trunk."""
    ordinary = {
        (end.run, end.config.identity.decay): _losses(end) for end in ends if end.mixture is None
    }
    found = []
    for end in ends:
        identity = end.config.identity
        if end.mixture is None or identity.decay is None or identity.decay.mixture is None:
            continue
        names = table_names(identity.channels)
        decay = identity.decay.model_copy(update={"mixture": None})
        found.append(
            OwnDecay(
                mixture=end.mixture,
                shares={names[name]: share for name, share in identity.decay.mixture.items()},
                run=end.run,
                n_params=end.point["n_params"],
                ratio=identity.ratio,
                learning_rate=identity.learning_rate,
                seed=identity.seed,
                branch_n_tokens=decay.start_tokens,
                n_tokens=end.point["n_tokens"],
                losses=_losses(end),
                ordinary=ordinary.get((end.run, decay), {}),
            )
        )
    return found


def _losses(end: _End) -> dict[str, float]:
    """The measured losses of a branch's end, extra channels last."""
    channels = end.config.identity.channels
    names, losses = table_names(channels), end.point["loss"]
    found = {names[c.name]: losses[c.name] for c in channels if _is_known(losses.get(c.name))}
    weights = {c.name: c.weight for c in channels if c.side == "general"}
    if len(weights) > 1 and weights.keys() <= found.keys():
        found[GENERAL_TOTAL] = weighted_total(found, weights)
    return found


def _row(trunk: str, config: RunConfig, point: Mapping[str, Any]) -> dict[str, Any]:
    identity, recorded = config.identity, config.recorded
    row: dict[str, Any] = {
        "run": trunk,
        "base": identity.base,
        "size": recorded.size,
        "n_params": point["n_params"],
        "n_params_non_embedding": point["n_params_non_embedding"],
        "n_tokens": point["n_tokens"],
        "ratio": identity.ratio,
        "learning_rate": identity.learning_rate,
        "phase": point["phase"],
        "seed": identity.seed,
        "base_peak_learning_rate": recorded.base_peak_learning_rate,
        "base_n_tokens": recorded.base_n_tokens,
        "warmup_tokens": identity.warmup_tokens,
        "batch_tokens": identity.batch_tokens,
        "eval_id": point["eval_id"],
    }
    if identity.decay is not None:
        row["branch_n_tokens"] = identity.decay.start_tokens
    names = table_names([channel for channel in identity.channels if channel.side != "extra"])
    for prefix in ("loss", "se", "train_loss", "share", "unique_tokens", "bytes_per_token"):
        values = point.get(prefix, {})
        row |= {f"{prefix}_{names[name]}": values[name] for name in values if name in names}
    on_all = point.get("all", {"loss": {}})["loss"]
    row |= {f"all_loss_{names[name]}": on_all[name] for name in on_all if name in names}
    general = [c for c in identity.channels if c.side == "general"]
    if len(general) > 1:
        row |= {f"weight_{c.name}": c.weight for c in general}
    row |= {f"weight_{c.name}": 0.0 for c in identity.channels if c.side == "validation"}
    return {name: value for name, value in row.items() if _is_known(value)}


def _is_known(value: object) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))
