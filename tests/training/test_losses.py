"""The chunked loss is compared with torch's loss on whole logits."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from dcpt.training import losses
from dcpt.training.losses import mean_loss


def drawn(rows: int, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(rows, 12, requires_grad=True)
    head = torch.randn(vocabulary, 12, requires_grad=True)
    return hidden, head, torch.randint(vocabulary, (rows,))


@pytest.mark.parametrize(("rows", "most"), [(50, 50), (50, 25), (50, 7), (3, 7), (1, 1)])
def test_losses_and_gradients_are_those_of_whole_logits(
    rows: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, head, targets = drawn(rows, 31)
    expected = functional.cross_entropy(hidden @ head.T, targets, reduction="none")
    grads = torch.autograd.grad(3 * expected.mean(), (hidden, head))

    monkeypatch.setattr(losses, "FEWEST_ROWS", most)
    monkeypatch.setattr(losses, "LOGITS", 31)  # Small enough for a single row at a time.
    mean, found = mean_loss(hidden, head, targets)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(mean, expected.mean())
    for expected_grad, grad in zip(
        torch.autograd.grad(3 * mean, (hidden, head)), grads, strict=True
    ):
        torch.testing.assert_close(expected_grad, grad, atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        assert torch.equal(mean_loss(hidden, head, targets)[1], found)


def test_logits_of_all_rows_are_never_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, head, targets = drawn(4096, 512)
    shapes = []
    gradient = losses._gradient

    def watched(hidden: torch.Tensor, *others: object) -> object:
        shapes.append(len(hidden))
        return gradient(hidden, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(losses, "_gradient", watched)
    monkeypatch.setattr(losses, "LOGITS", 2048 * 512)
    mean_loss(hidden, head, targets)
    assert shapes == [2048, 2048]
    shapes.clear()
    monkeypatch.setattr(losses, "LOGITS", 1)
    mean_loss(hidden, head, targets)
    assert shapes == [losses.FEWEST_ROWS] * 4


def test_the_head_may_be_kept_in_a_finer_dtype() -> None:
    hidden, head, targets = drawn(40, 31)
    exact = torch.autograd.grad(mean_loss(hidden, head, targets)[0], head)[0]
    mean, found = mean_loss(hidden.to(torch.bfloat16), head, targets)
    assert found.dtype == torch.float32
    (grad,) = torch.autograd.grad(mean, head)
    assert grad.dtype == torch.float32
    assert not torch.equal(grad, exact)
    torch.testing.assert_close(grad, exact, atol=4e-3, rtol=0)
