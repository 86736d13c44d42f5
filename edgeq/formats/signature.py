"""Detached signatures in OpenSSF's model-signing format, with a key pair, which needs no network.

Hashes inside a file show that it is undamaged; only a signature shows who made it. A signature is a
separate file next to the signed one, which is not changed.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgeq.core.errors import InvalidInput, Problem, missing_extra
from edgeq.core.files import read_bytes, replacing, require_file

_LARGEST_SIGNATURE = 1 << 20
_LARGEST_KEY = 1 << 16
_CURVES = "make one: openssl ecparam -name prime256v1 -genkey -noout -out key.pem"


def signature_of(path: Path) -> Path:
    """The path of the signature of `path`."""
    return path.with_name(f"{path.name}.sig")


def signer(key: Path) -> Any:
    """A signer with the private key in `key`, a PEM file, for `sign`.

    Raises InvalidInput for any other file, Missing if model-signing is not installed.
    """
    _require_package("sign a bundle")
    from model_signing.signing import Config

    read_bytes(key, _LARGEST_KEY, _CURVES)
    try:
        return Config().use_elliptic_key_signer(private_key=key)
    except Exception as error:  # cryptography's and the package's errors share no base class
        what = f"is not an elliptic-curve private key without a password: {_words(error)}"
        raise InvalidInput(Problem(str(key), what, _CURVES)) from None


def sign(path: Path, by: Any) -> Path:
    """Write the signature of `path`, and return its path."""
    place = signature_of(path)
    with replacing(place) as partial:
        by.sign(path, partial)
    return place


def require_signed(path: Path, key: Path) -> None:
    """Return if `path` has a signature that the public key in `key`, a PEM file, verifies.

    Raises InvalidInput if not, Missing if model-signing is not installed.
    """
    _require_package("verify a signature")
    from model_signing.verifying import Config

    read_bytes(key, _LARGEST_KEY, "name the public key, a PEM file")
    try:
        verifier = Config().use_elliptic_key_verifier(public_key=key)
    except Exception as error:  # as above
        what = f"is not an elliptic-curve public key: {_words(error)}"
        remedy = "write it from the private key: openssl ec -in key.pem -pubout -out key.pub"
        raise InvalidInput(Problem(str(key), what, remedy)) from None
    signature = signature_of(path)
    read_bytes(signature, _LARGEST_SIGNATURE, "fetch it again, with the file it belongs to")
    require_file(path) if not path.is_dir() else None
    try:
        verifier.verify(path, signature)
    except Exception as error:  # whatever is wrong with a stranger's signature
        what = f"is not signed by {key}: {_words(error)}"
        remedy = f"fetch it again with {signature.name}, or ask its maker for the right key"
        raise InvalidInput(Problem(str(path), what, remedy)) from None


def _require_package(purpose: str) -> None:
    if find_spec("model_signing") is None:
        raise missing_extra("model_signing", "signing", purpose)


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())[:160]
