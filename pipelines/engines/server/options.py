"""How probable each option is, by the first tokens that a server lists or by sampled answers."""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from stages.engines import Refused

MOST_ERROR = 0.02  # of a share, by tokens that are not listed
SAMPLES = 20
# OpenAI writes -9999 where it does not tell.
_UNTOLD = -1_000.0


def plain_options(options: Sequence[str]) -> list[str]:
    """The options as they are looked for. Raises ValueError when one begins with another."""
    if len(options) < 2:
        raise ValueError(f"a choice needs two options at least, not {list(options)}")
    plain = [option.strip() for option in options]
    for later, option in enumerate(plain):
        if not option:
            raise ValueError(f"option '{options[later]}' has no first token")
        for earlier in plain[:later]:
            if option.startswith(earlier) or earlier.startswith(option):
                raise ValueError(
                    f"options '{earlier}' and '{option}' begin alike, so the beginning of an "
                    "answer cannot tell them apart"
                )
    return plain


def listed_shares(
    listed: Sequence[tuple[str, float]], options: Sequence[str]
) -> npt.NDArray[np.float32] | Refused:
    """Shares (options,) from (token, log-probability) of the most probable first tokens.

    A token counts for the option that it begins, spaces aside; it may be the whole option. What is
    not listed is at most as probable as the least that is, and all of it at most what the listed
    ones leave: Refused when that could move a share by more than 0.02. Raises ValueError when two
    options share a token that matters that much.
    """
    told = [(token.strip(), float(np.exp(value))) for token, value in listed if value > _UNTOLD]
    sums = np.zeros(len(options))
    shared: dict[str, float] = {}
    for token, probability in told:
        fitting = [at for at, option in enumerate(options) if token and option.startswith(token)]
        if len(fitting) == 1:
            sums[fitting[0]] += probability
        elif fitting:
            shared[token] = probability
    names = ", ".join(f"'{option}'" for option in options)
    if not sums.any() and not shared:
        return Refused(f"none of {names} is among the {len(listed)} most probable first tokens")
    _check_shared(shared, sums, names)
    least = min(probability for _, probability in told)
    rest = max(0.0, 1.0 - sum(probability for _, probability in told))
    unsure = sum(shared.values())
    error = _largest_error(sums, min(least, rest) + unsure, rest + unsure)
    if error > MOST_ERROR:
        return Refused(
            f"the {len(listed)} most probable first tokens hold {sums.sum():.3f} of probability "
            f"for {names}; what is not listed could move a share by {error:.3f}, more than "
            f"{MOST_ERROR}"
        )
    return np.asarray(sums / sums.sum(), dtype=np.float32)


def _check_shared(shared: dict[str, float], sums: npt.NDArray[np.float64], names: str) -> None:
    total = sum(shared.values())
    if total > MOST_ERROR * (sums.sum() + total):
        token = max(shared, key=lambda one: shared[one])
        raise ValueError(
            f"of the options {names} several begin with the token '{token}', so their first tokens "
            "cannot tell them apart"
        )


def _largest_error(sums: npt.NDArray[np.float64], each: float, rest: float) -> float:
    """How far a share can be off when each option has up to `each` more, together up to `rest`.

    Either one option alone has more, or all the others have.
    """
    if not sums.any():
        return 1.0
    total = sums.sum()
    shares = sums / total
    own = (sums + each) / (total + each) - shares
    others = min(rest, each * (len(sums) - 1))
    lost = shares - sums / (total + others)
    return float(max(own.max(), lost.max()))


def counted_shares(
    answers: Sequence[str], options: Sequence[str], cut: int = 0
) -> npt.NDArray[np.float32] | Refused:
    """Shares (options,) of the sampled answers that begin with each option, spaces aside.

    The option stands there as a word of its own: "Based on" is no B. Refused when fewer than half
    of the answers begin with one. `cut`: how many of them were cut at their limit.
    """
    # ASCII: a Chinese character may follow without a space and is no part of the word.
    words = [re.compile(re.escape(option) + r"(?!\w)", re.ASCII) for option in options]
    counts = np.array(
        [sum(word.match(answer.lstrip()) is not None for answer in answers) for word in words]
    )
    if 2 * counts.sum() < len(answers):
        names = ", ".join(f"'{option}'" for option in options)
        return Refused(
            f"{counts.sum()} of {len(answers)} sampled answers begin with one of {names}, fewer "
            f"than half; {cut} were cut"
        )
    return np.asarray(counts / counts.sum(), dtype=np.float32)
