"""The trainers that configurations are written for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dcpt.errors import InputError, did_you_mean
from dcpt.trainer_configs.axolotl import write_axolotl
from dcpt.trainer_configs.hf_datasets import write_hf_datasets
from dcpt.trainer_configs.llama_factory import write_llama_factory
from dcpt.trainer_configs.megatron import write_megatron
from dcpt.trainer_configs.ms_swift import write_ms_swift
from dcpt.trainer_configs.nanotron import write_nanotron
from dcpt.trainer_configs.nemo import write_nemo
from dcpt.trainer_configs.olmo_core import write_olmo_core
from dcpt.trainer_configs.plain_yaml import write_plain_yaml
from dcpt.trainer_configs.records import Recipe
from dcpt.trainer_configs.torchtitan import write_torchtitan


@dataclass(frozen=True)
class Trainer:
    """A trainer.

    Args:
        name: Its name on the command line.
        draws_documents: Whether its weights are of documents, whose mean lengths it needs.
        write: Writes its files: text by file name.
    """

    name: str
    draws_documents: bool
    write: Callable[[Recipe], dict[str, str]]


TRAINERS = {
    trainer.name: trainer
    for trainer in (
        Trainer("ms-swift", True, write_ms_swift),
        Trainer("llama-factory", True, write_llama_factory),
        Trainer("axolotl", True, write_axolotl),
        Trainer("megatron", False, write_megatron),
        Trainer("nemo", False, write_nemo),
        Trainer("torchtitan", False, write_torchtitan),
        Trainer("nanotron", False, write_nanotron),
        Trainer("olmo-core", False, write_olmo_core),
        Trainer("hf-datasets", True, write_hf_datasets),
        Trainer("yaml", False, write_plain_yaml),
    )
}


def find_trainer(name: str) -> Trainer:
    """A trainer by its name.

    Raises:
        InputError: If there is none of this name.
    """
    if name not in TRAINERS:
        raise InputError(
            f"--to {name}: no such trainer; take one of {', '.join(TRAINERS)} (yaml is for every "
            f"other){did_you_mean(name, TRAINERS)}"
        )
    return TRAINERS[name]
