"""Train the two exported stages with ms-swift. Called by ``stages.py``."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from letters_model import print_history, write_model
from swift.cli.main import parse_yaml_args
from swift.pipelines.train.pretrain import SwiftPretrain

OWN = (
    "--model model --model_type llama --template dummy --output_dir out --add_version false "
    "--tuner_type full --logging_steps 1 --report_to none "
    # Packing needs flash attention, which needs a GPU.
    "--packing false --attn_impl sdpa"
)


def main() -> None:
    write_model(Path("model"))
    for file in ("ms-swift-1-main.yaml", "ms-swift-2-decay.yaml"):
        words = [file]
        parse_yaml_args(words)
        words = [word.replace("PATH-OF-CHECKPOINT-30", "out/checkpoint-30") for word in words]
        SwiftPretrain([*words, *OWN.split()]).run()
    print_history("ms-swift", version("ms-swift"), Path("out/checkpoint-40"))


if __name__ == "__main__":
    main()
