"""Operators that move values: shapes, indices, padding."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from onnx import numpy_helper

from tests.support.apple_cases.base import Case, Draw, Numbers, f32, i64, of

# Apple's package looks for the operator that makes a size. `test_free_sizes` has one.
_NO_INPUT_IS_A_SIZE = "Core AI"


@of("Reshape")
def _reshape(draw: Draw, n: Numbers, kind: str) -> Case:
    return Case([n.floats(2, 3, 4)], [n.one_of(i64(0, -1, 2), i64(24), i64(-1, 3), i64(4, 6))])


@of("Flatten")
def _flatten(draw: Draw, n: Numbers, kind: str) -> Case:
    return Case([n.floats(2, 3, 4)], [], {"axis": n.one_of(0, 1, 2, 3, -1)})


@of("Transpose")
def _transpose(draw: Draw, n: Numbers, kind: str) -> Case:
    order = draw(st.permutations(range(3)))
    return Case([n.floats(2, 3, 4)], [], n.one_of({}, {"perm": list(order)}))


@of("Squeeze", "Unsqueeze")
def _axes(draw: Draw, n: Numbers, kind: str) -> Case:
    if kind == "Unsqueeze":
        return Case([n.floats(2, 3)], [i64(*n.axes(4, 2)[:2])])
    return Case([n.floats(1, 3, 1)], n.one_of([], [i64(0)], [i64(-1, 0)]))


@of("Concat", "Split")
def _parts(draw: Draw, n: Numbers, kind: str) -> Case:
    axis = n.axis(3)
    if kind == "Concat":
        other = [2, 3, 4]
        other[axis] = 2
        return Case([n.floats(2, 3, 4), n.floats(*other)], [], {"axis": axis})
    x = n.floats(4, 4, 4)
    if draw(st.booleans()):
        return Case([x], [i64(1, 3)], {"axis": axis}, outputs=2)
    return Case([x], [], {"axis": axis, "num_outputs": 2}, outputs=2)


@of("Shape", "Size")
def _shape(draw: Draw, n: Numbers, kind: str) -> Case:
    raise NotImplementedError  # constants; see `test_a_size_that_is_free_stays_free` and others


@of("Gather", "GatherElements", "ScatterElements")
def _by_axis(draw: Draw, n: Numbers, kind: str) -> Case:
    axis = n.axis(3)
    x, size = n.floats(2, 3, 4), (2, 3, 4)[axis]
    if kind == "Gather":
        places = n.whole(*n.one_of((), (3,), (2, 2)), low=-size, high=size - 1)
        return Case([x], [places], {"axis": axis})
    shape = [2, 3, 4]
    shape[axis] = n.one_of(1, size)
    if kind == "GatherElements":
        shape[0] = n.one_of(1, shape[0])
    order = np.argsort(n.rng.random((*shape[: axis % 3], size, *shape[axis % 3 + 1 :])), axis)
    places = np.take(order, range(shape[axis]), axis) - size * n.one_of(0, 1)
    if kind == "GatherElements":
        return Case([x, places], [], {"axis": axis})
    mode = n.one_of("none", "add", "mul")
    return Case([x, places, n.floats(*shape)], [], {"axis": axis, "reduction": mode})


@of("GatherND", "ScatterND")
def _by_place(draw: Draw, n: Numbers, kind: str) -> Case:
    x, width = n.floats(2, 3, 4), n.one_of(1, 2, 3)
    whole = np.stack(np.unravel_index(n.rng.permutation(24)[:2], x.shape), -1)[:, :width]
    places = whole.astype(np.int64) - np.array(x.shape)[:width] * n.one_of(0, 1)
    if kind == "GatherND":
        return Case([x, places])
    if len(np.unique(whole, axis=0)) == 1:
        places = places[:1]
    return Case([x, places, n.floats(len(places), *x.shape[width:])])


@of("Slice")
def _slice(draw: Draw, n: Numbers, kind: str) -> Case:
    axes = n.axes(3)
    bounds = st.integers(-6, 6) | st.sampled_from([2**63 - 1, -(2**63)])
    begins, ends = ([draw(bounds) for _ in axes] for _ in range(2))
    steps = [n.one_of(1, 2, -1, -2) for _ in axes]
    x = n.floats(4, 5, 3)
    size = {axis: x.shape[axis] for axis in axes}
    for place, axis in enumerate(axes):  # nothing is left of some, which no runtime here takes
        picked = range(size[axis])[begins[place] : ends[place] : steps[place]]
        if not picked:
            begins[place], ends[place], steps[place] = 0, 2, 1
    return Case([x], [i64(*begins), i64(*ends), i64(*axes), i64(*steps)])


@of("Expand", "Tile")
def _repeated(draw: Draw, n: Numbers, kind: str) -> Case:
    if kind == "Tile":
        return Case([n.floats(2, 3)], [i64(n.one_of(1, 2), n.one_of(1, 3))])
    x = n.one_of(n.floats(3, 1), n.whole(3, 1))
    if draw(st.booleans()):
        return Case([x, n.one_of(i64(3, 4), i64(3, 1))], refused=_NO_INPUT_IS_A_SIZE)
    return Case([x], [n.one_of(i64(3, 4), i64(2, 3, 4), i64(1, 1), i64(2, 1, 1))])


@of("ConstantOfShape", "Range")
def _made(draw: Draw, n: Numbers, kind: str) -> Case:
    if kind == "Range":
        begin, step = n.whole(1), n.whole(1, low=1, high=3)
        return Case([begin, begin + step * n.one_of(1, 4) + n.one_of(0, 1), step])
    value = n.one_of(f32(1.5), np.array(7, np.int64), np.array(True))
    fill = numpy_helper.from_array(value.reshape(1))
    shape = i64(2, n.one_of(1, 3))
    return Case([shape], [], {"value": fill}, refused=_NO_INPUT_IS_A_SIZE)


@of("Pad")
def _pad(draw: Draw, n: Numbers, kind: str) -> Case:
    mode = n.one_of("constant", "reflect", "edge", "wrap")
    amounts = [draw(st.integers(0 if mode != "constant" else -1, 2)) for _ in range(6)]
    x = n.floats(4, 5, 3)
    fill = n.one_of(None, f32(1.5)) if mode == "constant" else None
    if draw(st.booleans()):
        axes = n.axes(3, 2)[:2]
        return Case([x], [i64(*amounts[:4]), fill, i64(*axes)], {"mode": mode})
    return Case([x], [i64(*amounts), fill], {"mode": mode})


@of("TopK")
def _topk(draw: Draw, n: Numbers, kind: str) -> Case:
    attributes = {"axis": n.axis(2), "largest": n.one_of(0, 1)}
    x = n.rng.permutation(24).astype(np.float32).reshape(4, 6)
    return Case([x], [i64(n.one_of(1, 3))], attributes, outputs=2)


@of("OneHot")
def _one_hot(draw: Draw, n: Numbers, kind: str) -> Case:
    places = n.whole(2, 3, low=-4, high=3)
    return Case([places], [np.array(4, np.int64), n.floats(2)], {"axis": n.axis(3)})


@of("Trilu")
def _trilu(draw: Draw, n: Numbers, kind: str) -> Case:
    shift = np.array(draw(st.integers(-3, 3)), np.int64)
    return Case([n.floats(2, 3, 4)], [shift], {"upper": n.one_of(0, 1)})
