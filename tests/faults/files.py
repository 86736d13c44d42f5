"""Files from strangers, and what edgeq does with each: the targets of mutants."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import select
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

import edgeq
from edgeq.core.artifact import ARTIFACT_FILE, read_artifact
from edgeq.core.errors import InvalidInput, Problem
from edgeq.devices.address import parse_address
from edgeq.devices.catalogue import load_device
from edgeq.formats.text import TextEncoder
from edgeq.formats.tokenizer_pieces import DecoderTokenizer
from edgeq.models.architectures import decoder_of
from edgeq.models.huggingface import read_directory
from edgeq.models.weight_files import read_safetensors_header
from edgeq.places import link
from edgeq.places.agent_wire import pack
from edgeq.places.link import Channel, Lost
from edgeq.places.place import Unreachable
from edgeq.places.process import PassFailed
from edgeq.places.remote import RemotePlace
from edgeq.recipe import array_sets, data_sets
from edgeq.recipe.load import load_recipe
from tests.faults import sources
from tests.support import onnx_models, samples, tiny_bert
from tests.support.bundles import unchecked_bundle
from tests.support.hostile_device import GREETING
from tests.support.mutants import mutant

_IN_OPEN = 0x20  # sys/inotify.h
ROOT = Path(__file__).parents[2]
WREN = ROOT / "recipes" / "wren"
Mutate = Callable[[bytes, int], bytes]


@dataclass(frozen=True)
class Kind:
    """Files with one name. make: a sound one below a folder; read: all that edgeq does with it."""

    name: str
    make: Callable[[Path], bytes]
    read: Callable[[Path], Any]

    def mutants(self, folder: Path) -> Callable[[int], bytes]:
        """The mutant of each seed; the sound file is made once."""
        content = self.make(folder)

        def changed(seed: int) -> bytes:
            found = mutant(self.name, content, seed)
            return found if found != content else content + b"\0"

        return changed


class GgufKind(Kind):
    """GGUF files: mutants know the header."""

    def mutants(self, folder: Path) -> Callable[[int], bytes]:
        """See `Kind.mutants`."""
        from tests.support.gguf_mutants import GgufMutants

        path = folder / "sound.gguf"
        path.write_bytes(self.make(folder))
        return GgufMutants(path).mutant


class FlippedKind(Kind):
    """Files of which one bit is flipped: every one must be refused."""

    def mutants(self, folder: Path) -> Callable[[int], bytes]:
        """See `Kind.mutants`."""
        import random

        content = self.make(folder)

        def flipped(seed: int) -> bytes:
            changed, chance = bytearray(content), random.Random(seed)
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            return bytes(changed)

        return flipped


class CraftedKind(Kind):
    """Bundles made to be wrong; every one must be refused, and no file outside them opened."""

    def mutants(self, folder: Path) -> Callable[[int], bytes]:
        """See `Kind.mutants`. Neighbouring seeds give different kinds."""
        from tests.support.hostile_bundles import crafted

        _OUTSIDE.write_bytes(bytes(64))
        bundles = crafted(folder, _OUTSIDE)
        return lambda seed: bundles[37 * seed % len(bundles)]


_OUTSIDE = Path(tempfile.gettempdir(), "outside-of-bundles")


class Believed(Exception):
    """A changed file was taken for a sound one."""


def _arrays(path: Path) -> None:
    found = array_sets.read_arrays(path, 2)
    list(array_sets.feeds(path, found, {"a": 2, "b": 3}))


def _arrays_content(folder: Path) -> bytes:
    np.savez(folder / "base.npz", a=np.zeros((4, 3)), b=np.ones((4, 2, 2), np.int64))
    return (folder / "base.npz").read_bytes()


def _table(path: Path) -> None:
    data_sets.read_texts(path)
    data_sets.read_pairs(path, 3)


def _table_content(separator: str) -> bytes:
    rows = [("sentence1", "sentence2", "score"), *((f"a {i}", f"b {i}", i) for i in range(9))]
    return "\n".join(separator.join(map(str, row)) for row in rows).encode()


def _weights_content() -> bytes:
    return bytes(save({f"w{index}": np.ones((4, 3), np.float32) for index in range(4)}))


def _encoder(path: Path) -> None:
    TextEncoder(path.read_bytes(), 16).feeds("ba be \u00fc\U0001f600", ["input_ids"])


def _decoder(path: Path) -> None:
    tokenizer = DecoderTokenizer(path.read_bytes())
    for token in tokenizer.ids("The bird sang \u00fc\U0001f600."):
        tokenizer.piece(token)


def _config(path: Path) -> None:
    directory = path.parent
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        if not (directory / name).exists():
            shutil.copyfile(WREN / name, directory / name)
    decoder_of(read_directory(directory, "model.source").config, "config.json")


def _onnx_content(folder: Path) -> bytes:
    return onnx_models.convolutional(folder / "sound.onnx").read_bytes()


def _onnx(path: Path) -> None:
    from edgeq.models.graphs.imported import import_onnx
    from edgeq.models.graphs.source import source_files

    graph = path.parent / "float"
    graph.mkdir(exist_ok=True)
    source_files(path)
    import_onnx(path, graph)


def _gguf_content(folder: Path) -> bytes:
    from tests.support.gguf_artifacts import write_file

    return write_file(WREN, folder / "made.gguf", "Q4_0").read_bytes()


def _gguf_header(path: Path) -> None:
    from edgeq.formats.gguf.header import read_header
    from edgeq.formats.gguf.sanity import require_sane

    require_sane(read_header(path))


def _bundle_content(folder: Path) -> bytes:
    artifact = samples.tensor_artifact(folder / "artifact", width=16)
    return unchecked_bundle(artifact, folder / "sound.zip").read_bytes()


def _load(path: Path) -> None:
    edgeq.load(path)
    raise Believed


def _crafted(path: Path) -> None:
    with nobody_opens(_OUTSIDE):
        _load(path)


@contextlib.contextmanager
def nobody_opens(path: Path) -> Iterator[None]:
    """Raise if anything, native code as well, opens the file meanwhile."""
    library = ctypes.CDLL(None, use_errno=True)
    watch = library.inotify_init1(os.O_NONBLOCK)
    library.inotify_add_watch(watch, os.fsencode(path), _IN_OPEN)
    try:
        yield
    finally:
        opened = bool(select.select([watch], [], [], 0)[0])
        os.close(watch)
        if opened:
            raise RuntimeError("a file outside of the bundle was opened")


def _record_content(folder: Path) -> bytes:
    return (samples.tensor_artifact(folder / "artifact", width=16) / ARTIFACT_FILE).read_bytes()


def _record(path: Path) -> None:
    read_artifact(path.parent)


def _template_content(_: Path) -> bytes:
    lines = (
        "{% for message in messages %}",
        "<|{{ message.role }}|>{{ message['content'] | trim }}</s>",
        "{% if loop.last and add_generation_prompt %}",
        "<|assistant|>{{ 'x' * 3 }}",
        "{% endif %}",
        "{% endfor %}",
    )
    return "\n".join(lines).encode()


def _template(path: Path) -> None:
    """The child's answer, without the child: it is started for each template, which takes long."""
    import jinja2

    from edgeq.formats import template_child

    context = {"messages": [{"role": "user", "content": "Hi"}], "add_generation_prompt": True}
    try:
        template_child._render(path.read_bytes().decode("utf-8", "replace"), context)
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise InvalidInput(Problem("template", type(error).__name__)) from None


