"""What the executor does besides arithmetic: interfaces, control flow, states, errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("coremltools", reason="the extra [coreml] is not installed")

import torch

from edgeq.core.errors import InvalidInput
from edgeq.formats.coreml.executor import Evaluated, load, scan
from edgeq.formats.coreml.executor.schema import messages
from tests.support.coreml_models import CachedLlama, convert, convert_llama, coremltools

MODEL = Path("Data/com.apple.CoreML/model.mlmodel")


def save_program(build: Callable[..., Any], path: Path, *specs: Any) -> Path:
    """A program of MIL's builder as a package, untouched by passes."""
    ct = coremltools()
    from coremltools.converters.mil import Builder as mb  # noqa: N813

    program = mb.program(input_specs=list(specs), opset_version=ct.target.iOS18)(build)
    converted = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT32,
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    )
    converted.save(str(path))
    return path


def edit(path: Path, change: Callable[[Any], None]) -> Path:
    """Change the specification of a saved package."""
    model = messages().Model()
    model.ParseFromString((path / MODEL).read_bytes())
    change(model)
    (path / MODEL).write_bytes(model.SerializeToString())
    return path


def operations(model: Any) -> Any:
    main = model.mlProgram.functions["main"]
    return main.block_specializations[main.opset].operations


@pytest.fixture(scope="module")
def simple(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """output = relu(x · 2 − 1), x float32 (2, 3)."""
    coremltools()
    from coremltools.converters.mil import Builder as mb  # noqa: N813

    def build(x: Any) -> Any:
        return mb.relu(x=mb.sub(x=mb.mul(x=x, y=np.float32(2)), y=np.float32(1)), name="output")

    path = tmp_path_factory.mktemp("simple") / "simple.mlpackage"
    return save_program(build, path, mb.TensorSpec((2, 3)))


@pytest.fixture
def copied(simple: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(simple, tmp_path / "copy.mlpackage"))


def test_a_program_runs(simple: Path) -> None:
    program = load(simple)
    assert list(program.inputs()) == ["x"]
    assert program.outputs() == ("output",)
    result = program.predict({"x": [[0, 1, 2], [3, 4, -5]]})
    np.testing.assert_array_equal(result["output"], [[0, 1, 3], [5, 7, 0]])
    assert result["output"].dtype == np.float32


def test_a_watcher_sees_every_operator_in_order(simple: Path) -> None:
    seen: list[Evaluated] = []
    load(simple).predict({"x": np.ones((2, 3))}, watch=seen.append)
    assert [item.operation.kind for item in seen] == ["mul", "sub", "relu"]
    assert seen[1].inputs["y"] == 1
    np.testing.assert_array_equal(seen[1].inputs["x"], seen[0].outputs[0])


def test_wrong_inputs_are_all_named(simple: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(simple).predict({"y": [1]})
    assert "has no input 'y'" in str(caught.value)
    assert "the input 'x' is not given" in str(caught.value)
    with pytest.raises(InvalidInput, match=r"shape \(3, 2\)[\s\S]*it can be \(2, 3\)"):
        load(simple).predict({"x": np.zeros((3, 2))})
    with pytest.raises(InvalidInput, match=r"no function 'other'[\s\S]*main"):
        load(simple).predict({"x": np.zeros((2, 3))}, function="other")


def test_an_unknown_operator_is_named_with_its_output(copied: Path) -> None:
    def strange(model: Any) -> None:
        operations(model)[-1].type = "levitate"

    with pytest.raises(InvalidInput, match=r"operator levitate named 'output' \(output: output\)"):
        load(edit(copied, strange))


def test_an_operator_that_fails_is_named(copied: Path) -> None:
    def surplus(model: Any) -> None:
        operations(model)[-1].inputs["speed"].arguments.add().name = "x"

    with pytest.raises(InvalidInput, match=r"operator relu named 'output'.* failed: .*speed"):
        load(edit(copied, surplus)).predict({"x": np.zeros((2, 3))})


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("Manifest.json", None, "no readable Manifest.json"),
        ("Manifest.json", b"[]", "names no model"),
        ("Manifest.json", b"{", "names no model"),
        (MODEL, None, "model.mlmodel cannot be read"),
        (MODEL, b"\xff\xff\xff", "not a Core ML model"),
        (MODEL, b"", "only ML Programs"),
    ],
)
def test_a_damaged_package_is_refused(copied: Path, file: Any, content: Any, said: str) -> None:
    (copied / file).unlink()
    if content is not None:
        (copied / file).write_bytes(content)
    with pytest.raises(InvalidInput, match=said):
        load(copied)


