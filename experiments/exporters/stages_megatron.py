"""Step Megatron Core's scheduler over the two exported stages. Called by ``stages.py``."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import version
from typing import Any

import torch
from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler


def main() -> None:
    rates: list[float] = []
    saved: dict[str, Any] | None = None
    for file in ("megatron-1-main.sh", "megatron-2-decay.sh"):
        given = _read_arguments(file)
        optimizer = torch.optim.AdamW([torch.zeros(1)], lr=float(given["--lr"]))
        schedule = _build(optimizer, given)
        if saved is not None:
            schedule.load_state_dict(saved)
        batch = int(given["--global-batch-size"])
        last = int(given.get("--exit-interval", given["--train-iters"]))
        for _ in range(len(rates), last):
            rates.append(optimizer.param_groups[0]["lr"])
            schedule.step(increment=batch)
        saved = schedule.state_dict()
    found = {"package": "megatron-core", "version": version("megatron-core"), "rates": rates}
    print(json.dumps(found))


def _build(optimizer: torch.optim.Optimizer, given: dict[str, str]) -> OptimizerParamScheduler:
    """The scheduler as Megatron-LM builds it of its arguments: its steps are samples."""
    batch = int(given["--global-batch-size"])
    return OptimizerParamScheduler(
        optimizer,
        init_lr=0.0,
        max_lr=float(given["--lr"]),
        min_lr=float(given["--min-lr"]),
        lr_warmup_steps=int(given["--lr-warmup-iters"]) * batch,
        lr_decay_steps=int(given["--lr-decay-iters"]) * batch,
        lr_decay_style=given["--lr-decay-style"],
        start_wd=0.1,
        end_wd=0.1,
        wd_incr_steps=int(given["--train-iters"]) * batch,
        wd_incr_style="constant",
        wsd_decay_steps=int(given["--lr-wsd-decay-iters"]) * batch,
        lr_wsd_decay_style=given["--lr-wsd-decay-style"],
    )


def _read_arguments(file: str) -> dict[str, str]:
    """The exported arguments with a single value, by name."""
    code = f'source ./{file}; printf "%s\\0" "${{DCPT_ARGS[@]}}"'
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    words = done.stdout.split("\0")[:-1]
    return {word: words[at + 1] for at, word in enumerate(words) if word.startswith("--")}


if __name__ == "__main__":
    main()