class _Replayed(RemotePlace):
    """A machine that answers each message with the next of those in a file."""

    def __init__(self, replies: list[bytes]) -> None:
        super().__init__(parse_address("ssh://someone@device"), silence_seconds=0.1)
        self._replies = replies

    async def _open(self, command: str) -> Channel:
        return _Replay(self._replies)


class _Replay:
    def __init__(self, replies: list[bytes]) -> None:
        self._buffer, self._left = replies[0], list(replies[1:])
        self._asked = asyncio.Event()

    async def read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._asked.clear()
            await self._asked.wait()
        piece, self._buffer = self._buffer[:size], self._buffer[size:]
        return piece

    async def write(self, data: bytes) -> None:
        if self._left and b'"op": "beat"' not in data[:40] and data[:1] == b"\0":
            self._buffer += self._left.pop(0)
            self._asked.set()

    async def last_words(self) -> str:
        return ""

    def abort(self) -> None:
        self._left, self._buffer = [], b""


_BREAK = b"\n--8<--\n"


def _wire_content(folder: Path) -> bytes:
    from edgeq.devices import detect
    from edgeq.places.file_manifest import Hashes, write_source

    write_source(folder / "source.zip")
    have = {Hashes().of(folder / "source.zip"): None}
    facts = detect.detect().model_dump_json()
    messages = (
        b"edgeq-python 3.11.2 /usr/bin/python3\n",
        pack(dict(GREETING)),
        pack({"have": have, "free": 1 << 40}),
        pack({"ok": True}),
        pack({"status": 0, "output": facts, "errors": ""}),
        pack({"load_average": 0.5}),
    )
    return _BREAK.join(messages)


