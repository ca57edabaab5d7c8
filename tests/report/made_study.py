"""A study whose run folders hold made losses: nothing in it is trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from made_report import law
from tiny_study import write_tiny_study

from dcpt.grid.planned import PlannedRun
from dcpt.laws.points.record import Points
from dcpt.pipeline.train import prepare_study
from dcpt.pipeline.workspace import Workspace
from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import RunConfig

MIXTURES = """decay: 20%
  mixtures:
    best: {law: 0.5, code: 0.2, en: 0.3}
    calm: {en: 1}
"""
MOVED = {
    "best": {"en": -0.031, "law": -0.257},
    "calm": {"en": -0.042, "law": 0.118},
}
"""How far a decay on each mixture ends from the ordinary one, nats."""
CODE = 3.456
"""Loss of the extra channel after its decay."""


def write_made_study(folder: Path, mixtures: bool) -> Path:
    """The study file of two sizes and three shares, its texts prepared and its grid filled in."""
    file = write_tiny_study(folder)
    text = file.read_text(encoding="utf-8")
    if mixtures:
        text = text.replace("branches: {decay: 20%}", f"branches:\n  {MIXTURES}")
        extra = "  - {name: code, side: extra, train: general.jsonl, valid_fraction: 10%}\n"
        text = text.replace("tokenizer: 300", f"{extra}tokenizer: 300")
    file.write_text(text, encoding="utf-8")
    prepare_study(Workspace(file), workers=1)
    leave_points(file, Workspace(file).planned)
    return file


def leave_points(file: Path, planned: list[PlannedRun]) -> None:
    """Write the folders of trunks and branches as if they had been trained."""
    for run in planned:
        config = run.config
        if config.identity.kind == "pretrain":
            continue
        folder = RunFolder.of(config, file.parent / "runs")
        folder.write_config(config)
        start = [0] if config.identity.kind == "trunk" else []
        lines = [json.dumps(_point(config, n)) for n in [*start, *config.recorded.evaluation_at]]
        folder.metrics.write_text("\n".join(lines) + "\n", encoding="utf-8")


def ordinary_losses(config: RunConfig, n_tokens: int) -> dict[str, float]:
    """What a law of ours gives there, with errors of .002 nats that hang on share and length."""
    identity = config.identity
    if n_tokens == 0:
        return {"en": 3.2, "law": 9.0}
    points = Points(
        n_params=np.array([_n_params(config)]),
        n_tokens=np.array([1e3 * n_tokens]),
        ratio=np.array([identity.ratio]),
        learning_rate=np.array([identity.learning_rate]),
        annealed=np.array([float(identity.decay is not None)]),
        base_loss=np.array([3.2]),
    )
    off = 0.002 * np.sin(n_tokens + 10 * identity.ratio)
    sides = {"en": "general", "law": "domain"}
    return {name: float(law(side, points)[0] + off) for name, side in sides.items()}


def _n_params(config: RunConfig) -> float:
    return {"a": 1.8e6, "b": 6.6e6, "big": 29.1e6}[config.recorded.size]


def _point(config: RunConfig, n_tokens: int) -> dict[str, object]:
    decay, loss = config.identity.decay, ordinary_losses(config, n_tokens)
    if config.recorded.mixture_name is not None:
        moved = MOVED[config.recorded.mixture_name]
        loss = {name: value + moved[name] for name, value in loss.items()}
        if "code" in {channel.name for channel in config.identity.channels}:
            loss["code"] = CODE
    phase = "annealed" if decay is not None else "constant" if n_tokens else "base"
    return {
        "event": "point",
        "n_tokens": n_tokens,
        "phase": phase,
        "n_params": int(_n_params(config)),
        "n_params_non_embedding": int(0.8 * _n_params(config)),
        "eval_id": "x",
        "loss": loss,
    }
