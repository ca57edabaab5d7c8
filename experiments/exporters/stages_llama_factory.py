"""Train the two exported stages with LLaMA-Factory. Called by ``stages.py``."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import yaml
from letters_model import print_history, write_model
from without_torchaudio import allow_missing_torchaudio

allow_missing_torchaudio()

from llamafactory.train.tuner import run_exp  # noqa: E402


def main() -> None:
    write_model(Path("model"))
    for file in ("llama-factory-1-main.yaml", "llama-factory-2-decay.yaml"):
        text = Path(file).read_text(encoding="utf-8")
        content = yaml.safe_load(text.replace("PATH-OF-CHECKPOINT-30", "out/checkpoint-30"))
        own = {"model_name_or_path": "model", "output_dir": "out", "finetuning_type": "full"}
        run_exp({**content, **own, "logging_steps": 1, "report_to": "none"})
    print_history("llamafactory", version("llamafactory"), Path("out/checkpoint-40"))


if __name__ == "__main__":
    main()
