"""Sample with the exported module for Hugging Face datasets. Called by ``check.py``."""

from __future__ import annotations

import runpy

import datasets
from corpora import SEEDS, print_result, share_of_documents


def main() -> None:
    module = runpy.run_path("mixture.py")
    shares = []
    for seed in SEEDS:
        mixed = module["load_mixture"](seed=seed)
        shares.append(share_of_documents(mixed, mixed.data.column("text")))
    print_result("datasets", datasets.__version__, shares)


if __name__ == "__main__":
    main()
