"""Draft the mapping file: what the logs tell is filled in, what they do not tell is ``???``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dcpt.names import CHANNEL_NAME
from dcpt.quantities import count_things
from dcpt.trainer_logs.mapping import FILL_IN
from dcpt.trainer_logs.rates import Proposal, propose_schedules, write_schedules
from dcpt.trainer_logs.records import RunLog
from dcpt.trainer_logs.run_names import columns_in_name, guess_pattern
from dcpt.trainer_logs.settings import decays

MOST_LISTED = 30
"""Metrics that a comment lists."""

RATE_METRICS = (
    "learning_rate",
    "train/learning_rate",
    "lr",
    "train/lr",
    "learning rate",
    "learning-rate",
    "optim/LR (group 0)",
)
TOKEN_METRICS = (
    "num_input_tokens_seen",
    "train/num_input_tokens_seen",
    "total_tokens",
    "n_tokens_seen",
    "ntokens_seen",
    "throughput/total tokens",
    "consumed samples",
)
STEP_METRICS = ("train/global_step", "trainer/global_step", "global_step", "iteration")
CONFIG_NAMES = {
    "ratio": ("ratio", "domain_ratio", "domain_share"),
    "learning_rate": ("learning_rate", "lr", "peak_lr"),
    "n_params": ("n_params", "num_params", "num_parameters"),
    "seed": ("seed",),
}
"""Settings, by the last part of their names, that the draft takes for columns of the table."""

_PLAIN = re.compile(r"[A-Za-z_][\w./()-]*(?: [\w./()-]+)*")
_RESERVED = {"true", "false", "null"}
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_NO_CHANNEL = {
    *("eval", "evaluation", "validation", "valid", "val", "test", "loss", "ce", "lm", "metrics"),
    *("value", "ppl", "avg", "mean"),
}
_NO_LOSS = re.compile(
    r"ppl|perplex|runtime|per_second|vs samples|acc|bpb|throughput|time|memory|tps|max_loss"
)
_MEASURED = re.compile(r"eval|val|test")


@dataclass(frozen=True)
class Draft:
    """What ``dcpt import`` drafts.

    Args:
        mapping: The text of the mapping file; values that a person has to write are ``???``.
        schedules: The text of a file for ``dcpt fit --schedules``; None if no learning rate falls.
    """

    mapping: str
    schedules: str | None


def draft_mapping(logs: Sequence[RunLog]) -> Draft:
    """Draft the mapping file of logs, and their schedules.

    Args:
        logs: The logs of the runs.
    """
    rate = _rate_metric(logs)
    schedules = _find_schedules(logs, rate)
    lines = [
        f"# How the logs of {count_things(len(logs), 'run')} become a runs table, drafted by dcpt.",
        f"# Replace every {FILL_IN}, check the rest, and give the same command again.",
        "",
        *_draft_losses(logs),
        *_draft_steps(logs),
        *_draft_runs(logs, rate, schedules),
    ]
    known = {run: found for run, found in (schedules or {}).items() if found is not None}
    return Draft("\n".join(lines) + "\n", write_schedules(known) if known else None)


def _find_schedules(logs: Sequence[RunLog], rate: str | None) -> dict[str, Proposal | None] | None:
    """By run, the schedule of its log, None if it is unclear; None if no learning rate falls."""
    losses = _all_losses(logs)
    rates = [log.metrics.get(rate or "") for log in logs]
    if not any(
        found is not None and decays(log, found, losses)
        for log, found in zip(logs, rates, strict=True)
    ):
        return None
    found = propose_schedules(logs, rate or "")
    return {log.run: found.get(log.run) for log in logs}


def _draft_losses(logs: Sequence[RunLog]) -> Iterator[str]:
    names = _shared([set(log.metrics) for log in logs])
    anywhere = {name for log in logs for name in log.metrics}
    found = [name for name in sorted(names or anywhere) if _is_loss(name)]
    others = [name for name in sorted(anywhere) if "loss" in name.lower() or not logs[0].has_steps]
    channels: dict[str, str] = {}
    for name in found:
        channel = _channel(name)
        if channel is not None and channel not in channels:
            channels[channel] = name
    yield "# Validation losses: by channel, the metric. Call the domain's channel domain, and a"
    yield "# single other channel general. Remove a channel that was not measured. A metric that"
    yield "# was renamed halfway: [old, new]."
    for name in (found or others)[:MOST_LISTED]:
        yield f"#   found: {name}"
    yield "losses:"
    if "domain" not in channels:
        which = "   # the metric of one of the channels below; remove it there"
        yield f"  domain: {FILL_IN}{which if channels else ''}"
    if not channels.keys() - {"domain"}:
        yield f"  general: {FILL_IN}"
    for channel, name in channels.items():
        yield f"  {_scalar(channel)}: {_scalar(name)}"
    yield "# The unit of all losses in the logs: nats (per token), bits, perplexity, or"
    yield "# bits_per_byte with a section bytes_per_token (channel: mean bytes of a token)."
    yield f"loss_unit: {'nats' if logs[0].has_steps else FILL_IN}"
    yield ""


def _is_loss(name: str) -> bool:
    low = name.lower()
    named = "loss" in low and not low.startswith("train")
    return named and bool(_MEASURED.search(low)) and not _NO_LOSS.search(low)


def _channel(metric: str) -> str | None:
    """The channel that a metric's name suggests; None if it names no text."""
    parts = [part for part in re.split(r"[/_\s.:-]+", metric.lower()) if part]
    for channel in ("domain", "general"):
        if channel in parts:
            return channel
    name = "_".join(part for part in parts if part not in _NO_CHANNEL and not part.isdigit())
    return name if CHANNEL_NAME.fullmatch(name) else None


