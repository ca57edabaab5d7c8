"""Ask OLMo-core's schedulers for the rates of the two exported stages. Called by ``stages.py``."""

from __future__ import annotations

import json
import runpy
from importlib.metadata import version


def main() -> None:
    rates: list[float] = []
    for file in ("olmo-core-1-main.py", "olmo-core-2-decay.py"):
        module = runpy.run_path(file)
        last, peak = module["MAX_STEPS"], module["LEARNING_RATE"]
        # Its trainer counts steps from 1.
        rates += [
            float(module["scheduler"].get_lr(peak, step, last))
            for step in range(len(rates) + 1, last + 1)
        ]
    found = {"package": "ai2-olmo-core", "version": version("ai2-olmo-core"), "rates": rates}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
