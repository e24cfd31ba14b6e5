"""What the logits of chats look like, from final hidden states and the output head.

Shapes: B chats, T padded tokens, h width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipelines.engines.batching import answered
from pipelines.engines.output_head import OutputHead
from stages.engines import ChatStates, Geometry, Positions, Refused, Sketching
from stages.uds.selector import UtilityDiversitySelector
from stages.uds.sketch import LogitSketch

_BATCH_TOKENS = 8_192  # padded tokens in one array: 118 MB at a width of 3,584


@dataclass(frozen=True)
class Span:
    """Where a chat stands in its row of padded states: tokens, of which the answer is the end."""

    tokens: int
    answer_from: int
    cut: bool

    def counted(self, positions: Positions) -> range:
        return range(self.answer_from if positions == "answer" else 0, self.tokens)


class HeadGeometry:
    """Nuclear norms and sketches of the logits that an output head makes; it makes none.

    What belongs to the head and a sketch alone is prepared once for each sketching that is asked
    for (2 V h^2 operations in float64).
    """

    def __init__(self, head: OutputHead) -> None:
        self.head = head
        self._selectors: dict[Sketching, UtilityDiversitySelector] = {}

    def of_padded(
        self,
        states: torch.Tensor,
        spans: Sequence[Span],
        sketching: Sketching,
        positions: Positions,
    ) -> list[Geometry]:
        """The geometry of each chat, given states (B, T, h) on the head's device.

        Raises ValueError, with the rows, for states or logits that are NaN or inf.
        """
        counted = [span.counted(positions) for span in spans]
        mask = np.zeros(states.shape[:2], dtype=bool)
        for row, own in zip(mask, counted, strict=True):
            row[own.start : own.stop] = True
        selector = self._selector(sketching)
        measured = selector.measure(states, torch.from_numpy(mask).to(states.device))
        sketches = measured.sketches.cpu().numpy()
        return [
            # A copy: a slice would keep the sketches of the whole batch alive.
            Geometry(utility, np.array(sketch), len(own), span.cut)
            for utility, sketch, own, span in zip(
                measured.utility.tolist(), sketches, counted, spans, strict=True
            )
        ]

    def of_states(
        self, chats: Sequence[ChatStates | Refused], sketching: Sketching, positions: Positions
    ) -> list[Geometry | Refused]:
        """The same for states that are on the host, one array for each chat."""

        def of_batch(some: Sequence[ChatStates]) -> list[Geometry]:
            rows = [torch.from_numpy(chat.values) for chat in some]
            states = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            spans = [Span(len(chat.values), chat.answer_from, chat.cut) for chat in some]
            return self.of_padded(states.to(self.head.weight.device), spans, sketching, positions)

        return answered(chats, lambda chat: len(chat.values), of_batch, _BATCH_TOKENS)

    def _selector(self, sketching: Sketching) -> UtilityDiversitySelector:
        if sketching not in self._selectors:
            sketch = LogitSketch.draw(
                sketching.seed,
                sketching.max_length,
                int(self.head.weight.shape[0]),
                sketching.r_time,
                sketching.r_vocab,
            )
            self._selectors[sketching] = UtilityDiversitySelector(
                self.head.weight,
                sketch,
                queue_size=1,  # nothing is remembered here
                bias=self.head.bias,
                transform=self.head.transform,
                scale=self.head.scale,
            )
        return self._selectors[sketching]
