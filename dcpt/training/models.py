"""Models: any causal LM of ``transformers``, and the small Llamas of a ladder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dcpt.atomic_files import set_aside, sync_file, sync_folder
from dcpt.errors import InputError
from dcpt.runs.identity import Architecture
from dcpt.training.checkpoints import check_ids, checkpoint_files

MLP_MULTIPLE = 16
"""A ladder's MLP is 8/3 as wide as the model, rounded up to a multiple of this."""


@dataclass(frozen=True)
class ParameterCounts:
    """Sizes of a model; each parameter counts once, even if it is used twice.

    Attributes:
        n_params: All parameters.
        n_params_non_embedding: Without input and position embeddings and the output head.
    """

    n_params: int
    n_params_non_embedding: int


def build_llama(architecture: Architecture, seed: int = 0, device: str = "cpu") -> nn.Module:
    """Build an untrained Llama with tied embeddings and without dropout.

    Args:
        architecture: Shape of the model.
        seed: Seed of the weights, which are drawn on the CPU to be the same on every device.
        device: Device of the model; ``meta`` gives shapes without weights.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=architecture.vocab_size,
        hidden_size=architecture.width,
        intermediate_size=-(-8 * architecture.width // (3 * MLP_MULTIPLE)) * MLP_MULTIPLE,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.heads,
        max_position_embeddings=architecture.max_sequence_tokens,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        # The tokenizer defines special tokens; Llama's default ids may exceed a small vocabulary.
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]), torch.device("meta" if device == "meta" else "cpu"):
        torch.manual_seed(seed)
        model: nn.Module = LlamaForCausalLM(config)
    return model if device == "meta" else model.to(device)


def build_shape(path: str | Path, device: str = "meta") -> nn.Module:
    """Build a model of the shape of a checkpoint, without its weights.

    Args:
        path: A checkpoint folder or a hub id.
        device: Device of the model; ``meta`` allocates nothing.

    Raises:
        InputError: If ``transformers`` does not know the shape.
    """
    from transformers import AutoModelForCausalLM

    folder = checkpoint_files(path)[0].parent
    with _refusing(path), torch.device(device):
        shape = _read_shape(folder)
        model: nn.Module = AutoModelForCausalLM.from_config(shape, dtype=torch.float32)
    return model


def load_model(path: str | Path, device: str = "cpu") -> nn.Module:
    """Load a causal LM from safetensors, in float32, without running code of the checkpoint.

    Args:
        path: A checkpoint folder or a hub id.
        device: Device of the model.

    Raises:
        InputError: If it cannot be loaded, or weights are missing.
    """
    from transformers import AutoModelForCausalLM

    folder = checkpoint_files(path)[0].parent
    with _refusing(path), _quiet():
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            config=_read_shape(folder),
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    bad = sorted({*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])})
    if bad:
        raise InputError(
            f"checkpoint {path}: {len(bad)} weights of the model are not in it or have other "
            f"shapes, such as {bad[0]}; give a whole checkpoint with the config.json that fits it"
        )
    loaded: nn.Module = model.to(device)
    return loaded


def _read_shape(folder: Path) -> Any:
    """Read a checkpoint's configuration, without its choice of how attention is computed.

    ``transformers`` then uses torch's attention where the model supports it. A configuration may
    request a package that is not installed, or attention weights, which are not used here.
    """
    from transformers import AutoConfig

    shape = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    shape._attn_implementation = None
    shape._output_attentions = False
    return shape


@contextmanager
def _refusing(path: str | Path) -> Iterator[None]:
    """Turn any error of transformers and safetensors about a checkpoint into an ``InputError``.

    They raise many undocumented types of errors for damaged or unknown files.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(
            f"checkpoint {path}: transformers cannot load it as a causal LM ({reason}); give a "
            "whole checkpoint of a known model type"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Turn off progress bars of transformers, since many workers share a terminal."""
    from transformers.utils import logging

    were_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_on:
            logging.enable_progress_bar()


def check_positions(model: nn.Module, sequence_tokens: int, place: str) -> None:
    """Refuse sequences longer than the model has positions for.

    Raises:
        InputError: If they are.
    """
    config: Any = model.config
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and sequence_tokens > positions:
        raise InputError(
            f"{place}: sequence_tokens is {sequence_tokens}, and the model has "
            f"{positions} positions; shorten training.sequence_tokens to at most {positions}"
        )


def check_vocabulary(model: Any, vocab_size: int, place: str) -> None:
    """Refuse text whose token ids the model does not know.

    Args:
        model: The model.
        vocab_size: The largest id of the text + 1.
        place: Start of the message.

    Raises:
        InputError: If the text has an id that the model has no embedding for.
    """
    check_ids(vocab_size - 1, model.get_input_embeddings().num_embeddings, place)


def count_parameters(model: Any) -> ParameterCounts:
    """Count a model's parameters; shared parameters, such as tied embeddings, count once."""
    head = model.get_output_embeddings()
    outer = set() if head is None else {id(p) for p in head.parameters()}
    outer |= embedding_ids(model)
    n_params = sum(p.numel() for p in model.parameters())
    inner = sum(p.numel() for p in model.parameters() if id(p) not in outer)
    return ParameterCounts(n_params, inner)


def embedding_ids(model: nn.Module) -> set[int]:
    """``id`` of the weight of every token and position embedding."""
    return {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}


def save_model(
    model: Any, tokenizer: Path, folder: Path, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Save a model folder with safetensors and tokenizer, atomically.

    Args:
        model: The model.
        tokenizer: A tokenizer folder, copied unchanged.
        folder: The folder to create. An earlier model there is replaced; a folder with other files
            is set aside as ``<name>.damaged``.
        weights: Its state by name, if the model itself does not hold it whole.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with _quiet():
        model.save_pretrained(partial, state_dict=weights)
    for file in tokenizer.iterdir():
        if not file.name.startswith("."):  # dcpt's marker of its own folders
            shutil.copyfile(file, partial / file.name)
    for file in partial.iterdir():
        sync_file(file)
    sync_folder(partial)
    _remove_model(folder, {file.name for file in partial.iterdir()})
    partial.rename(folder)
    sync_folder(folder.parent)


def _remove_model(folder: Path, ours: set[str]) -> None:
    """Remove an earlier model; anything else in its place is set aside."""
    if not os.path.lexists(folder):
        return
    is_ours = folder.is_dir() and not folder.is_symlink()
    if not is_ours or any(file.name not in ours or not file.is_file() for file in folder.iterdir()):
        set_aside(folder)
        return
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
