"""How long does ``dcpt import`` take for logs of a million lines?

The script writes the logs of nine runs with a million lines in all, in the formats of which people
have the longest logs, with an evaluation at every hundredth line. It times what the second call of
``dcpt import`` does: find and read the logs, make the table and check it.

    python experiments/benchmarks/import_logs.py

Expected: less than 10 s for each format. Result in s of CPU time on a core of an AMD EPYC that
other work shared, with Python 3.11:

    ms-swift     5.4
    Megatron-LM  8.2
    TensorBoard  5.5
"""

from __future__ import annotations

import argparse
import json
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dcpt.trainer_logs import Mapping, import_runs, read_logs
from dcpt.trainer_logs.mapping import Tokens

RUNS = 9


def losses_at(step: int) -> dict[str, float]:
    return {"general": 2.5 + step * 1e-7, "domain": 3.5 - step * 1e-6}


def write_swift(path: Path, lines: int) -> dict[str, str]:
    """``logging.jsonl`` of ms-swift."""
    path.mkdir()
    with (path / "logging.jsonl").open("w") as file:
        for step in range(1, lines + 1):
            place = {"global_step/max_steps": f"{step}/{lines}", "elapsed_time": "1h 2m 3s"}
            record = {"loss": 3.01234567, "grad_norm": 1.23456789, "learning_rate": 0.0003}
            if step % 100 == 0:
                record = {f"eval_{name}_loss": loss for name, loss in losses_at(step).items()}
            file.write(json.dumps({**record, "epoch": step / lines, **place}) + "\n")
    return {name: f"eval_{name}_loss" for name in losses_at(0)}


def write_megatron(path: Path, lines: int) -> dict[str, str]:
    """The text that Megatron-LM prints."""
    with (path.parent / f"{path.name}.log").open("w") as file:
        for step in range(1, lines + 1):
            file.write(
                f" [2026-01-01 10:00:00.123456] iteration {step:8d}/{lines:8d} | consumed samples: "
                f"{8 * step:12d} | elapsed time per iteration (ms): 100.1 | learning rate: "
                "3.000000E-04 | global batch size:     8 | lm loss: 3.012345E+00 | loss scale: 1.0 "
                "| grad norm: 1.234 | number of skipped iterations:   0 | number of nan "
                "iterations:   0 |\n"
            )
            for index, loss in enumerate(losses_at(step).values() if step % 100 == 0 else ()):
                file.write(
                    f" validation-{index} loss at iteration {step} | lm loss value: {loss:.6E} | "
                    "lm loss PPL: 1.234567E+01 | \n"
                )
    return {"general": "lm loss validation-0", "domain": "lm loss validation-1"}


def write_tensorboard(path: Path, lines: int) -> dict[str, str]:
    """Events of TensorBoard, of one scalar each."""
    path.mkdir()
    with (path / "events.out.tfevents.1.host").open("wb") as file:
        for step in range(1, lines + 1):
            scalars = {"train/loss": 3.0}
            if step % 100 == 0:
                scalars = {f"eval/{name}_loss": loss for name, loss in losses_at(step).items()}
            for tag, value in scalars.items():
                event = encode_event(step, tag, value)
                file.write(struct.pack("<QI", len(event), 0) + event + b"\0" * 4)
    return {name: f"eval/{name}_loss" for name in losses_at(0)}


def encode_event(step: int, tag: str, value: float) -> bytes:
    number = b"\x10"
    while step > 127:
        number += bytes([step & 127 | 128])
        step >>= 7
    number += bytes([step])
    scalar = b"\x0a" + bytes([len(tag)]) + tag.encode() + b"\x15" + struct.pack("<f", value)
    summary = b"\x0a" + bytes([len(scalar)]) + scalar
    return b"\x09" + struct.pack("<d", 1.8e9) + number + b"\x2a" + bytes([len(summary)]) + summary


WRITERS: dict[str, Callable[[Path, int], dict[str, str]]] = {
    "ms-swift": write_swift,
    "Megatron-LM": write_megatron,
    "TensorBoard": write_tensorboard,
}


def measure(write: Callable[[Path, int], dict[str, str]], lines: int) -> tuple[float, int]:
    """CPU seconds of an import, and the points of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "logs"
        folder.mkdir()
        for number in range(RUNS):
            metrics = write(folder / f"r0.{number + 1}", lines // RUNS)
        start = time.process_time()
        mapping = Mapping(
            losses={channel: (metric,) for channel, metric in metrics.items()},
            tokens=Tokens(per_step=4096),
            run_names="r{ratio}",
            all_runs={"n_params": "2M", "phase": "constant", "learning_rate": 3e-4},
        )
        frame, _ = import_runs(read_logs([folder])[0], mapping, "mapping.yaml")
        return time.process_time() - start, len(frame)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lines", type=int, default=1_000_000)
    lines = parser.parse_args().lines
    for name, write in WRITERS.items():
        seconds, points = measure(write, lines)
        print(f"{name:<12} {lines:,} lines: {seconds:5.1f} s, {points:,} points")


if __name__ == "__main__":
    main()
