"""Shares of tokens as weights of documents, and how exactly these realise the shares."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dcpt.errors import InputError
from dcpt.trainer_configs.records import DocumentLengths, Recipe, Stage


def document_weights(recipe: Recipe, stage: Stage) -> dict[str, float]:
    """Probabilities of drawing a document of each source, for the stage's shares of tokens.

    A source's weight is its share divided by its mean tokens per document.

    Returns:
        Weight by source, 0 where the stage does not read it; they sum to 1.

    Raises:
        InputError: If the lengths of a source are not known.
    """
    lengths = known_lengths(recipe)
    drawn = {name: stage.shares.get(name, 0.0) / of.mean for name, of in lengths.items()}
    total = sum(drawn.values())
    return {name: weight / total for name, weight in drawn.items()}


def document_counts(recipe: Recipe, stage: Stage) -> dict[str, int]:
    """Documents of each source that the stage reads, for its shares of tokens.

    Raises:
        InputError: If the lengths of a source are not known.
    """
    tokens = recipe.stage_tokens(stage)
    return {
        name: round(tokens * stage.shares.get(name, 0.0) / of.mean)
        for name, of in known_lengths(recipe).items()
    }


def known_lengths(recipe: Recipe) -> dict[str, DocumentLengths]:
    """The document lengths of all sources.

    Raises:
        InputError: Names the sources whose lengths are not known.
    """
    found = {name: of.lengths for name, of in recipe.sources.items() if of.lengths is not None}
    missing = [name for name in recipe.sources if name not in found]
    if missing:
        options = " ".join(f"--tokens-per-document {name}=812" for name in missing)
        raise InputError(
            f"the mean tokens per document of {', '.join(missing)} are not known, and this trainer "
            f"weights documents: give {options} with the numbers of your text"
        )
    return found


def share_errors(
    lengths: Mapping[str, DocumentLengths], shares: Mapping[str, float], tokens: float
) -> dict[str, float] | None:
    r"""Standard deviations of the realised shares of tokens, if documents are drawn by weight.

    With the shares :math:`s`, :math:`n_i` documents drawn of source i and the spread :math:`q_i` of
    its lengths (mean square over squared mean), the variance of share i is
    :math:`\sum_j (\delta_{ij} - s_i)^2 s_j^2 q_j / n_j` (delta method). Where the mean was measured
    on a sample of :math:`m_j` documents, :math:`(q_j - 1) / m_j` is added to :math:`q_j / n_j`.

    Args:
        lengths: Document lengths by source.
        shares: Shares of tokens by source; they sum to 1.
        tokens: Tokens that are read.

    Returns:
        Standard deviation of each share, 0 to 1; None if the spread of a source is unknown.
    """
    variances = {}
    for name, share in shares.items():
        of = lengths[name]
        if of.spread is None:
            return None
        drawn = of.spread * of.mean / (share * tokens)
        measured = 0.0 if of.documents is None else (of.spread - 1) / of.documents
        variances[name] = share**2 * (drawn + measured)
    return {
        name: math.sqrt(
            sum((float(name == other) - share) ** 2 * of for other, of in variances.items())
        )
        for name, share in shares.items()
    }


def describe_documents(recipe: Recipe, stage: Stage) -> list[str]:
    """Lines on the unit of the weights, and on the error of the shares in a stage."""
    lengths = known_lengths(recipe)
    means = ", ".join(f"{name} {lengths[name].mean:.6g}" for name in stage.shares)
    lines = [
        "This trainer draws documents, not tokens. The weight of a source is its share of tokens "
        "divided by its mean tokens per document, scaled to sum to 1.",
        f"Mean tokens per document: {means}. They must be those of your text and tokenizer: a mean "
        "that is 10 % too large makes its share up to 10 % too small.",
    ]
    errors = share_errors(lengths, stage.shares, recipe.stage_tokens(stage))
    if errors is None:
        return [
            *lines,
            "Error of the shares: unknown, because the spread of the lengths is not known. "
            "--tokens-per-document NAME=MEAN:DEVIATION gives it.",
        ]
    largest = 200 * max(errors.values())
    return [
        *lines,
        f"Error of the shares: {largest:.2g} percentage points (two standard deviations, from the "
        f"spread of the lengths over the documents drawn in {stage.n_steps} steps).",
    ]
