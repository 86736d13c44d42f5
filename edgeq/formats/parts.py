"""Several models of one bundle, each with its own verbs."""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.core.artifact import Artifact, ValueInfo
from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.base import Array, Model


class Parts(Model):
    """The loaded parts of a bundle, by name in `parts`; `run` runs all of them, to measure them."""

    kind = "a pipeline of parts"
    artifact: Artifact

    def __init__(self, artifact: Artifact, parts: Mapping[str, Model]) -> None:
        first, *_ = parts.values()
        self.artifact, self.name, self.parts = artifact, artifact.name, parts
        self.verbs = " or ".join(f".parts[{name!r}]" for name in parts)
        self.threads, self.runtime, self.system = first.threads, first.runtime, first.system
        self.prepared = all(part.prepared for part in parts.values())
        self.is_reference = any(part.is_reference for part in parts.values())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run each part, in order and as often as for one answer of the whole.

        Names of inputs and outputs follow the part's: `detector/pixels`.
        """
        missing = [value.name for value in self.artifact.inputs if value.name not in feeds]
        if missing:
            raise InvalidInput(Problem(self.name, f"lacks inputs: {', '.join(missing)}"))
        outputs: dict[str, Array] = {}
        for name, part in self.parts.items():
            own = {
                key.removeprefix(f"{name}/"): array
                for key, array in feeds.items()
                if key.startswith(f"{name}/")
            }
            answers: dict[str, Array] = {}
            for _ in range(self.artifact.parts[name]):
                answers = part.run(own)
            outputs |= {f"{name}/{key}": array for key, array in answers.items()}
        return outputs


def named_after(part: str, values: tuple[ValueInfo, ...]) -> tuple[ValueInfo, ...]:
    """The inputs or outputs of a part, as the whole names them."""
    return tuple(each.model_copy(update={"name": f"{part}/{each.name}"}) for each in values)
