"""How the layers of a language model alternate, in llama.cpp's terms."""

from __future__ import annotations

from edgeq.models.architectures import FAMILIES, Decoder, LlamaCpp


def llama_cpp_of(decoder: Decoder) -> LlamaCpp:
    """What llama.cpp knows of the model's family."""
    return FAMILIES[decoder.family].llama_cpp


def windows_of(decoder: Decoder) -> list[int]:
    """The positions that each layer with a window sees."""
    return [window for window in decoder.windows if window is not None]


def period_without_window(decoder: Decoder) -> int | None:
    """p if every p-th layer, and no other, has no window; None otherwise."""
    full = [index for index, window in enumerate(decoder.windows) if window is None]
    period = full[0] + 1 if full else decoder.layers + 1
    widths = set(windows_of(decoder))
    regular = [index for index in range(decoder.layers) if (index + 1) % period == 0]
    return period if full == regular and len(widths) == 1 else None


def attention_interval(decoder: Decoder) -> int:
    """p if every p-th layer, and no other, has attention; 0 otherwise."""
    attend = [layer + 1 for layer in range(decoder.layers) if decoder.attends(layer)]
    regular = range(attend[0], decoder.layers + 1, attend[0])
    return attend[0] if attend == list(regular) else 0
