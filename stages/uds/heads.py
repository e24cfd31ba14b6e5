"""Utility and sketch of final hidden states, by the output head that turns them into logits.

Shapes: B samples, T positions, h width, V vocabulary, D = r_time * r_vocab.

The logits are L = H W^T (T x V), a wide matrix of low rank. Its singular values are the square
roots of the eigenvalues of L L^T = H G H^T with G = W^T W (h x h), and its sketch is C1 H A^T with
A = C2 W (r_vocab x h), so neither needs the logits (`GramHead`). Logits that are not linear in H
(a soft-cap) are made block by block (`LogitsHead`), which is also the reference.

Eigenvalues are in float64 throughout. The square root of a float32 eigenvalue of a matrix of
nearly deficient rank is noise: 0.3 to 1.8 % too much utility on repetitive text.
"""

from collections.abc import Callable
from typing import Any, Protocol

import array_api_compat
import numpy as np

from stages.uds.arrays import Array, Namespace, without_gradient
from stages.uds.sketch import LogitSketch

Transform = Callable[[Array], Array]

_BLOCK = 128  # rows or columns of a triangle that are computed together


class Head(Protocol):
    def measure(self, states: Array) -> tuple[Array, Array]:
        """Utility (B,) and sketches (B, D) of states (B, T, h), all float64.

        Utility is NaN where a sample's logits are not finite. T is at most the sketch's maximum
        length. Samples are independent of each other up to rounding.
        """


class GramHead:
    """The exact short cut for logits that are linear in the hidden states (and a bias).

    A bias is one more column of W, beside a state that is always 1. A scale of the logits is one
    of these states.
    """

    def __init__(
        self, lm_head: Array, bias: Array | None, sketch: LogitSketch, scale: float = 1.0
    ) -> None:
        xp, device, weight, bias = _prepared(lm_head, bias)
        width = weight.shape[1] + (bias is not None)
        self.xp: Namespace = xp
        self.time = sketch.time_matrix(xp, device)
        self.has_bias = bias is not None
        self.scale = scale
        self.gram = xp.zeros((width, width), dtype=xp.float64, device=device)
        self.projected = xp.zeros((len(sketch.index_vocab), width), dtype=xp.float64, device=device)
        for part, cosines in sketch.vocab_blocks(xp, device, width):
            rows = xp.astype(weight[part, :], xp.float64)
            if bias is not None:
                rows = xp.concat([rows, xp.astype(bias[part], xp.float64)[:, None]], axis=1)
            self.gram = self.gram + rows.T @ rows
            self.projected = self.projected + cosines @ rows
        if not bool(xp.all(xp.isfinite(self.gram))):
            raise ValueError("the output head holds NaN or inf")
        self._factor: Array | None = None

    def measure(self, states: Array) -> tuple[Array, Array]:
        xp = self.xp
        if self.has_bias:
            states = xp.concat([states, xp.ones_like(states[..., :1])], axis=-1)
        if self.scale != 1.0:
            states = states * self.scale
        length, width = states.shape[-2:]
        turned = _times_lower(xp, states, self.factor)
        # The same eigenvalues other than zero, on the smaller side.
        square = _square(xp, turned if length <= width else xp.matrix_transpose(turned))
        sketched = (self.time[:, :length] @ states) @ xp.matrix_transpose(self.projected)
        return _nuclear_norm(xp, square), xp.reshape(sketched, (states.shape[0], -1))

    @property
    def factor(self) -> Array:
        """A lower triangular L with G = L L^T, so that the logits' L L^T is (H L)(H L)^T."""
        if self._factor is None:
            self._factor = _lower_factor(self.xp, self.gram)
        return self._factor


class LogitsHead:
    """Any head: L = transform(scale (H W^T + bias)), made in blocks of the vocabulary.

    `transform` works on single logits, as soft-caps do (float64 in, the same shape out).
    """

    def __init__(
        self,
        lm_head: Array,
        bias: Array | None,
        sketch: LogitSketch,
        transform: Transform,
        scale: float = 1.0,
    ) -> None:
        self.xp, self.device, self.weight, self.bias = _prepared(lm_head, bias)
        self.sketch = sketch
        self.transform = transform
        self.scale = scale
        self.time = sketch.time_matrix(self.xp, self.device)

    def measure(self, states: Array) -> tuple[Array, Array]:
        xp, (samples, length, width) = self.xp, states.shape
        kind = {"dtype": xp.float64, "device": self.device}
        square = xp.zeros((samples, length, length), **kind)
        shape = (samples, self.time.shape[0], len(self.sketch.index_vocab))
        sketched = xp.zeros(shape, **kind)
        blocks = self.sketch.vocab_blocks(xp, self.device, max(width, samples * length))
        for part, cosines in blocks:
            logits = states @ xp.astype(self.weight[part, :], xp.float64).T
            if self.bias is not None:
                logits = logits + xp.astype(self.bias[part], xp.float64)
            logits = self.transform(logits * self.scale)
            square = square + logits @ xp.matrix_transpose(logits)
            sketched = sketched + (self.time[:, :length] @ logits) @ cosines.T
        return _nuclear_norm(xp, square), xp.reshape(sketched, (samples, -1))


def _lower_factor(xp: Namespace, gram: Array) -> Array:
    try:
        return xp.linalg.cholesky(gram)
    except (np.linalg.LinAlgError, RuntimeError):  # numpy's and torch's: G is of deficient rank
        values, vectors = xp.linalg.eigh(gram)
        root = xp.sqrt(xp.clip(values, min=0.0))[:, None] * xp.matrix_transpose(vectors)
        return xp.matrix_transpose(xp.linalg.qr(root)[1])


def _times_lower(xp: Namespace, states: Array, factor: Array) -> Array:
    """The product with a lower triangle (B, T, h), leaving out its zeros.

    In blocks: 6.6 ms in place of 9.1 for 4 samples of 512 x 576 on 2 cores.
    """
    width = factor.shape[0]
    parts = [
        states[..., start:] @ factor[start:, start : start + _BLOCK]
        for start in range(0, width, _BLOCK)
    ]
    return xp.concat(parts, axis=-1)


def _square(xp: Namespace, rows: Array) -> Array:
    """The lower triangle of rows @ rows^T (B, n, n), which is all that eigvalsh reads."""
    count = rows.shape[-2]
    turned = xp.matrix_transpose(rows)
    device = array_api_compat.device(rows)
    square = xp.zeros((*rows.shape[:-2], count, count), dtype=rows.dtype, device=device)
    for start in range(0, count, _BLOCK):
        end = min(start + _BLOCK, count)
        square[..., start:end, :end] = rows[..., start:end, :] @ turned[..., :, :end]
    return square


def _nuclear_norm(xp: Namespace, square: Array) -> Array:
    """Sum of the singular values of L, given L L^T (B, n, n). NaN where that is not finite.

    Only the lower triangle is read.
    """
    finite = xp.all(xp.isfinite(square), axis=(-2, -1))
    if not bool(xp.all(finite)):  # LAPACK raises on the whole batch; the caller names the rows
        square = xp.where(finite[:, None, None], square, 0.0)
    values = xp.linalg.eigvalsh(square)
    norm = xp.sum(xp.sqrt(xp.clip(values, min=0.0)), axis=-1)
    return xp.where(finite, norm, xp.nan)


def _prepared(lm_head: Array, bias: Array | None) -> tuple[Namespace, Any, Array, Array | None]:
    xp = array_api_compat.array_namespace(lm_head)
    weight = without_gradient(lm_head)
    plain = None if bias is None else without_gradient(bias)
    return xp, array_api_compat.device(lm_head), weight, plain
