"""All runs of a study on disk, read in a single pass over its run folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dcpt.atomic_files import DamagedFileError
from dcpt.runs.folders import NAME, RunFolder
from dcpt.runs.identity import RunConfig


@dataclass(frozen=True)
class StoredRuns:
    """The runs found in a single pass over the run folders.

    Args:
        path: The study's ``runs``.
        sound: The runs without damage, by the names of their folders.
        damaged: What is wrong with each damaged run, by the hash in its folder's name.
        configs: The readable configurations, of runs in any state.
        folders: All folders of runs, by the hashes in their names.
        n_begun: Folders that hold metrics.
    """

    path: Path
    sound: Sequence[tuple[RunFolder, RunConfig]]
    damaged: Mapping[str, DamagedFileError]
    configs: Sequence[RunConfig]
    folders: Mapping[str, RunFolder]
    n_begun: int

    def folder_of(self, config: RunConfig) -> RunFolder:
        """The run's folder, found by the hash in its name.

        ``RunFolder.of`` lists all folders for each run, which takes 1.6 s for 1,000 runs.
        """
        found = self.folders.get(config.identity.hash)
        return RunFolder(self.path / config.name) if found is None else found

    @property
    def trunk_names(self) -> dict[str, str]:
        """The name of each trunk in the runs table, by its hash: the name of its folder."""
        return {
            config.identity.hash: folder.path.name
            for folder, config in self.sound
            if config.identity.kind == "trunk"
        }


def read_stored(runs: Path) -> StoredRuns:
    """Read and check every run folder below a study's ``runs``.

    A folder belongs to a run if it is named as runs are, or holds metrics and a configuration. All
    others are ignored.
    """
    sound, configs = [], []
    damaged: dict[str, DamagedFileError] = {}
    folders: dict[str, RunFolder] = {}
    n_begun = 0
    for path in sorted(runs.iterdir()) if runs.is_dir() else []:
        folder, name = RunFolder(path), NAME.search(path.name)
        has_metrics = folder.metrics.exists()
        n_begun += has_metrics
        is_named = name is not None and path.is_dir()
        if not is_named and not (has_metrics and (path / "config.json").exists()):
            continue
        identity_hash = path.name if name is None else name[1]
        folders.setdefault(identity_hash, folder)
        config, problem = None, folder.damage()
        with suppress(DamagedFileError):
            config = folder.config()
        if config is not None:
            configs.append(config)
        if problem is not None:
            damaged[identity_hash] = problem
        elif config is not None:
            sound.append((folder, config))
    return StoredRuns(runs, sound, damaged, configs, folders, n_begun)
