"""Train many runs of a small Llama in one program, an alternative that dcpt does not use.

The weights of K runs are one tensor of shape (K, parameters), and every matrix product is batched.
All runs must have the same shape and step together. ``train.py`` measures the speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

HEAD = 64
CHUNK = 4096


def stacked_step(
    shape: tuple[int, int, int], vocabulary: int, runs: int, sequences: int, tokens: int
) -> Callable[[], object]:
    """Return a step of all runs on random tokens: fused products, chunked loss, own AdamW."""
    width, layers, heads = shape
    K, B, T, device = runs, sequences, tokens, "cuda"
    inner = -(-8 * width // 48) * 16
    shapes = {"embed": (vocabulary, width), "norm": (width,)}
    for i in range(layers):
        shapes |= {
            f"{i}.norm1": (width,),
            f"{i}.qkv": (3 * width, width),
            f"{i}.out": (width, width),
            f"{i}.norm2": (width,),
            f"{i}.gate_up": (2 * inner, width),
            f"{i}.down": (width, inner),
        }
    sizes = [math.prod(s) for s in shapes.values()]
    first = [torch.ones(s) if len(s) == 1 else torch.randn(s) * 0.02 for s in shapes.values()]
    flat_KP = torch.cat([w.flatten() for w in first]).repeat(K, 1).to(device).requires_grad_()
    moments = [torch.zeros_like(flat_KP), torch.zeros_like(flat_KP)]
    rate_K1, count = torch.full((K, 1), 1e-3, device=device), torch.zeros((), device=device)
    inputs = torch.randint(vocabulary, (K, B, T), device=device)
    targets = torch.randint(vocabulary, (K, B * T), device=device)
    angles = torch.arange(T)[:, None] / 1e4 ** (torch.arange(0, HEAD, 2) / HEAD)
    cos = torch.cat([angles.cos()] * 2, -1).to(device)
    sin = torch.cat([angles.sin()] * 2, -1).to(device)

    def hidden(flat: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        parts = zip(shapes.items(), torch.split(flat, sizes, 1), strict=True)
        w = {name: part.view(K, *shape) for (name, shape), part in parts}

        def multiply(x: Tensor, name: str) -> Tensor:
            return torch.bmm(x.bfloat16(), w[name].bfloat16().transpose(1, 2))

        def normalize(x: Tensor, name: str) -> Tensor:
            return functional.rms_norm(x, (width,), None, 1e-6) * w[name][:, None]

        def rotate(x: Tensor) -> Tensor:
            x1, x2 = x.chunk(2, -1)
            return (x * cos + torch.cat([-x2, x1], -1) * sin).bfloat16()

        run = torch.arange(K, device=device)[:, None, None] * vocabulary
        x = functional.embedding(ids + run, w["embed"].reshape(-1, width)).view(K, B * T, width)
        for i in range(layers):
            qkv = multiply(normalize(x, f"{i}.norm1"), f"{i}.qkv").view(K * B, T, 3, heads, HEAD)
            q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
            o = functional.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
            x = x + multiply(o.transpose(1, 2).reshape(K, B * T, width), f"{i}.out")
            gate, up = multiply(normalize(x, f"{i}.norm2"), f"{i}.gate_up").chunk(2, -1)
            x = x + multiply(functional.silu(gate) * up, f"{i}.down")
        return normalize(x, "norm"), w["embed"]

    def chunk(x: Tensor, head: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = torch.bmm(x, head.transpose(1, 2)).float()
        sums = logits.logsumexp(-1)
        losses = sums - logits.gather(-1, y[..., None])[..., 0]
        grad = (logits - sums[..., None] - math.log(B * T)).exp().bfloat16()
        grad.scatter_(-1, y[..., None], (((-losses).exp() - 1) / (B * T)).bfloat16()[..., None])
        return losses, torch.bmm(grad, head), torch.bmm(grad.transpose(1, 2), x)

    @torch.no_grad()
    def learn(flat: Tensor, grad: Tensor, m: Tensor, v: Tensor) -> None:
        grad = grad / grad.square().sum(1, keepdim=True).sqrt().clamp(min=1.0)
        m.lerp_(grad, 0.1)
        v.lerp_(grad * grad, 0.05)
        scale = (v / (1 - 0.95**count)).sqrt() + 1e-8
        flat.mul_(1 - rate_K1 * 0.1).sub_(rate_K1 * (m / (1 - 0.9**count)) / scale)

    hidden_c = torch.compile(hidden, dynamic=False)
    chunk_c = torch.compile(chunk, dynamic=False)
    learn_c = torch.compile(learn, dynamic=False)

    def step() -> None:
        count.add_(1)
        x, head = hidden_c(flat_KP, inputs)
        x16, head16 = x.detach().bfloat16(), head.detach().bfloat16()
        x_grads, head_grad = [], torch.zeros_like(head)
        for i in range(0, B * T, CHUNK):
            rows = slice(i, i + CHUNK)
            _, x_grad, some = chunk_c(x16[:, rows], head16, targets[:, rows])
            x_grads.append(x_grad.float())
            head_grad.add_(some)
        torch.autograd.backward([x, head], [torch.cat(x_grads, 1), head_grad])
        assert flat_KP.grad is not None
        learn_c(flat_KP, flat_KP.grad, *moments)
        flat_KP.grad = None

    return step