def _wire(path: Path) -> None:
    link.PATIENCE_SECONDS = 1.0  # of a login that says nothing
    try:
        with _Replayed(path.read_bytes().split(_BREAK)) as place:
            place.device()
            place.surroundings()
    except (Lost, PassFailed, Unreachable) as error:
        raise InvalidInput(Problem("device", str(error))) from None


def _signature(path: Path) -> None:
    from edgeq.formats.signature import require_signed

    for name in ("signed.zip", "key.pub"):
        if not path.with_name(name).exists():
            shutil.copyfile(path.parents[1] / name, path.with_name(name))
    require_signed(path.with_name("signed.zip"), path.with_name("key.pub"))


def _signature_content(folder: Path) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec

    from edgeq.formats.signature import sign, signer
    from tests.formats.test_signature import write_pair

    key, public = write_pair(folder, ec.generate_private_key(ec.SECP256R1()))
    (folder / "signed.zip").write_bytes(b"a bundle")
    assert public.name == "key.pub"
    return sign(folder / "signed.zip", signer(key)).read_bytes()


def _device(path: Path) -> None:
    load_device(str(path))


KINDS = {
    "recipes": Kind("recipe.yaml", lambda _: tiny_bert.GOOD.encode(), load_recipe),
    "device profiles": Kind(
        "pi5-8gb.yaml", lambda _: (ROOT / "devices" / "pi5-8gb.yaml").read_bytes(), _device
    ),
    "configurations": Kind("config.json", lambda _: (WREN / "config.json").read_bytes(), _config),
    "tokenizers of encoders": Kind(
        "tokenizer.json", lambda _: tiny_bert.tokenizer().to_str().encode(), _encoder
    ),
    "tokenizers of language models": Kind(
        "tokenizer.json", lambda _: (WREN / "tokenizer.json").read_bytes(), _decoder
    ),
    "safetensors": Kind("model.safetensors", lambda _: _weights_content(), read_safetensors_header),
    "arrays": Kind("arrays.npz", _arrays_content, _arrays),
    "tables, .tsv": Kind("pairs.tsv", lambda _: _table_content("\t"), _table),
    "tables, .csv": Kind("pairs.csv", lambda _: _table_content(","), _table),
    "ONNX graphs": Kind("model.onnx", _onnx_content, _onnx),
    "GGUF headers": GgufKind("model.gguf", _gguf_content, _gguf_header),
    "GGUF files, loaded": GgufKind("model.gguf", _gguf_content, edgeq.load),
    "GGUF sources": GgufKind("model.gguf", sources.read_content, sources.plan_and_build),
    "GGUF sources of other architectures": GgufKind(
        "model.gguf", sources.unread_content, sources.plan_and_build
    ),
    "records of artifacts": Kind(ARTIFACT_FILE, _record_content, _record),
    "bundles": Kind("bundle.zip", _bundle_content, _load),
    "flipped bits in bundles": FlippedKind("bundle.zip", _bundle_content, _load),
    "crafted bundles": CraftedKind("bundle.zip", lambda _: b"", _crafted),
    "chat templates": Kind("template.jinja", _template_content, _template),
    "messages of a device": Kind("messages.bin", _wire_content, _wire),
    "signatures": Kind("signed.zip.sig", _signature_content, _signature),
}
