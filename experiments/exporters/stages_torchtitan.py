"""Step torchtitan's scheduler over the two exported stages. Called by ``stages.py``."""

from __future__ import annotations

import json
import runpy
from importlib.metadata import version
from typing import Any

import torch


def main() -> None:
    rates: list[float] = []
    saved: tuple[dict[str, Any], dict[str, Any]] | None = None
    for file in ("torchtitan-1-main.py", "torchtitan-2-decay.py"):
        module = runpy.run_path(file)
        optimizer = torch.optim.AdamW([torch.zeros(1)], lr=module["LEARNING_RATE"])
        steps = module["training"].steps
        schedulers = module["lr_scheduler"].build(optimizers=[optimizer], training_steps=steps)
        if saved is not None:  # its checkpoint has both states
            optimizer.load_state_dict(saved[0])
            schedulers.load_state_dict(saved[1])
        for _ in range(len(rates), steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedulers.step()
        saved = (optimizer.state_dict(), schedulers.state_dict())
    print(json.dumps({"package": "torchtitan", "version": version("torchtitan"), "rates": rates}))


if __name__ == "__main__":
    main()
