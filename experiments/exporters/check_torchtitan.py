"""Build the exported data loader of torchtitan, and read 1,000 steps. Called by ``check.py``."""

from __future__ import annotations

import runpy
from dataclasses import replace
from importlib.metadata import version

from corpora import BATCH_SEQUENCES, SEEDS, STEPS, print_result


class Letters:
    """A tokenizer whose tokens are letters; the target of the last one is the end of text."""

    def encode(self, text: str, add_bos: bool, add_eos: bool) -> list[int]:
        """Ids of a document: one more than its tokens, as inputs and targets are shifted."""
        del add_bos, add_eos
        return [ord(text[0])] * (len(text) + 1) + [0]


def main() -> None:
    module = runpy.run_path("torchtitan.py")
    sequence = module["training"].seq_len
    shares = []
    for seed in SEEDS:
        config = replace(module["dataloader"], seed=seed)
        loader = config.build(
            dp_world_size=1,
            dp_rank=0,
            tokenizer=Letters(),
            seq_len=sequence,
            local_batch_size=BATCH_SEQUENCES,
        )
        law, batches = 0, iter(loader)
        for _ in range(STEPS):
            inputs, _ = next(batches)
            law += int((inputs["input"] == ord("l")).sum())
        shares.append(law / (STEPS * BATCH_SEQUENCES * sequence))
    print_result("torchtitan", version("torchtitan"), shares)


if __name__ == "__main__":
    main()
