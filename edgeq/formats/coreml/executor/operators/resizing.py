"""Images in other sizes, and values between pixels. Heights and widths are the last two axes."""

from __future__ import annotations

import numpy as np

from edgeq.formats.apple.interpolation import bilinear
from edgeq.formats.coreml.executor.operators.registry import operator
from edgeq.formats.coreml.executor.types import Array


@operator("upsample_nearest_neighbor", moves=True)
def upsample_nearest_neighbor(
    x: Array, scale_factor_height: float = 1, scale_factor_width: float = 1
) -> Array:
    """Each place takes the value at its position divided by the factor, rounded down."""
    for axis, factor in ((-2, scale_factor_height), (-1, scale_factor_width)):
        count = int(np.floor(x.shape[axis] * float(factor)))
        x = _nearest(x, axis, count)
    return x


@operator("resize_nearest_neighbor", moves=True)
def resize_nearest_neighbor(x: Array, target_size_height: int, target_size_width: int) -> Array:
    """Resize like `upsample_nearest_neighbor`, to sizes."""
    return _nearest(_nearest(x, -2, int(target_size_height)), -1, int(target_size_width))


@operator("upsample_bilinear")
def upsample_bilinear(
    x: Array,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Array:
    """Resize like `resize_bilinear`, by factors."""
    is_half = not align_corners if half_pixel_centers is None else bool(half_pixel_centers)
    if is_half and align_corners:
        raise ValueError("it aligns corners and takes the centres of pixels")
    mode = "UNALIGN_CORNERS" if is_half else "STRICT_ALIGN_CORNERS" if align_corners else "DEFAULT"
    height, width = x.shape[-2:]
    return resize_bilinear(
        x,
        int(np.floor(height * float(scale_factor_height))),
        int(np.floor(width * float(scale_factor_width))),
        mode,
    )


@operator("resize_bilinear")
def resize_bilinear(
    x: Array, target_size_height: int, target_size_width: int, sampling_mode: str = "DEFAULT"
) -> Array:
    """A product with the weights of pixels, of rows and of columns."""
    rows = bilinear(x.shape[-2], int(target_size_height), sampling_mode)
    columns = bilinear(x.shape[-1], int(target_size_width), sampling_mode)
    return np.asarray(rows @ x @ columns.T)


@operator("resize")
def resize(
    x: Array,
    shape: Array,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Array:
    """The last `resized_dims` axes in the sizes at the end of `shape`; 0 keeps a size."""
    count = int(resized_dims)
    for axis in range(-count, 0):
        size = int(shape[axis]) or x.shape[axis]
        if interpolation_mode == "NEAREST_NEIGHBOR":
            x = _nearest(x, axis, size)
        else:
            matrix = bilinear(x.shape[axis], size, sampling_mode)
            x = np.moveaxis(np.moveaxis(x, axis, -1) @ matrix.T, -1, axis)
    return x


@operator("crop", moves=True)
def crop(x: Array, crop_height: Array, crop_width: Array) -> Array:
    """Without so many rows and columns at each edge."""
    (top, bottom), (left, right) = crop_height, crop_width
    return x[..., int(top) : x.shape[-2] - int(bottom), int(left) : x.shape[-1] - int(right)]


@operator("resample")
def resample(
    x: Array,
    coordinates: Array,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Array:
    """The values at places (column, row) of each image."""
    sizes = x.shape[-1:-3:-1]
    places = [
        _pixels(coordinates[..., n], size, coordinates_mode, bool(align_corners))
        for n, size in enumerate(sizes)
    ]
    if padding_mode in ("reflection", "symmetric"):
        places = [
            _reflected(place, size, padding_mode == "reflection")
            for place, size in zip(places, sizes, strict=True)
        ]
    if padding_mode != "constant":
        places = [np.clip(p, 0, size - 1) for p, size in zip(places, sizes, strict=True)]
    fill = np.float32(padding_value)
    columns, rows = places
    if sampling_mode == "nearest":
        return _pixel(x, np.rint(rows), np.rint(columns), fill)
    return between(x, columns, rows, fill)


@operator("affine")
def affine(
    x: Array,
    transform_matrix: Array,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Array:
    """The values at the places that a matrix makes of an even grid from -1 to 1."""
    rows, columns = (np.linspace(-1, 1, int(n)) for n in (output_height, output_width))
    grid = np.stack([*np.meshgrid(columns, rows), np.ones((len(rows), len(columns)))], -1)
    matrices = np.broadcast_to(transform_matrix, (len(x), 6)).reshape(-1, 2, 3)
    places = np.einsum("hwk,bok->bhwo", grid, matrices).astype(np.float32)
    return resample(
        x, places, sampling_mode, padding_mode, padding_value, coordinates_mode, align_corners
    )


def between(x: Array, columns: Array, rows: Array, fill: np.float32) -> Array:
    """(items, channels, places…) between four pixels each; `fill` is around the image."""
    left, top = np.floor(columns), np.floor(rows)
    total = np.zeros((*x.shape[:2], *rows.shape[1:]), np.float32)
    for row, of_row in ((top, 1 - (rows - top)), (top + 1, rows - top)):
        for column, of_column in ((left, 1 - (columns - left)), (left + 1, columns - left)):
            total += _pixel(x, row, column, fill) * (of_row * of_column)[:, None]
    return total


def _nearest(x: Array, axis: int, count: int) -> Array:
    size = x.shape[axis]
    return np.asarray(np.take(x, np.arange(count) * size // count, axis=axis))


def _pixels(places: Array, size: int, mode: str, aligned: bool) -> Array:
    if mode == "unnormalized":
        return places
    share = (places + 1) / 2 if mode == "normalized_minus_one_to_one" else places
    return np.asarray(share * (size - 1) if aligned else share * size - 0.5)


def _reflected(places: Array, size: int, at_centres: bool) -> Array:
    low, span = (0.0, size - 1) if at_centres else (-0.5, size)
    if span == 0:
        return np.zeros_like(places)
    away = np.abs(places - low) % (2 * span)
    return np.asarray(low + np.minimum(away, 2 * span - away))


def _pixel(x: Array, rows: Array, columns: Array, fill: np.float32) -> Array:
    """(items, channels, places…) of whole positions; `fill` outside the image."""
    height, width = x.shape[-2:]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    row, column = (
        np.clip(each, 0, size - 1).astype(np.int64)
        for each, size in ((rows, height), (columns, width))
    )
    items = np.arange(len(x)).reshape(-1, *[1] * (rows.ndim - 1))
    found = np.moveaxis(x[items, :, row, column], -1, 1)
    return np.asarray(np.where(inside[:, None], found, fill))