def _draft_steps(logs: Sequence[RunLog]) -> Iterator[str]:
    if not logs[0].has_steps:
        return
    names = _shared([set(log.metrics) for log in logs])
    step = next((name for name in STEP_METRICS if name in names), None)
    if step is not None and logs[0].trainer.startswith("W&B"):
        yield "# The metric that counts steps; without this line, the steps that W&B counts."
        yield f"step: {_scalar(step)}"
        yield ""
    yield "tokens:"
    tokens = next((name for name in TOKEN_METRICS if name in names), None)
    if tokens is None:
        yield "  # Tokens of one step over all devices: sequence length x sequences per device x"
        yield "  # accumulation x devices."
        yield f"  per_step: {FILL_IN}"
    else:
        yield f"  metric: {_scalar(tokens)}"
    if tokens == "consumed samples":
        lengths = {str(log.config.get("seq_length", FILL_IN)) for log in logs}
        yield "  # Tokens of a sample: the sequence length."
        yield f"  times: {lengths.pop() if len(lengths) == 1 else FILL_IN}"
    yield ""


def _draft_runs(
    logs: Sequence[RunLog], rate: str | None, schedules: dict[str, Proposal | None] | None
) -> Iterator[str]:
    known: set[str] = set()
    if rate is not None:
        yield "# The metric of the learning rate. Its highest value is the peak of the run."
        yield f"learning_rate: {_scalar(rate)}"
        yield ""
        known.add("learning_rate")
    pattern = guess_pattern([log.run for log in logs])
    if pattern is not None:
        yield "# What the names of the runs say: columns in braces, * for anything."
        yield f"run_names: {json.dumps(pattern, ensure_ascii=False)}"
        yield ""
        known |= set(re.findall(r"\{(\w+)\}", pattern))
    config = list(_draft_config(logs, known))
    known |= {line.split(":")[0].strip() for line in config if line.startswith("  ")}
    yield from config
    yield "# Columns of the runs table that are the same for all runs, such as n_params and base."
    yield "# Runs of several learning rates need warmup_tokens, base_n_tokens and"
    yield "# base_peak_learning_rate (of the base's pre-training) too. Remove what you do not know."
    yield "all_runs:"
    if "n_params" not in known:
        yield f"  n_params: {FILL_IN}"
    if not logs[0].has_steps:
        yield f"  n_tokens: {FILL_IN}"
    names = {run: found.name if found else FILL_IN for run, found in (schedules or {}).items()}
    yield from _draft_phase(rate, names)
    yield ""
    yield from _draft_entries(logs, known, names if len(set(names.values())) > 1 else {})