def test_no_damage_goes_unexplained(copied: Path) -> None:
    """A bit turned anywhere in the program: it still runs, or InvalidInput says why it does not."""
    whole = (copied / MODEL).read_bytes()
    turn = np.random.default_rng(0)
    refused = 0
    for place in turn.integers(0, len(whole), 400):
        bit = 1 << int(turn.integers(0, 7))
        damaged = whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :]
        (copied / MODEL).write_bytes(damaged)
        try:
            load(copied).predict({"x": np.ones((2, 3))})
        except InvalidInput:
            refused += 1
    assert 100 < refused < 400


def test_no_file_outside_of_the_package_is_read(copied: Path) -> None:
    manifest = json.loads((copied / "Manifest.json").read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = "../../other"
    (copied / "Manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InvalidInput, match="outside of the package"):
        load(copied)


def test_each_function_of_a_package_can_be_called(simple: Path, tmp_path: Path) -> None:
    ct = coremltools()

    def negated(model: Any) -> None:
        operations(model)[-1].type = "abs"

    other = edit(Path(shutil.copytree(simple, tmp_path / "abs.mlpackage")), negated)
    both = ct.utils.MultiFunctionDescriptor()
    both.add_function(str(simple), "main", "relu")
    both.add_function(str(other), "main", "abs")
    both.default_function_name = "relu"
    ct.utils.save_multifunction(both, str(tmp_path / "both.mlpackage"))
    program = load(tmp_path / "both.mlpackage")
    assert set(program.functions) == {"relu", "abs"}
    x = {"x": np.full((2, 3), -1)}
    assert program.predict(x)["output"].max() == 0
    assert program.predict(x, function="abs")["output"].min() == 3


def test_neither_coremltools_nor_torch_is_loaded(simple: Path) -> None:
    code = (
        "import sys; from edgeq.formats.coreml.executor import load; load(sys.argv[1]); "
        "print([m for m in ('coremltools', 'torch', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(simple)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_conditions_and_loops(tmp_path: Path) -> None:
    coremltools()
    from coremltools.converters.mil import Builder as mb  # noqa: N813

    def build(x: Any, rounds: Any) -> Any:
        _, doubled = mb.while_loop(
            _cond=lambda i, y: mb.less(x=i, y=mb.squeeze(x=rounds)),
            _body=lambda i, y: (mb.add(x=i, y=1), mb.mul(x=y, y=np.float32(2))),
            loop_vars=(0, x),
        )
        total = mb.reduce_sum(x=doubled, keep_dims=False)
        return mb.cond(
            pred=mb.greater(x=total, y=np.float32(100)),
            _true_fn=lambda: mb.identity(x=doubled),
            _false_fn=lambda: mb.sub(x=np.float32(0), y=doubled),
            name="output",
        )

    int32 = __import__("coremltools").converters.mil.mil.types.int32
    specs = (mb.TensorSpec((2,)), mb.TensorSpec((1,), dtype=int32))
    program = load(save_program(build, tmp_path / "loop.mlpackage", *specs))
    for rounds, want in ((0, [-3, -4]), (3, [-24, -32]), (4, [48, 64])):
        got = program.predict({"x": [3, 4], "rounds": [rounds]})["output"]
        np.testing.assert_array_equal(got, want)


def test_an_input_may_have_a_range_of_shapes(tmp_path: Path) -> None:
    ct = coremltools()
    flexible = ct.TensorType("x", (1, ct.RangeDim(2, 6, default=4)), np.float32)
    module = torch.nn.Softmax(-1)
    path = tmp_path / "range.mlpackage"
    convert(module, (torch.zeros(1, 4),), [flexible]).save(str(path))
    program = load(path)
    x = np.random.default_rng(0).normal(size=(1, 5)).astype(np.float32)
    np.testing.assert_allclose(
        program.predict({"x": x})["output"], torch.softmax(torch.from_numpy(x), -1), rtol=1e-6
    )
    assert program.inputs()["x"].wanted == "(1, 2 to 6)"
    with pytest.raises(InvalidInput, match="2 to 6"):
        program.predict({"x": np.zeros((1, 7))})


def test_a_classifier_gives_its_label(tmp_path: Path) -> None:
    ct = coremltools()
    config = ct.ClassifierConfig(["cat", "dog", "bird"])
    path = tmp_path / "classifier.mlpackage"
    convert(
        torch.nn.Softmax(-1),
        (torch.zeros(1, 3),),
        [ct.TensorType("x", (1, 3), np.float32)],
        classifier_config=config,
        outputs=None,
    ).save(str(path))
    result = load(path).predict({"x": [[0.0, 2.0, 1.0]]})
    assert result["classLabel"] == "dog"
    (shares,) = (value for value in result.values() if isinstance(value, dict))
    assert list(shares) == ["cat", "dog", "bird"]
    assert shares["dog"] == pytest.approx(0.66524, abs=1e-4)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[CachedLlama, Path]:
    torch.manual_seed(1)
    model = CachedLlama().eval()
    path = tmp_path_factory.mktemp("llama") / "llama.mlpackage"
    convert_llama(model).save(str(path))
    return model, path


def asked(model: CachedLlama, token: int, position: int) -> dict[str, Any]:
    mask = np.where(np.arange(model.context) <= position, 0, -30000.0).astype(np.float32)
    return {"ids": [[token]], "position": [position], "mask": mask[None, None, None]}


def test_a_stateful_decoder_continues_as_in_torch(llama: tuple[CachedLlama, Path]) -> None:
    model, path = llama
    with torch.no_grad():
        for layer in range(2):
            getattr(model, f"keys_{layer}").zero_()
            getattr(model, f"values_{layer}").zero_()
    program = load(path)
    state = program.make_state()
    assert set(state.values) == {"keys_0", "values_0", "keys_1", "values_1"}
    token, tokens = 5, []
    for position in range(12):
        inputs = asked(model, token, position)
        with torch.no_grad():
            want = model(*(torch.from_numpy(np.asarray(v)) for v in inputs.values())).numpy()
        got = program.predict(inputs, state)["output"]
        assert got.dtype == np.float16
        np.testing.assert_allclose(got, want, atol=0.01)
        token = int(want[0, 0].argmax())
        assert int(got[0, 0].argmax()) == token
        tokens.append(token)
    assert len(set(tokens)) > 2
    keys = model.get_buffer("keys_1").numpy()
    np.testing.assert_allclose(state.values["keys_1"], keys, atol=0.01)
    assert np.abs(keys).max() > 0.1


def test_states_are_the_callers(llama: tuple[CachedLlama, Path]) -> None:
    model, path = llama
    program = load(path)
    with pytest.raises(InvalidInput, match=r"needs the states keys_0.*\n.*make_state"):
        program.predict(asked(model, 1, 0))
    state = program.make_state()
    program.predict(asked(model, 1, 0), state)
    fork = state.copy()
    after = [program.predict(asked(model, 2, 1), s)["output"] for s in (state, fork)]
    np.testing.assert_array_equal(*after)
    other = program.predict(asked(model, 2, 1), program.make_state())["output"]
    assert (other != after[0]).any()


def test_an_overflow_is_named_once(simple: Path) -> None:
    program = load(simple)
    assert scan(program, {"x": np.ones((2, 3))}) == []
    x = np.ones((2, 3), np.float32)
    x[1, 2] = 3e38
    (found,) = scan(program, {"x": x})
    assert (found.kind, found.makes, found.count, found.of) == ("mul", "infinity", 1, 6)
    assert found.inputs["x"] == pytest.approx((1, 3e38))


def test_what_follows_from_an_overflow_is_not_reported(tmp_path: Path) -> None:
    """∞ − ∞ would be NaN; what to change is the product before it."""
    coremltools()
    from coremltools.converters.mil import Builder as mb  # noqa: N813

    def build(x: Any) -> Any:
        large = mb.mul(x=x, y=np.float32(1e30), name="large")
        return mb.add(x=mb.sub(x=large, y=large), y=mb.log(x=x, name="logarithm"), name="output")

    program = load(save_program(build, tmp_path / "p.mlpackage", mb.TensorSpec((2,))))
    (found,) = scan(program, {"x": [1e20, 1]})
    assert found.output == "large"
    assert [f.output for f in scan(program, {"x": [1e20, -1]})] == ["large", "logarithm"]
