"""From a study to the runs it asks for: resolved, deduplicated, in an order that can be trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dcpt.errors import InputError
from dcpt.grid.bases import Base, base_of_checkpoint, base_of_ladder
from dcpt.grid.checkpoints import identify_checkpoint
from dcpt.grid.evaluations import evaluation_points
from dcpt.grid.ladder import base_channels, find_trained
from dcpt.grid.plan_checks import check_plan
from dcpt.grid.planned import PlannedRun, Trunk
from dcpt.grid.requested import peak_of, requested_trunks
from dcpt.grid.warmup import resolve_warmup, write_warmup
from dcpt.runs.identity import (
    Architecture,
    ChannelIdentity,
    Decay,
    Identity,
    Purpose,
    Recorded,
    RunConfig,
)
from dcpt.runs.stored import StoredRuns
from dcpt.study.folder import StudyFolder
from dcpt.study.schema import Study
from dcpt.text.manifest import Manifest, Prepared, SplitCounts, load_prepared
from dcpt.text.near_duplicates.records import CleanText


class Planner:
    """Lists the runs of one study, and holds what they share. Planning writes nothing.

    Args:
        study: The study.
        folder: Where it lives; its texts must be prepared.
        stored: The runs that are there already: the warmup, and what a checkpoint was when runs
            started from it, are theirs.

    Raises:
        InputError: If the texts are not prepared, or the stored runs have different warmups.
    """

    def __init__(self, study: Study, folder: StudyFolder, stored: StoredRuns) -> None:
        self.study, self.folder, self.stored = study, folder, stored
        self.prepared: Prepared = load_prepared(folder.prepared)
        self.batch = study.training.batch_sequences * study.training.sequence_tokens
        self.n_tokens = self._whole_steps(study.tokens)
        self._checkpoints: dict[str, tuple[str, str]] = {}
        known = [
            ChannelIdentity(
                name=channel.name,
                side=channel.side,
                weight=channel.weight,
                train_sha256=self._manifest(channel.name).train.sha256,
                valid_sha256=self._evaluated(channel.name).sha256,
            )
            for channel in study.channels
        ]
        self.channels = tuple(channel for channel in known if channel.side != "extra")
        self.extra = {channel.name: channel for channel in known if channel.side == "extra"}
        self.warmup = resolve_warmup(study, folder, stored, self.channels, self.n_tokens)
        self.warmup_tokens = self.warmup.warmup_tokens

    def _manifest(self, name: str) -> Manifest:
        found = self.prepared.channels.get(name)
        if found is None:
            raise InputError(
                f"channel {name!r} is not prepared in {self.prepared.folder}; run `dcpt prepare` "
                "again"
            )
        return found

    def _evaluated(self, name: str) -> SplitCounts | CleanText:
        self._manifest(name)
        return self.prepared.evaluated(name)

    def _whole_steps(self, tokens: float) -> int:
        return math.ceil(tokens / self.batch) * self.batch

    def settle_warmup(self) -> None:
        """Write down how many tokens the warmup takes, before runs with it are trained.

        A damaged ``resolved.json`` is set aside.
        """
        write_warmup(self.folder, self.warmup)

    def plan(
        self, asked: Sequence[Trunk] | None = None, purpose: Purpose = "grid"
    ) -> list[PlannedRun]:
        """List runs: pre-trained bases, trunks and their branches.

        Args:
            asked: Only these trunks, with the bases they start from; None takes the grid and the
                listed runs, and pre-trains the target's base as well.
            purpose: Why the trunks are trained.

        Returns:
            Runs without duplicates; a run comes after those it needs.

        Raises:
            InputError: If the texts are too short, a checkpoint cannot be read, or the study asks
                for what cannot be trained.
        """
        study = self.study
        if asked is None:
            trunks = requested_trunks(study)
        else:
            trunks = [replace(trunk, n_tokens=trunk.n_tokens or self.n_tokens) for trunk in asked]
        ratios = {trunk.ratio for trunk in trunks}
        check_plan(study, self.prepared, self.channels, self.extra.values(), ratios)
        labels = {trunk.base for trunk in trunks}
        if asked is None and study.target is not None and study.target.base is not None:
            labels.add(study.target.base)
        ladder = set(study.bases.ladder.sizes if study.bases.ladder else ())
        bases = {label: self._pretrain(label) for label in sorted(labels & ladder)}
        planned = {run.config.identity.hash: run for run in bases.values()}
        for trunk, leaves in self._merge(trunks).items():
            for run in self._trunk(trunk, leaves, purpose, bases.get(trunk.base)):
                planned.setdefault(run.config.identity.hash, run)
        return list(planned.values())

    def _merge(self, trunks: Sequence[Trunk]) -> dict[Trunk, list[int]]:
        """Merge trunks that differ in their length alone: they are the same run.

        Returns:
            Tokens at which decays leave each trunk, ascending; the last is its end. A merged trunk
            has no length of its own, unless all of its requests had one.
        """
        leaves: dict[Trunk, set[int]] = {}
        full = {replace(trunk, n_tokens=None) for trunk in trunks if trunk.n_tokens is None}
        for trunk in trunks:
            run = replace(trunk, n_tokens=None)
            ends = self._leaves() if trunk.n_tokens is None else [self._whole_steps(trunk.n_tokens)]
            leaves.setdefault(run, set()).update(ends)
        return {
            run if run in full else replace(run, n_tokens=max(ends)): sorted(ends)
            for run, ends in leaves.items()
        }

    def _identity(self, **fields: Any) -> Identity:
        training = self.study.training
        fields = {"channels": self.channels, **fields}
        return Identity(
            tokenizer_sha256=self._manifest(self.channels[0].name).tokenizer_sha256,
            batch_sequences=training.batch_sequences,
            sequence_tokens=training.sequence_tokens,
            optimizer=training.optimizer,
            packing=training.packing,
            validation_tokens=self.study.evaluation.tokens,
            dtype=training.dtype,
            **fields,
        )

    def _recorded(self, **fields: Any) -> Recorded:
        return Recorded(
            data_path=self.prepared.folder.name,
            checkpoint_every_s=self.study.training.checkpoint_every_s,
            micro_batch_sequences=self.study.training.micro_batch_sequences,
            activation_checkpointing=self.study.training.activation_checkpointing,
            study_name=self.study.name,
            trackers=tuple(self.study.logging.trackers),
            **fields,
        )

    def _pretrain(self, label: str) -> PlannedRun:
        ladder = self.study.bases.ladder
        assert ladder is not None
        size, n_tokens = ladder.sizes[label], self._whole_steps(ladder.tokens)
        architecture = Architecture(
            width=size.width,
            layers=size.layers,
            heads=size.heads,
            vocab_size=self._manifest(self.channels[0].name).vocab_size,
            max_sequence_tokens=self.study.training.sequence_tokens,
        )
        decay = self._whole_steps(ladder.decay * n_tokens)
        peak = peak_of(label, self.study.bases)
        identity = self._identity(
            kind="pretrain",
            base="ladder",
            architecture=architecture,
            channels=base_channels(self.channels, self.prepared),
            ratio=0.0,
            learning_rate=peak,
            warmup_tokens=self._whole_steps(ladder.warmup * n_tokens),
            decay=Decay(
                start_tokens=n_tokens - decay,
                n_tokens=decay,
                final_fraction=ladder.final_fraction,
            )
            if decay
            else None,
            seed=ladder.seed,
        )
        start = n_tokens - decay if ladder.start == "before_decay" else n_tokens
        recorded = self._recorded(
            size=label,
            n_tokens=n_tokens,
            evaluation_at=(start,),
            keep_state_at=(start,) if start < n_tokens else (),
            base_peak_learning_rate=peak,
            base_n_tokens=start,
            save_model=True,
            purpose="base",
        )
        n_params = size.width * (architecture.vocab_size + 12.0 * size.layers * size.width)
        config = RunConfig(identity=identity, recorded=recorded)
        found = find_trained(config, self.channels, self.stored)
        return PlannedRun(found, about_n_params=n_params)

    def _base_of(self, label: str, pretrain: PlannedRun | None) -> Base:
        if pretrain is not None:
            model = self.stored.folder_of(pretrain.config).model
            return base_of_ladder(pretrain, str(model.relative_to(self.folder.path)))
        checkpoint = self.study.bases.checkpoints[label]
        if label not in self._checkpoints:
            self._checkpoints[label] = identify_checkpoint(
                label, checkpoint.model, self.folder, self.prepared, self.stored.configs
            )
        return base_of_checkpoint(checkpoint, *self._checkpoints[label])

    def _leaves(self) -> list[int]:
        """Tokens at which branches leave a trunk of the grid."""
        end = self.n_tokens
        leaves = sorted({self._whole_steps(at) for at in self.study.branches.at} | {end})
        if leaves[-1] > end:
            raise InputError(
                f"branches.at: {leaves[-1]} tokens lie beyond the trunk's end at {end}; "
                "lengthen tokens or drop that branch"
            )
        return leaves

    def _trunk(
        self, trunk: Trunk, leaves: list[int], purpose: Purpose, pretrain: PlannedRun | None
    ) -> list[PlannedRun]:
        """The trunk itself and its branches, which leave it at ``leaves``."""
        base = self._base_of(trunk.base, pretrain)
        end = leaves[-1]
        if leaves[0] <= self.warmup_tokens:
            raise InputError(
                f"a branch would leave at {leaves[0]} tokens, within the warmup of "
                f"{self.warmup_tokens}; shorten the warmup, or branch later"
            )
        identity = self._identity(
            kind="trunk",
            base=base.identity,
            base_state_tokens=base.state_tokens,
            ratio=trunk.ratio,
            learning_rate=trunk.learning_rate,
            warmup_tokens=self.warmup_tokens,
            warmup_ratio=self.study.training.warmup_ratio,
            seed=trunk.seed,
        )
        about: dict[str, Any] = {
            "size": trunk.base,
            "base_path": base.path,
            "base_peak_learning_rate": peak_of(trunk.base, self.study.bases),
            "base_n_tokens": base.n_tokens,
            "save_model": self.study.training.save_models,
            "purpose": purpose,
        }
        recorded = self._recorded(
            n_tokens=end,
            evaluation_at=self._evaluation_at(leaves),
            keep_state_at=tuple(leaves),
            **about,
        )
        config = RunConfig(identity=identity, recorded=recorded)
        branches = [self._branch(identity, start, about) for start in leaves]
        if trunk.n_tokens is None:  # trunks with a length of their own have the ordinary decay only
            branches += [
                self._branch(identity, self.n_tokens, about, name)
                for name in self.study.branches.mixtures
            ]
        return [
            PlannedRun(config, base.needs, base.n_params),
            *(PlannedRun(branch, (identity.hash,), base.n_params) for branch in branches),
        ]

    def _evaluation_at(self, leaves: Sequence[int]) -> tuple[int, ...]:
        """Tokens at which a trunk is evaluated: log-spaced, and where decays leave it."""
        how = self.study.evaluation
        first = how.first_tokens or max(math.ceil(2.5 * self.warmup_tokens), 4 * self.batch)
        points = evaluation_points(leaves[-1], first, how.points_per_doubling, self.batch)
        return tuple(sorted({*points, *leaves}))

    def _branch(
        self, trunk: Identity, start: int, about: dict[str, Any], mixture: str | None = None
    ) -> RunConfig:
        """The decay that leaves a trunk at ``start``; ``mixture`` names one of its own."""
        branches = self.study.branches
        own = None if mixture is None else branches.mixtures[mixture]
        decay = Decay(
            start_tokens=start,
            n_tokens=self._whole_steps(branches.decay * start),
            mixture=own,
            optimizer=branches.optimizer,
        )
        extra = tuple(channel for name, channel in self.extra.items() if name in (own or {}))
        identity = trunk.model_copy(
            update={
                "kind": "branch",
                "trunk": trunk.hash,
                "decay": decay,
                "channels": trunk.channels + extra,
            }
        )
        end = start + decay.n_tokens
        recorded = self._recorded(n_tokens=end, evaluation_at=(end,), mixture_name=mixture, **about)
        return RunConfig(identity=identity, recorded=recorded)