def _draft_config(logs: Sequence[RunLog], known: set[str]) -> Iterator[str]:
    """The section config: settings that the logs of all runs hold."""
    names = sorted(_shared([set(log.config) for log in logs]))
    lines = []
    for column, wanted in CONFIG_NAMES.items():
        found = [name for name in names if re.split(r"[./]", name)[-1] in wanted]
        if len(found) == 1 and column not in known:
            lines.append(f"  {column}: {_scalar(found[0])}")
    if logs[0].trainer == "olmix" and "ratio" not in known:
        lines = [f"  ratio: {FILL_IN}", *(f"  #   found: {name}" for name in names[:MOST_LISTED])]
    if lines:
        yield "# Settings in the logs: by column, the setting. A list is summed: [code, math]."
        yield "config:"
        yield from lines
        yield ""


def _draft_phase(rate: str | None, schedules: dict[str, str]) -> Iterator[str]:
    """The phase or schedule that all runs have.

    Args:
        rate: The metric of the learning rate, if there is one.
        schedules: By run, the name of its schedule; empty if no learning rate falls.
    """
    if rate is None:
        yield "  # constant: losses are measured at a constant learning rate, before any decay. If"
        yield "  # the rate falls: schedule, a name that a file for dcpt fit --schedules explains."
        yield f"  phase: {FILL_IN}"
    elif not schedules:
        yield "  # The logged learning rate is constant after its warmup."
        yield "  phase: constant"
    elif len(set(schedules.values())) == 1:
        yield "  # The learning rate falls while losses are measured. The name of its schedule;"
        yield "  # a file for dcpt fit --schedules explains it."
        yield f"  schedule: {next(iter(schedules.values()))}"


def _all_losses(logs: Sequence[RunLog]) -> list[str]:
    return sorted({name for log in logs for name in log.metrics if _is_loss(name)})


def _draft_entries(
    logs: Sequence[RunLog], known: set[str], schedules: dict[str, str]
) -> Iterator[str]:
    """The section runs: an entry for each run, with what nothing else tells."""
    wanted = [name for name in ("ratio", "learning_rate") if name not in known]
    yield "# Columns of single runs; they count before everything above. A log that continues"
    yield "# another one: run: NAME. The decay of a run: {run: NAME, phase: annealed,"
    yield "# branch_n_tokens: tokens at which the decay began}, and n_tokens_before: tokens before"
    yield "# step 0 of its log. A schedule is a name in the file of dcpt fit --schedules."
    if not wanted and not schedules:
        yield "runs: {}"
        return
    yield "runs:"
    for log in logs:
        named = columns_in_name(log.run)
        yield f"  {_scalar(log.run)}:"
        for name in wanted:
            yield f"    {name}: {named.get(name, FILL_IN)}"
        if schedules:
            yield f"    schedule: {schedules[log.run]}"


def _rate_metric(logs: Sequence[RunLog]) -> str | None:
    names = _shared([set(log.metrics) for log in logs])
    return next((name for name in RATE_METRICS if name in names), None)


def _shared(sets: Sequence[set[str]]) -> set[str]:
    """What all logs have."""
    return set.intersection(*sets) if sets else set()


def _scalar(text: str) -> str:
    """A text as YAML."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in _RESERVED
    return text if plain and not _NUMBER.fullmatch(text) else json.dumps(text, ensure_ascii=False)
