"""Choosing the next token, with noise that belongs to the request and not to the batch."""

import hashlib

import numpy as np
import numpy.typing as npt
import torch

_MOST_PROBABLE = 1_024


def noise(seed: int, key: bytes, sample: int, positions: int) -> npt.NDArray[np.float64]:
    """Uniform numbers in [0, 1), one for each position (positions,).

    A counter-based generator (Philox, Salmon et al. 2011) keyed by a hash of (seed, key, sample);
    position is the counter, so that a longer answer begins with the same noise. Raw 64-bit words
    are used because numpy promises their stream, not that of its distributions.
    """
    text = b"%d\0%d\0" % (seed, sample) + key
    digest = hashlib.blake2b(text, digest_size=16).digest()
    words = np.random.Philox(key=np.frombuffer(digest, dtype="<u8")).random_raw(positions)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def drawing_device(device: torch.device) -> torch.device:
    """Where the tokens of a model on `device` are drawn: there, unless it has no float64 (mps)."""
    return torch.device("cpu") if device.type == "mps" else device


def next_tokens(
    logits: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float
) -> torch.Tensor:
    """One token for each row of `logits` (B, V): int64 (B,).

    Temperature 0 takes the most probable token. Else the inverse of the cumulated distribution, in
    float64 and in order of the vocabulary, at `uniform` (B,). `top_p` below 1 keeps the most
    probable tokens that together reach it (Holtzman et al. 2020), the last one included, and those
    exactly as probable as that one.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = (logits.double() / temperature).softmax(dim=-1)
    if top_p < 1:
        least = _least_kept(probabilities, top_p)
        probabilities = torch.where(probabilities >= least, probabilities, 0.0)
    cumulated = probabilities.cumsum(dim=-1)
    point = uniform[:, None] * cumulated[:, -1:]
    drawn = torch.searchsorted(cumulated, point, right=True).squeeze(-1)
    # A point that rounds up to the whole sum would fall behind the last token.
    return drawn.clamp_(max=logits.shape[-1] - 1)


def _least_kept(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """(B, 1): the probability of the last token that is needed to reach `top_p`."""
    # Sorting a whole vocabulary of 50,000 costs 15 ms a row, more than the model's own step.
    ordered = probabilities.topk(min(_MOST_PROBABLE, probabilities.shape[-1]), dim=-1).values
    if bool((ordered.sum(-1) < top_p).any()):
        ordered = probabilities.sort(dim=-1, descending=True).values
    needed = (ordered.cumsum(-1) < top_p).sum(-1, keepdim=True)
    return ordered.gather(-1, needed.clamp_(max=ordered.shape[-1] - 1))
