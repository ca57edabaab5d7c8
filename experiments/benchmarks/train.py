"""How many tokens per second does dcpt train, compared with common alternatives?

Question: does a grid of small runs waste the accelerator? Each row trains the same Llama (tied
embeddings, vocabulary 8192) with the same AdamW and gradient clipping on random tokens:

- ``hf-eager``: the model of ``transformers`` in a plain loop;
- ``hf-trainer``: its ``Trainer`` with ``bf16`` and fused AdamW (CPU: float32);
- ``hf-graph`` (GPU): the plain loop compiled by ``torch.compile``, a whole step in a CUDA graph;
- ``stacked`` (GPU): nine runs in one program of batched products (``stacked.py``), which dcpt does
  not do;
- ``dcpt 1``, ``dcpt 3`` ...: dcpt's step, with this number of runs at the same time on the device;
  nine runs of a grid are three times ``dcpt 3`` (``dcpt run-grid`` has three lanes on a GPU);
- ``without channels``: as ``dcpt 3`` (CPU: ``dcpt 1``), without the sums of losses by channel;
- ``documents``: as ``dcpt 1``, without attention across document boundaries.

*MFU* is 6 N + 12 layers x width x T FLOPs per token over 989 TFLOP/s (H100 and H200, dense
bfloat16). The seconds before the first timed step include the compilation. Memory is the peak that
torch allocated. ``loader`` is the speed of the mixture alone, on one core.

Commands (``hf-trainer`` needs ``pip install accelerate``; an H100 takes five minutes, two CPU cores
three)::

    python experiments/benchmarks/train.py --device cuda:0 --json train.json
    OMP_NUM_THREADS=1 python experiments/benchmarks/train.py --sizes 0.2M 0.9M 1.8M

Result: ``train.md`` in this folder.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dcpt.runs.identity import Architecture, ChannelIdentity, Identity, Packing, Recorded, RunConfig
from dcpt.text.mixture import Mixture, Phase
from dcpt.training import step as steps
from dcpt.training.models import build_llama
from dcpt.training.timing import time_steps

VOCABULARY = 8192
PEAK_FLOPS = 989e12
SIZES = {
    "0.2M": (16, 2, 1),
    "0.9M": (96, 2, 3),
    "1.8M": (128, 4, 2),
    "6.6M": (256, 6, 4),
    "29M": (512, 8, 8),
    "91M": (768, 12, 12),
}
"""Width, layers and heads."""


def configure(size: str, on_gpu: bool) -> RunConfig:
    """Configure a run of a size with 32 sequences of 512 tokens, or 8 sequences on the CPU."""
    width, layers, heads = SIZES[size]
    channels = [
        ChannelIdentity(name=n, side=s, weight=1.0, train_sha256="", valid_sha256="")  # type: ignore[arg-type]
        for n, s in (("general", "general"), ("code", "domain"))
    ]
    identity = Identity(
        kind="pretrain",
        base="ladder",
        architecture=Architecture(
            width=width,
            layers=layers,
            heads=heads,
            vocab_size=VOCABULARY,
            max_sequence_tokens=512,
        ),
        tokenizer_sha256="",
        channels=tuple(channels),
        ratio=0.0,
        learning_rate=1e-3,
        warmup_tokens=0,
        batch_sequences=32 if on_gpu else 8,
        sequence_tokens=512,
        validation_tokens=262_144,
        seed=0,
        dtype="bfloat16" if on_gpu else "float32",
    )
    return RunConfig(
        identity=identity, recorded=Recorded(size=size, n_tokens=2**30, evaluation_at=())
    )


# ----------------------------------------------------------------------------------- rivals
def plain_step(config: RunConfig, device: str, *, compiled: bool) -> Callable[[], object]:
    """Return a step of the transformers model, in the usual form."""
    identity = config.identity
    assert identity.architecture is not None
    model = build_llama(identity.architecture, device=device)
    shape = (identity.batch_sequences, identity.sequence_tokens + 1)
    tokens = torch.randint(VOCABULARY, shape, device=device)
    rate: Any = (
        torch.tensor(identity.learning_rate, device=device) if compiled else identity.learning_rate
    )
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rate, betas=(0.9, 0.95), fused=True, capturable=compiled
    )

    def loss_of(tokens: Tensor) -> Tensor:
        kind = torch.device(device).type
        with torch.autocast(kind, torch.bfloat16, enabled=identity.dtype == "bfloat16"):
            logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        return functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())

    forward = torch.compile(loss_of, dynamic=False) if compiled else loss_of

    def step() -> None:
        forward(tokens).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def replay(step: Callable[[], object]) -> Callable[[], object]:
    """Record a step as a CUDA graph. The step must outlive the graph, which reads its tensors."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        step()

    def again(keep: object = step) -> None:
        graph.replay()

    return again


def time_step(
    make: Callable[[], Callable[[], object]], tokens: int, device: str
) -> tuple[float, float]:
    """Measure tokens per second of a step, and seconds until it ran for the third time."""
    began = time.monotonic()
    step = make()
    wait: Callable[[], object] = (
        torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    )

    def seconds_of(n: int) -> float:
        start = time.monotonic()
        for _ in range(n):
            step()
        wait()
        return time.monotonic() - start

    seconds_of(3)
    ready_s = time.monotonic() - began
    n = max(3, int(1.0 / (seconds_of(2) / 2)))
    return tokens * n / seconds_of(n), ready_s


