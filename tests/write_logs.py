"""Small logs in the formats of trainers, with the losses of :func:`losses_at`."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

STEPS = range(0, 500, 100)
RUNS = {"r0.1": 0.1, "r0.5": 0.5}

Message = list[tuple[int, int | float | bytes | str]]


def losses_at(step: int, ratio: float) -> dict[str, float]:
    return {"general": 2.5 + ratio * step / 1e4, "domain": 3.5 - ratio * step / 1e3}


def trainer_state(path: Path, ratio: float, steps: Iterable[int] = STEPS) -> Path:
    records = []
    for step in steps:
        if step:
            records.append({"loss": 3.0, "learning_rate": 3e-4, "epoch": 0.1, "step": step})
        losses = losses_at(step, ratio)
        records += [{f"eval_{name}_loss": loss, "step": step} for name, loss in losses.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"global_step": 400, "log_history": records}))
    return path


def swift(path: Path, ratio: float) -> Path:
    lines = []
    for step in STEPS:
        place = {"global_step/max_steps": f"{step}/400", "elapsed_time": "1m 2s"}
        lines.append({"loss": 3.0, "learning_rate": 3e-4, **place})
        losses = losses_at(step, ratio)
        lines += [{f"eval_{name}_loss": loss, **place} for name, loss in losses.items()]
    return json_lines(path, lines)


def llama_factory(path: Path, ratio: float) -> Path:
    lines = []
    for step in STEPS:
        place = {"current_steps": step, "total_steps": 400, "elapsed_time": "0:00:01"}
        lines.append({**place, "loss": 3.0, "lr": 3e-4, "total_tokens": step * 4096})
        lines.append({**place, "eval_loss": losses_at(step, ratio)["domain"]})
    return json_lines(path, lines)


def json_lines(path: Path, lines: Iterable[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def megatron(path: Path, ratio: float) -> Path:
    dots = "." * 38
    lines = [f"  seq_length {dots} 512", f"  global_batch_size {dots} 8"]
    for step in STEPS:
        lines.append(
            f" [2026-01-01 10:00:00.123456] iteration {step:8d}/     400 | consumed samples: "
            f"{8 * step:12d} | elapsed time per iteration (ms): 100.1 | learning rate: "
            f"3.000000E-04 | global batch size:     8 | lm loss: 3.000000E+00 | loss scale: 1.0 | "
            "grad norm: 1.234 | number of skipped iterations:   0 | number of nan iterations:   0 |"
        )
        for index, loss in enumerate(losses_at(step, ratio).values()):
            lines += [
                "-" * 90,
                f" validation-{index} loss at iteration {step} | lm loss value: {loss:.6E} | lm "
                f"loss PPL: {math.exp(loss):.6E} | ",
            ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def torchtitan(path: Path, ratio: float) -> Path:
    lines = []
    for step in STEPS:
        memory = "\x1b[38;2;54;234;195mmemory:  1.00GiB(2.00%)  \x1b[34mtps: 4,096\x1b[39m"
        start = "[rank0]:[titan] 2026-01-01 10:00:00,000 - root - INFO - "
        lines.append(
            f"{start}\x1b[31mstep: {step:2}  \x1b[32mloss:  3.00000  \x1b[33mgrad_norm:  1.5000  "
            f"{memory}"
        )
        loss = losses_at(step, ratio)["domain"]
        lines.append(f"{start}\x1b[33mvalidate step: {step:2}  \x1b[32mloss: {loss:7.4f}  {memory}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def olmo_core(folder: Path, ratio: float) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    metrics: dict[str, float] = {}
    for step in range(50, 500, 50):  # evaluated at every second of them
        metrics |= {"throughput/total tokens": step * 4096, "optim/LR (group 0)": 3e-4}
        if step % 100 == 0:
            losses = losses_at(step, ratio)
            metrics |= {f"eval/lm/{name}-validation/CE loss": x for name, x in losses.items()}
        (folder / f"metrics_step{step}.json").write_text(json.dumps(metrics))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def wandb_wide(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for channel in ("general", "domain"):
        names = [f"{run} - eval/{channel}_loss" for run in RUNS]
        header = ["Step", *(f"{name}{end}" for name in names for end in ("", "__MIN", "__MAX"))]
        rows = [",".join(f'"{name}"' for name in header)]
        for step in STEPS:
            cells = [losses_at(step, ratio)[channel] for ratio in RUNS.values()]
            rows.append(",".join([str(step), *(f"{cell},{cell - 1},{cell + 1}" for cell in cells)]))
        path = folder / f"{channel}.csv"
        path.write_text("\n".join(rows) + "\n")
        paths.append(path)
    return paths


def wandb_long(path: Path) -> Path:
    rows = ["run,_step,eval/general_loss,eval/domain_loss,domain_ratio,note"]
    for run, ratio in RUNS.items():
        for step in STEPS:
            losses = losses_at(step, ratio)
            rows.append(f"{run},{step},{losses['general']},{losses['domain']},{ratio},x")
            rows.append(f"{run},{step + 1},,,{ratio},x")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")
    return path


def olmix(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    ratios, metrics = ["run_id,name,code,math,web"], ["run_id,name,general,domain"]
    for run, ratio in RUNS.items():
        losses = losses_at(400, ratio)
        ratios.append(f"{run},x,{ratio / 2},{ratio / 2},{1 - ratio}")
        metrics.append(f"{run},x,{losses['general']},{losses['domain']}")
    (folder / "ratios.csv").write_text("\n".join(ratios) + "\n")
    (folder / "metrics.csv").write_text("\n".join(metrics) + "\n")
    return folder


# -------------------------------------------------------------------------------- protocol buffers
def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    parts = b""
    while value > 127:
        parts += bytes([value & 127 | 128])
        value >>= 7
    return parts + bytes([value])


def message(fields: Message) -> bytes:
    parts = b""
    for number, value in fields:
        if isinstance(value, int):
            parts += varint(number << 3) + varint(value)
        elif isinstance(value, float):
            parts += varint(number << 3 | 5) + struct.pack("<f", value)
        else:
            content = value.encode() if isinstance(value, str) else value
            parts += varint(number << 3 | 2) + varint(len(content)) + content
    return parts


def tensorboard(path: Path, ratio: float) -> Path:
    events = [message([(3, "brain.Event:2")])]
    for step in STEPS:
        scalars = {f"eval/{name}_loss": loss for name, loss in losses_at(step, ratio).items()}
        for tag, value in {**scalars, "train/learning_rate": 3e-4}.items():
            summary = message([(1, message([(1, tag), (2, value)]))])
            events.append(message([(2, step), (5, summary)]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(struct.pack("<QI", len(e), 0) + e + b"\0" * 4 for e in events))
    return path


def wandb_offline(path: Path, run: str, ratio: float) -> Path:
    """A run whose history has a record longer than a block."""
    config = message([(1, message([(1, "domain_ratio"), (16, json.dumps(ratio))]))])
    records = [message([(17, message([(1, "id1"), (4, config), (8, run)]))])]
    for step in STEPS:
        values: dict[str, object] = {"_step": step, "text": "x" * 40_000}
        values |= {f"eval/{name}_loss": loss for name, loss in losses_at(step, ratio).items()}
        items: Message = [
            (1, message([(2, name), (16, json.dumps(value))])) for name, value in values.items()
        ]
        records.append(message([(2, message(items))]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(as_leveldb(records))
    return path


def as_leveldb(records: list[bytes], block: int = 32768) -> bytes:
    data = bytearray(b":W&B" + struct.pack("<HB", 0xBEE1, 0))
    for record in records:
        left, first = record, True
        while first or left:
            room = block - len(data) % block
            if room < 7:
                data += b"\0" * room
                continue
            part, left = left[: room - 7], left[room - 7 :]
            kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[
                (first, not left)
            ]
            data += struct.pack(
                "<IHB", zlib.crc32(part, zlib.crc32(bytes([kind]))), len(part), kind
            )
            data += part
            first = False
    return bytes(data)


WRITERS: dict[str, Callable[[Path], object]] = {
    "hf": lambda root: [trainer_state(root / r / "trainer_state.json", x) for r, x in RUNS.items()],
    "swift": lambda root: [swift(root / r / "v0" / "logging.jsonl", x) for r, x in RUNS.items()],
    "factory": lambda root: [
        llama_factory(root / r / "trainer_log.jsonl", x) for r, x in RUNS.items()
    ],
    "megatron": lambda root: [megatron(root / f"{r}.log", x) for r, x in RUNS.items()],
    "torchtitan": lambda root: [torchtitan(root / f"{r}.log", x) for r, x in RUNS.items()],
    "olmo": lambda root: [olmo_core(root / r, x) for r, x in RUNS.items()],
    "tensorboard": lambda root: [
        tensorboard(root / r / "runs" / "events.out.tfevents.1.host.0", x) for r, x in RUNS.items()
    ],
    "wandb wide": wandb_wide,
    "wandb long": lambda root: wandb_long(root / "history.csv"),
    "wandb offline": lambda root: [
        wandb_offline(root / f"offline-run-{r}" / f"run-{r}.wandb", r, x) for r, x in RUNS.items()
    ],
    "olmix": olmix,
}
"""By format, what writes the logs of two runs into a folder."""
