"""Signatures of bundles: what the key's other half signed is opened, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("model_signing", reason="the extra 'signing' is not installed")
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import edgeq
from edgeq.core.errors import InvalidInput
from edgeq.formats.signature import require_signed, sign, signature_of, signer
from tests.support import samples
from tests.support.bundles import unchecked_bundle

MODEL_SIGNING = [sys.executable, "-m", "model_signing"]
PLAIN = serialization.NoEncryption()


def write_pair(folder: Path, private: object) -> tuple[Path, Path]:
    """A private key and its public half."""
    assert isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    key, public = folder / "key.pem", folder / "key.pub"
    folder.mkdir(exist_ok=True)
    pem = serialization.Encoding.PEM
    key.write_bytes(private.private_bytes(pem, serialization.PrivateFormat.PKCS8, PLAIN))
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(private.public_key().public_bytes(pem, info))
    return key, public


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_pair(tmp_path_factory.mktemp("keys"), ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    artifact = samples.tensor_artifact(tmp_path / "artifact", width=16)
    return unchecked_bundle(artifact, tmp_path / "sensor.zip")


def test_a_signed_bundle_opens_and_stays_the_same(keys: tuple[Path, Path], bundle: Path) -> None:
    before = bundle.read_bytes()
    assert sign(bundle, signer(keys[0])) == signature_of(bundle)
    assert bundle.read_bytes() == before
    assert edgeq.load(bundle, key=keys[1]).artifact is not None


def test_the_package_s_own_command_takes_the_signature(
    keys: tuple[Path, Path], bundle: Path
) -> None:
    sign(bundle, signer(keys[0]))
    command = [*MODEL_SIGNING, "verify", "key", str(bundle), "--signature"]
    command += [str(signature_of(bundle)), "--public_key", str(keys[1])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    bundle.write_bytes(bundle.read_bytes()[:-1])
    assert subprocess.run(command, capture_output=True).returncode != 0


def test_a_signature_of_the_package_s_own_command_is_taken(
    keys: tuple[Path, Path], bundle: Path
) -> None:
    command = [*MODEL_SIGNING, "sign", "key", str(bundle), "--signature"]
    command += [str(signature_of(bundle)), "--private_key", str(keys[0])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    require_signed(bundle, keys[1])


def test_whatever_another_key_or_nobody_signed_is_refused(
    keys: tuple[Path, Path], bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=r"sensor.zip.sig"):
        edgeq.load(bundle, key=keys[1])
    other, _ = write_pair(tmp_path / "other", ec.generate_private_key(ec.SECP256R1()))
    sign(bundle, signer(other))
    with pytest.raises(InvalidInput, match=r"is not signed by .*key.pub.*Key mismatch"):
        edgeq.load(bundle, key=keys[1])
    # The hint is not signed: naming the right key helps nobody.
    forged = json.loads(signature_of(bundle).read_text())
    sign(bundle, signer(keys[0]))
    right = json.loads(signature_of(bundle).read_text())
    forged["verificationMaterial"] = right["verificationMaterial"]
    signature_of(bundle).write_text(json.dumps(forged))
    with pytest.raises(InvalidInput, match="is not signed by"):
        edgeq.load(bundle, key=keys[1])


@pytest.mark.parametrize("place", [0, 1000, -1])
def test_a_changed_bundle_is_refused(keys: tuple[Path, Path], bundle: Path, place: int) -> None:
    sign(bundle, signer(keys[0]))
    content = bytearray(bundle.read_bytes())
    content[place] ^= 1
    bundle.write_bytes(content)
    with pytest.raises(InvalidInput, match="Hash mismatch"):
        edgeq.load(bundle, key=keys[1])


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff", b"null", b"[1]"])
def test_a_signature_that_is_none_is_refused(
    keys: tuple[Path, Path], bundle: Path, content: bytes
) -> None:
    signature_of(bundle).write_bytes(content)
    with pytest.raises(InvalidInput, match="is not signed by"):
        require_signed(bundle, keys[1])


def test_keys_of_other_kinds_are_refused_by_name(
    keys: tuple[Path, Path], bundle: Path, tmp_path: Path
) -> None:
    sign(bundle, signer(keys[0]))
    rsa_key, rsa_public = write_pair(tmp_path / "rsa", rsa.generate_private_key(65537, 2048))
    (tmp_path / "text").write_text("no key")
    for path in (rsa_key, keys[1], tmp_path / "text"):
        with pytest.raises(InvalidInput, match="openssl ecparam"):
            signer(path)
    for path in (rsa_public, keys[0], tmp_path / "text"):
        with pytest.raises(InvalidInput, match="openssl ec -in"):
            require_signed(bundle, path)
    with pytest.raises(InvalidInput):
        signer(tmp_path / "absent")


def test_the_command_verifies(keys: tuple[Path, Path], bundle: Path) -> None:
    sign(bundle, signer(keys[0]))
    start = [sys.executable, "-c", "from edgeq.cli.main import main; main()", "verify", bundle.name]
    command = [*start, "--key", str(keys[1])]
    done = subprocess.run(command, cwd=bundle.parent, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"sensor.zip: signed by {keys[1]}\n")
    bundle.write_bytes(b"PK")
    done = subprocess.run(command, cwd=bundle.parent, capture_output=True, text=True)
    assert done.returncode == 2
    assert "sensor.zip: is not signed by" in " ".join(done.stderr.split())
