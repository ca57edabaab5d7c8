"""How fast does dcpt train bases of 0.5B to 7B parameters, compared with common alternatives?

Question: what share of a GPU's FLOPs does a run use, on one GPU and on several? Each call measures
one row: a model with random weights of the shape of Qwen2.5-0.5B, 1.5B or 7B, trained on random
tokens with AdamW and clipped gradients, in bfloat16 with float32 weights and moments:

- ``dcpt``: a run of dcpt; several GPUs hold its whole state each, or share it where that is too
  large;
- ``hf``: the ``Trainer`` of transformers with ``bf16``, SDPA and ``torch_compile``, and FSDP2 on
  several GPUs (needs accelerate);
- ``torchtitan``: its ``Trainer`` (0.2.2) with compiled blocks and loss, and FSDP2 on several GPUs.
  The shape is that of its Qwen3 without norms of query and key, and so without Qwen2's biases.

*MFU* is (6 N + causal attention) x tokens/s over 989 TFLOP/s per GPU (H100 and H200, dense
bfloat16): N counts the output matrix once and not the input embedding, attention is 6 x layers x
heads x head size x T, and what is computed twice counts once. Memory is the peak that torch
allocated on any of the GPUs. ``ready_s`` are the seconds before the first timed step; they include
compilation. A row that is in the file already is not measured again, so a series can be resumed.

Commands (an H100 takes two to five minutes for a row)::

    python experiments/benchmarks/scale.py --system dcpt --size 0.5B --micro-batch 8
    python experiments/benchmarks/scale.py --system hf --size 0.5B --micro-batch 8 --gpus 2
    python experiments/benchmarks/scale.py --system dcpt --size tiny --sequence 64 --device cpu

Result: ``scale.md`` in this folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from scale_cases import SHAPES, Case, Clock

PEAK_FLOPS = 989e12


def time_dcpt(case: Case) -> dict[str, Any]:
    """Time steps of a run of dcpt."""
    from scale_dcpt import time_run

    return time_run(case, Clock(case))


def time_hf(case: Case) -> dict[str, Any]:
    """Time steps of the ``Trainer`` of transformers."""
    from scale_rivals import time_hf_trainer

    return time_hf_trainer(case, Clock(case))


def time_torchtitan(case: Case) -> dict[str, Any]:
    """Time steps of torchtitan's ``Trainer``."""
    from scale_rivals import time_torchtitan_trainer

    return time_torchtitan_trainer(case, Clock(case))


SYSTEMS: dict[str, Callable[[Case], dict[str, Any]]] = {
    "dcpt": time_dcpt,
    "hf": time_hf,
    "torchtitan": time_torchtitan,
}


def flops_per_token(size: str, sequence: int) -> float:
    """FLOPs of the forward and backward pass, per token."""
    shape = SHAPES[size]
    width, layers = shape["hidden_size"], shape["num_hidden_layers"]
    keys = width // shape["num_attention_heads"] * shape["num_key_value_heads"]
    layer = 2 * width**2 + 2 * width * keys + 3 * width * shape["intermediate_size"]
    n_params = layers * layer + shape["vocab_size"] * width
    return float(6 * n_params + 6 * layers * width * sequence)


def measure(case: Case) -> dict[str, Any]:
    """Measure a row in this process, which may be one of several."""
    on_cuda = case.device == "cuda"
    rank = int(os.environ.get("LOCAL_RANK", 0))
    if on_cuda:
        torch.cuda.set_device(rank)
        torch.backends.cuda.matmul.allow_tf32 = True
    found = SYSTEMS[case.system](case)
    peak = torch.cuda.max_memory_allocated() if on_cuda else None
    if peak is not None and torch.distributed.is_initialized():
        peaks = torch.tensor(peak, device="cuda")
        torch.distributed.all_reduce(peaks, torch.distributed.ReduceOp.MAX)
        peak = int(peaks)
    rate = found["tokens_per_s"] / case.gpus
    mfu = flops_per_token(case.size, case.sequence) * rate / PEAK_FLOPS if on_cuda else None
    return {
        **asdict(case),
        "machine": torch.cuda.get_device_name() if on_cuda else "CPU",
        "torch": str(torch.__version__),
        **found,
        "mfu": mfu,
        "peak_gib": None if peak is None else peak / 2**30,
    }


def is_known(case: Case, path: Path) -> bool:
    """Whether the file has this row already."""
    if not path.exists():
        return False
    wanted = asdict(case).items()
    return any(wanted <= json.loads(line).items() for line in path.read_text().splitlines())


def parse() -> tuple[Case, Path, bool]:
    """Read the arguments: the row, the file of rows, and whether this is one of several."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--system", choices=sorted(SYSTEMS), required=True)
    parser.add_argument("--size", choices=sorted(SHAPES), required=True)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--sequence", type=int, default=4096)
    parser.add_argument("--batch-tokens", type=int, default=2**19)
    parser.add_argument("--micro-batch", type=int, default=1, help="sequences on a GPU at a time")
    parser.add_argument("--recompute", action="store_true", help="activation checkpointing")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--out", type=Path, default=Path("scale.jsonl"))
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = vars(parser.parse_args())
    out, is_worker = given.pop("out"), given.pop("worker")
    case = Case(**given)
    if case.passes * case.micro_batch * case.gpus * case.sequence != case.batch_tokens:
        parser.error("the batch is not a multiple of micro-batch x GPUs x sequence")
    return case, out, is_worker


def main() -> None:
    """Measure a row, print it, and append it to the file."""
    case, out, is_worker = parse()
    if not is_worker and is_known(case, out):
        print(f"{out} has this row already")
        return
    if not is_worker and (case.gpus > 1 or case.system == "torchtitan"):
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={case.gpus}"]
        command = [sys.executable, *launch, *sys.argv, "--worker"]
        sys.exit(subprocess.run(command, check=False).returncode)
    row = measure(case)
    if int(os.environ.get("RANK", 0)) == 0:
        print(json.dumps(row, indent=1))
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