def time_trainer(config: RunConfig, device: str) -> tuple[float, float]:
    """Measure tokens per second of ``transformers.Trainer``, from the time between its steps."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    identity = config.identity
    assert identity.architecture is not None
    on_gpu, times = device.startswith("cuda"), list[float]()
    n_steps = 60 if on_gpu else 8

    first = n_steps // 3

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, _: object, state: Any, *__: object, **___: object) -> None:
            if state.global_step not in (1, first, n_steps):
                return
            if on_gpu:
                torch.cuda.synchronize()
            times.append(time.monotonic())

    random = np.random.default_rng(0)
    rows = random.integers(
        VOCABULARY, size=(n_steps * identity.batch_sequences, identity.sequence_tokens)
    )
    data = [{"input_ids": row, "labels": row} for row in torch.from_numpy(rows)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=n_steps,
            per_device_train_batch_size=identity.batch_sequences,
            learning_rate=identity.learning_rate,
            lr_scheduler_type="constant",
            weight_decay=0.1,
            bf16=on_gpu,
            use_cpu=not on_gpu,
            optim="adamw_torch_fused",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_steps=1000,
        )
        model = build_llama(identity.architecture, device=device)
        began = time.monotonic()
        Trainer(model=model, args=arguments, train_dataset=data, callbacks=[Clock()]).train()
    rate = (n_steps - first) * identity.batch_tokens / (times[-1] - times[-2])
    return rate, times[0] - began


# ------------------------------------------------------------------------------------- rows
def rows_of(size: str, device: str, wanted: list[str]) -> Iterator[dict[str, Any]]:
    """Time all wanted rows of one size."""
    on_gpu = device.startswith("cuda")
    config = configure(size, on_gpu)
    identity = config.identity
    width, layers, _ = SIZES[size]
    lanes = [1, 2, 3, 9] if on_gpu else [1]

    def ours(n: int, packing: Packing = "concatenated") -> tuple[float, float]:
        packed = identity.model_copy(update={"packing": packing})
        run = config.model_copy(update={"identity": packed})
        timing = time_steps(run, Path(), device=device, lanes=n)
        return timing.tokens_per_s, timing.compile_s

    def without_channels() -> tuple[float, float]:
        with mock.patch.object(steps, "add_channel_losses", _nothing):
            return ours(3 if on_gpu else 1)

    def stacked() -> tuple[float, float]:
        from stacked import stacked_step

        make = lambda: replay(stacked_step(SIZES[size], VOCABULARY, 9, 32, 512))  # noqa: E731
        return time_step(make, 9 * identity.batch_tokens, device)

    kinds: dict[str, Callable[[], tuple[float, float]]] = {
        "hf-eager": lambda: time_step(
            lambda: plain_step(config, device, compiled=False), identity.batch_tokens, device
        ),
        "hf-trainer": lambda: time_trainer(config, device),
    }
    if on_gpu:
        kinds["hf-graph"] = lambda: time_step(
            lambda: replay(plain_step(config, device, compiled=True)), identity.batch_tokens, device
        )
    kinds |= {f"dcpt {n}": lambda n=n: ours(n) for n in lanes}  # type: ignore[misc]
    kinds |= {"without channels": without_channels, "documents": lambda: ours(1, "documents")}
    if on_gpu:
        kinds["stacked"] = stacked
    model = build_llama(identity.architecture, device="meta")  # type: ignore[arg-type]
    n_params = sum(p.numel() for p in model.parameters())
    flops = 6 * n_params + 12 * layers * width * identity.sequence_tokens
    for kind, measure in kinds.items():
        if wanted and kind.split()[0] not in wanted:
            continue
        if on_gpu:
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        rate, ready_s = measure()
        yield {
            "size": size,
            "n_params": n_params,
            "kind": kind,
            "tokens_per_s": rate,
            "mfu": flops * rate / PEAK_FLOPS if on_gpu else None,
            "ready_s": ready_s,
            "gib": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None,
        }


def _nothing(*_: object) -> None:
    """Replace a function that a row leaves out."""


def time_loader() -> float:
    """Measure tokens per second of the mixture alone."""
    random = np.random.default_rng(0)
    shards = {n: random.integers(VOCABULARY, size=2**24).astype(np.uint16) for n in ("a", "b")}
    mixture = Mixture([Phase(0, {"a": Fraction(1, 4), "b": Fraction(3, 4)})], shards, 512, 32, 0)
    began = time.monotonic()
    for number in range(512):
        mixture.batch(number)
    return 512 * 32 * 512 / (time.monotonic() - began)


def main() -> None:
    """Print each row when it is measured, and write them as JSON with ``--json``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", nargs="+", default=["1.8M", "6.6M", "29M", "91M"])
    parser.add_argument("--only", nargs="*", default=[], help="hf-eager, dcpt ...")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    on_gpu = args.device.startswith("cuda")
    machine = torch.cuda.get_device_name() if on_gpu else platform.processor() or "CPU"
    print(f"{machine}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"loader {time_loader():.3g} tokens/s")
    rows = []
    for size in args.sizes:
        for row in rows_of(size, args.device, args.only):
            rows.append(row)
            mfu = "" if row["mfu"] is None else f"MFU {row['mfu']:6.1%}  {row['gib']:5.2f} GiB"
            print(
                f"{size:5} {row['kind']:16} {row['tokens_per_s'] / 1e3:9.2f} k tokens/s  "
                f"{row['ready_s']:5.1f} s before  {mfu}",
                flush=True,
            )
            if args.json:
                args.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
