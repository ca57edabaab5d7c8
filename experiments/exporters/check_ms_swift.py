"""Read the exported file with ms-swift, and load its datasets. Called by ``check.py``."""

from __future__ import annotations

from importlib.metadata import version

import pyarrow.compute as pc
from corpora import SEEDS, print_result, share_of_documents
from swift.arguments.base_args.data_args import DataArguments
from swift.cli.main import parse_yaml_args
from swift.dataset import load_dataset
from transformers import HfArgumentParser


def main() -> None:
    words = ["ms-swift.yaml"]
    parse_yaml_args(words)
    shares = []
    for seed in SEEDS:
        parser = HfArgumentParser(DataArguments)
        found, _ = parser.parse_known_args([*words, "--data_seed", str(seed)])
        arguments = DataArguments(
            **{name: getattr(found, name) for name in DataArguments.__dataclass_fields__}
        )
        # Of its other arguments, which also need a model, loading reads these two.
        arguments.use_hf, arguments.hub_token = False, None
        mixed, _ = load_dataset(
            arguments.dataset, shuffle=arguments.dataset_shuffle, **arguments.get_dataset_kwargs()
        )
        texts = pc.struct_field(pc.list_flatten(mixed.data.column("messages")), "content")
        shares.append(share_of_documents(mixed, texts))
    print_result("ms-swift", version("ms-swift"), shares)


if __name__ == "__main__":
    main()
