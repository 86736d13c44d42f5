"""The same model by onnxruntime's own quantizers, as their documentation says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

Feed = dict[str, npt.NDArray[Any]]


def make_peers(model: Path, feeds: Sequence[Feed], folder: Path) -> dict[str, Path | str]:
    """onnxruntime's static and dynamic INT8, or the reason why there is none."""
    prepared = _prepared(model, folder)
    found: dict[str, Path | str] = {}
    for name, make in (("static", _static), ("dynamic", _dynamic)):
        path = folder / f"{name}.onnx"
        try:
            if not path.exists():
                make(prepared, path, feeds)
            found[f"onnxruntime, {name}"] = path
        except Exception as error:  # whatever its tools raise is what a user would see
            path.unlink(missing_ok=True)
            found[f"onnxruntime, {name}"] = f"{type(error).__name__}: {error}".split("\n")[0][:120]
    return found


def _prepared(model: Path, folder: Path) -> Path:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = folder / "prepared.onnx"
    try:
        quant_pre_process(str(model), str(path), skip_symbolic_shape=True)
    except Exception:
        return model
    return path


def _static(model: Path, path: Path, feeds: Sequence[Feed]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as quantize

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._feeds: Iterator[Feed] = iter(feeds)

        def get_next(self) -> Feed | None:
            return next(self._feeds, None)

    quantize(
        str(model),
        str(path),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def _dynamic(model: Path, path: Path, feeds: Sequence[Feed]) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(model), str(path), per_channel=True, weight_type=QuantType.QInt8)
