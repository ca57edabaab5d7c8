"""Tiny runs for the tests of training: three channels, a base, a trunk and its branches."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcpt.runs.folders import RunFolder
from dcpt.runs.identity import Architecture, ChannelIdentity, Decay, Identity, Recorded, RunConfig
from dcpt.text.manifest import load_prepared
from dcpt.text.prepare import prepare
from dcpt.text.sources import ChannelSource
from dcpt.training.checkpoints import checkpoint_sha256
from dcpt.training.models import build_llama, save_model

BATCH_TOKENS = 4 * 16
WORDS = {
    "en": "the of and to a in house river people law state union year work peace war man",
    "code": "def return import for while class self print lambda yield assert raise try",
    "law": "court plaintiff statute appeal held defendant motion clause tort contract judge",
}


def prepare_text(folder: Path) -> None:
    """Two general channels and a domain of random words."""
    folder.mkdir(parents=True)
    for name, words in WORDS.items():
        draw, vocabulary = random.Random(name), words.split()
        documents = [" ".join(draw.choices(vocabulary, k=40)) for _ in range(60)]
        (folder / f"{name}.txt").write_text("\n\n".join(documents), encoding="utf-8")
        (folder / f"{name}.jsonl").write_text(
            "".join(f'{{"text": "{document}"}}\n' for document in documents), encoding="utf-8"
        )
    sources = [
        ChannelSource(name, str(folder / f"{name}.jsonl"), valid_fraction=0.2) for name in WORDS
    ]
    prepare(sources, folder / "data", 300)


@dataclass(frozen=True)
class Made:
    """Builds configurations that fit the prepared text of a study folder."""

    study: Path
    base: Path
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def runs(self) -> Path:
        return self.study / "runs"

    def folder(self, config: RunConfig) -> RunFolder:
        return RunFolder.of(config, self.runs)

    def identity(self, **fields: Any) -> Identity:
        prepared = load_prepared(self.study / "data")
        sides = {"en": "general", "code": "general", "law": "domain"}
        weights = {"en": 2.0, "code": 1.0, "law": 1.0}
        channels = tuple(
            ChannelIdentity(
                name=name,
                side=sides[name],
                weight=weights[name],
                train_sha256=manifest.train.sha256,
                valid_sha256=manifest.valid.sha256,
            )
            for name, manifest in prepared.channels.items()
        )
        about: dict[str, Any] = {
            "kind": "trunk",
            "base": f"weights:{checkpoint_sha256(self.base)}",
            "tokenizer_sha256": prepared.channels["en"].tokenizer_sha256,
            "channels": channels,
            "ratio": 0.4,
            "learning_rate": 3e-3,
            "warmup_tokens": 4 * BATCH_TOKENS,
            "batch_sequences": 4,
            "sequence_tokens": 16,
            "validation_tokens": 160,
            "seed": 1,
        }
        return Identity(**{**about, **self.fields, **fields})

    def trunk(
        self, steps: int, points: tuple[int, ...] = (), keep: tuple[int, ...] = (), **fields: Any
    ) -> RunConfig:
        """A trunk with points and kept states at the given steps."""
        recorded: dict[str, Any] = {
            "size": "tiny",
            "n_tokens": steps * BATCH_TOKENS,
            "evaluation_at": tuple(n * BATCH_TOKENS for n in points),
            "keep_state_at": tuple(n * BATCH_TOKENS for n in keep),
            "base_path": str(self.base),
        }
        recorded |= {key: fields.pop(key) for key in list(fields) if key in Recorded.model_fields}
        return RunConfig(identity=self.identity(**fields), recorded=Recorded(**recorded))

    def branch(self, trunk: RunConfig, leaves: int, steps: int, **recorded: Any) -> RunConfig:
        """A decay of so many steps that leaves the trunk at step ``leaves``."""
        decay = Decay(start_tokens=leaves * BATCH_TOKENS, n_tokens=steps * BATCH_TOKENS)
        identity = trunk.identity.model_copy(
            update={"kind": "branch", "trunk": trunk.identity.hash, "decay": decay}
        )
        end = (leaves + steps) * BATCH_TOKENS
        about = {"n_tokens": end, "evaluation_at": (end,), "keep_state_at": (), **recorded}
        return RunConfig(identity=identity, recorded=trunk.recorded.model_copy(update=about))

    def pretrain(self, steps: int, decay_steps: int, **fields: Any) -> RunConfig:
        """A base trained from random weights on the general channels."""
        decay = Decay(
            start_tokens=(steps - decay_steps) * BATCH_TOKENS,
            n_tokens=decay_steps * BATCH_TOKENS,
            final_fraction=0.1,
        )
        identity = self.identity(
            kind="pretrain",
            base="ladder",
            architecture=ARCHITECTURE,
            ratio=0.0,
            decay=decay,
            **fields,
        )
        recorded = Recorded(
            size="tiny", n_tokens=steps * BATCH_TOKENS, evaluation_at=(), save_model=True
        )
        return RunConfig(identity=identity, recorded=recorded)


ARCHITECTURE = Architecture(width=16, layers=2, heads=2, vocab_size=300, max_sequence_tokens=16)


def save_base(tokenizer: Path, folder: Path) -> None:
    """Save an untrained base as a model folder."""
    save_model(build_llama(ARCHITECTURE, seed=7), tokenizer, folder)


def points_of(folder: RunFolder) -> list[dict[str, Any]]:
    """Points without times."""
    return [{k: v for k, v in point.items() if k != "wall_s"} for point in folder.points()]
