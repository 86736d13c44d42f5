"""The operators of alternating updates: several hidden states as one (1, tokens, count, hidden)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeq.models.architectures.altup import SCALE, AltUp
from edgeq.models.graphs.decoder_parts import DecoderParts

_LEAST = 1e-5  # of a state's mean square, which it is divided by


class AltUpStates:
    """Makes several states of one, passes them through layers, and makes one of them again."""

    def __init__(self, parts: DecoderParts, altup: AltUp) -> None:
        self._parts, self._altup = parts, altup
        self._append = parts.append

    def spread(self, hidden: ir.Value) -> ir.Value:
        """All states, of the tokens' embeddings."""
        others = self._resized(hidden, "model.altup_projections", [hidden] * self._others)
        whole = [self._append("Unsqueeze", [s, self._axis]) for s in (hidden, *others)]
        return self._append("Concat", whole, {"axis": 2})

    def merged(self, states: ir.Value) -> ir.Value:
        """The mean of all states, as long as the first is."""
        count = self._altup.count
        each = self._parts.writer.append_all(
            "Split", [states], {"axis": 2, "num_outputs": count}, count
        )
        first, *others = (self._append("Squeeze", [state, self._axis]) for state in each)
        projected = self._resized(first, "model.altup_unembed_projections", others)
        return self._parts.scaled(self._append("Sum", [first, *projected]), 1 / count)

    def predicted(self, stem: str, states: ir.Value) -> ir.Value:
        """All states behind a layer, by those in front of it alone."""
        count = self._altup.count
        kinds = self._kinds(stem, self.active(states))
        factors = self._parts.linear(kinds, f"{stem}.altup.prediction_coefs", bias=False)
        factors = self._append("Reshape", [factors, self._parts.numbers([1, -1, count, count])])
        return self._append("Add", [self._append("MatMul", [factors, states]), states])

    def corrected(self, stem: str, predicted: ir.Value, computed: ir.Value) -> ir.Value:
        """`predicted`, moved by the error of the one that was computed."""
        name, most = f"{stem}.altup.correction_coefs.weight", self._altup.clip
        weight = np.clip(self._parts.vector(name), -most, most)
        factors = self._parts.product(
            self._kinds(stem, computed), self._parts.writer.constant(name, weight)
        )
        one = self._parts.writer.constant("one", np.array(1, np.float32))
        factors = self._append("Add", [factors, one])
        factors = self._append("Unsqueeze", [factors, self._parts.numbers([-1])])
        error = self._append("Sub", [computed, self.active(predicted)])
        error = self._append("Unsqueeze", [error, self._axis])
        return self._append("Add", [self._append("Mul", [error, factors]), predicted])

    def gated(self, stem: str, states: ir.Value) -> ir.Value:
        """The state that the gate of a layer's own embeddings sees."""
        active = self.active(states)
        if not self._altup.scaled:
            return active
        name = f"{stem}.{SCALE}"
        factors = self._parts.writer.constant(name, self._parts.vector(name))
        return self._append("Mul", [active, factors])

    def added_behind_first(self, states: ir.Value, more: ir.Value) -> ir.Value:
        """`more` added to all states but the first."""
        mask = np.array([[0.0]] + [[1.0]] * self._others, np.float32)
        more = self._append("Unsqueeze", [more, self._axis])
        more = self._append("Mul", [more, self._parts.writer.constant("behind_first", mask)])
        return self._append("Add", [states, more])

    def active(self, states: ir.Value) -> ir.Value:
        """The state that layers compute, (1, tokens, hidden)."""
        place = self._parts.writer.constant("active", np.array(self._altup.active, np.int64))
        return self._append("Gather", [states, place], {"axis": 2})

    def around(self, stem: str, normed: ir.Value) -> ir.Value:
        """A layer's second way around its attention."""
        narrow = self._parts.linear(normed, f"{stem}.laurel.linear_left", bias=False)
        wide = self._parts.linear(narrow, f"{stem}.laurel.linear_right", bias=False)
        wide = self._parts.norm(wide, f"{stem}.laurel.post_laurel_norm.weight")
        return self._append("Add", [normed, wide])

    @property
    def _others(self) -> int:
        return self._altup.count - 1

    @property
    def _axis(self) -> ir.Value:
        return self._parts.numbers([2])

    def _kinds(self, stem: str, hidden: ir.Value) -> ir.Value:
        """How much a token is of each kind, -1 to 1, (1, tokens, count)."""
        normed = self._parts.norm(hidden, f"{stem}.altup.router_norm.weight")
        normed = self._parts.scaled(normed, 1 / self._parts.decoder.hidden)
        routed = self._parts.linear(normed, f"{stem}.altup.modality_router", bias=False)
        return self._append("Tanh", [routed])

    def _resized(
        self, first: ir.Value, stem: str, states: Sequence[ir.Value]
    ) -> Sequence[ir.Value]:
        """A projection of each of `states`, as large as `first`."""
        size, found = self._append("Sqrt", [self._mean_square(first)]), []
        least = self._parts.writer.constant("least", np.array(_LEAST, np.float32))
        for place, state in enumerate(states):
            made = self._parts.linear(state, f"{stem}.{place}", bias=False)
            square = self._append("Max", [self._mean_square(made), least])
            made = self._append("Mul", [made, size])
            found.append(self._append("Div", [made, self._append("Sqrt", [square])]))
        return found

    def _mean_square(self, value: ir.Value) -> ir.Value:
        square = self._append("Mul", [value, value])
        return self._append("ReduceMean", [square, self._parts.numbers([-1])])
