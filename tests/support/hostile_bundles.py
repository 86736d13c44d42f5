"""Bundles that a stranger who knows the format could make; their digests are right."""

from __future__ import annotations

import hashlib
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from edgeq.core.artifact import (
    DATA_FILE,
    MODEL_FILE,
    read_record,
    record_files,
    seal,
    unseal,
    write_artifact,
)
from edgeq.core.known_settings import SESSION_KEY
from edgeq.formats.bundle import BUNDLE_FILE
from tests.support import samples
from tests.support.bundles import unchecked_bundle


def sealed(path: Path) -> Path:
    """The same archive with a right digest at its end."""
    content = path.read_bytes()
    body = content[: content.rindex(b"PK\5\6") + 20] + struct.pack("<H", 77)
    path.write_bytes(body + b"edgeq-sha256:" + hashlib.sha256(body).hexdigest().encode())
    return path


def forged(bundle: Path, path: Path, change: Callable[[zipfile.ZipInfo], None]) -> Path:
    """`bundle` with every entry but the record written as `change` wants it."""
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            info = zipfile.ZipInfo(name)
            if name != BUNDLE_FILE:
                change(info)
            new.writestr(info, old.read(name))
    return sealed(path)


def compressed(info: zipfile.ZipInfo) -> None:
    info.compress_type = zipfile.ZIP_DEFLATED


def link(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


def device(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFCHR | 0o666) << 16


def commented(info: zipfile.ZipInfo) -> None:
    info.comment = b"x"


def renamed(info: zipfile.ZipInfo) -> None:
    info.filename = f"../{info.filename}"


ENTRIES: tuple[Callable[[zipfile.ZipInfo], None], ...] = (compressed, link, device, commented)
NAMES = (
    *("con", "NUL", "com1.onnx", "a/aux.txt", "end.", "a./b", "end ", "x" * 300),
    *("../up", "/root", "a\\b", "c:x", "Model.onnx.DATA", "model.onnx/x"),
)
READS_FILES = "session.model_external_initializers_file_folder_path"
_ENTRIES_OF_SESSIONS = (
    *(READS_FILES, "session.optimized_model_filepath", "session.save_model_format"),
    *("session.load_model_format", "session.use_ort_model_bytes_directly"),
    *("session.use_env_allocators", "session.model_data_file", "session.custom_ops_library"),
    *("session.optimized_model_external_initializers_file_name", "ep.context_enable"),
    *("ep.context_file_path", "session.inter_op.thread_count", "session.of_the_future"),
)


def elsewhere(location: str) -> TensorProto:
    """A tensor whose values lie in the file `location`."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def in_initializer(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.initializer.append(tensor)


def in_constant(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def in_subgraph(model: onnx.ModelProto, tensor: TensorProto) -> None:
    then = helper.make_graph([], "then", [], [], [tensor])
    model.graph.node.append(helper.make_node("If", ["x"], ["c"], then_branch=then))


def in_sparse(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(tensor)


def in_function(model: onnx.ModelProto, tensor: TensorProto) -> None:
    function = model.functions.add(name="f", domain="d")
    function.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def in_training(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.training_info.add().initialization.initializer.append(tensor)


HIDING: tuple[Callable[[onnx.ModelProto, TensorProto], None], ...] = (
    *(in_initializer, in_constant, in_subgraph, in_sparse, in_function, in_training),
)
LOCATIONS = ("/etc/hostname", "../outside", "not-there", "*/_ORT_MEM_ADDR_/*", "./a", "a\\b")


def with_tensor_elsewhere(
    copy: Path, hide: Callable[[onnx.ModelProto, TensorProto], None], location: str
) -> bytes:
    """Have the model of an artifact store one more tensor in `location`; returns the model."""
    model = onnx.load(copy / MODEL_FILE, load_external_data=False)
    hide(model, elsewhere(location))
    content = bytes(model.SerializeToString())
    (copy / MODEL_FILE).write_bytes(content)
    files = record_files(copy, [MODEL_FILE, DATA_FILE])
    write_artifact(copy, read_record(copy).model_copy(update={"files": files}))
    return content


def crafted(folder: Path, outside: Path) -> list[bytes]:
    """Over a hundred bundles, each wrong in one way; some try to read the file `outside`."""
    artifact = samples.tensor_artifact(folder / "crafted" / "artifact", width=16)
    return list(_crafted(artifact, folder / "crafted", outside))


def _crafted(artifact: Path, folder: Path, outside: Path) -> Iterator[bytes]:
    bundle, out = unchecked_bundle(artifact, folder / "sound.zip"), folder / "changed.zip"
    for change in (*ENTRIES, renamed):
        yield forged(bundle, out, change).read_bytes()
    outsides = (str(outside), f"../{outside.name}", outside.as_uri(), *LOCATIONS)
    for hide in HIDING:
        for location in outsides:
            copy = Path(shutil.copytree(artifact, folder / "copy", dirs_exist_ok=True))
            with_tensor_elsewhere(copy, hide, location)
            yield unchecked_bundle(copy, out).read_bytes()
    for name in NAMES:
        for noun in ("files", "extras"):
            yield with_record(bundle, out, partial(_claim, noun, name)).read_bytes()
    for entry in _ENTRIES_OF_SESSIONS:
        for value in (str(outside.parent), str(outside), "1"):
            yield with_record(bundle, out, partial(_set, entry, value)).read_bytes()


def _claim(noun: str, name: str, record: dict[str, Any]) -> None:
    """Name one more file, which is empty."""
    empty = {"bytes": 0, "sha256": hashlib.sha256().hexdigest()}
    record[noun][name] = empty
    if noun == "files":
        record["artifact"]["files"][name] = empty


def _set(entry: str, value: str, record: dict[str, Any]) -> None:
    record["artifact"]["settings"][SESSION_KEY] = {entry: value}


def with_record(bundle: Path, path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """`bundle` with another record, and an empty entry for each file that only the record names."""
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(path, "w") as new:
        record = unseal(old.read(BUNDLE_FILE), "")
        change(record)
        new.writestr(zipfile.ZipInfo(BUNDLE_FILE), seal(record))
        for name in [*record["files"], *record["extras"]]:
            new.writestr(zipfile.ZipInfo(name), old.read(name) if name in old.namelist() else b"")
    return sealed(path)
