"""The starter for Android in Kotlin: onnxruntime-android, coroutines, and DJL's tokenizers.

Its files are in the folder `kotlin` next to this module.
"""

from __future__ import annotations

from edgeq.core.artifact import Artifact
from edgeq.pipeline.starters.kinds import DTYPES, Kind, dtypes_of, kind_of, source, unpacked

ASSETS = "src/main/assets"
_CODE = "src/main/kotlin/com/example/starter"
_MODELS: dict[Kind, str] = {
    "encoder": "Encoder.kt",
    "classifier": "Classifier.kt",
    "arrays": "Arrays.kt",
    "decoder": "Decoder.kt",
}
_SHARED = ("Session.kt", "SelfTest.kt", "Assets.kt", "MainActivity.kt")
_TOKENIZERS = """\
    // The Android library has this version alone: keep both equal.
    implementation("ai.djl.huggingface:tokenizers:0.33.0")
    implementation("ai.djl.android:tokenizer-native:0.33.0")
"""
_README = """\
# {name} on Android

Open this directory in Android Studio and run the app; or, with Gradle, an Android SDK and a device:

    gradle installDebug

It runs the bundle's self-test, then the model on a few samples, and shows both. `Model.kt` is yours
to change: after a change, look at the self-test.

`src/main/assets/bundle` is the bundle, unpacked; its README says what the model takes and gives.
Assets stay uncompressed in the app. On the first start, `Assets.kt` writes them to the app's files,
because onnxruntime maps weights from files: they are paged in as they are used. An asset pack that
Google Play delivers on demand has files already: give its directory to `Model.load`.
{tokenizer}
Tested on a desktop: compiled by Kotlin, and the self-test run on a Java virtual machine with
onnxruntime's own Java classes and JNI library for Android. Not built by Gradle, and never run on a
device.
"""
_TOKENIZER = """
Texts are cut into tokens by Hugging Face's tokenizers, the library that the check used, in DJL's
binding. If the app stops because `libc++_shared.so` is missing, copy the NDK's into
`src/main/jniLibs/arm64-v8a`.
"""


def runs(artifact: Artifact) -> bool:
    """Whether this starter runs the artifact; Java's binding has one unsigned dtype, uint8."""
    kind = kind_of(artifact)
    dtypes = DTYPES - {"uint16", "uint32", "uint64"}
    return kind in _MODELS and (kind != "arrays" or dtypes_of(artifact) <= dtypes)


def files(artifact: Artifact, name: str, arrays: bytes | None) -> dict[str, bytes]:
    """Files of the program, by name. arrays: the self-test's `.npz`, for a model of arrays."""
    kind = kind_of(artifact)
    assert kind is not None  # the caller asks first
    has_texts = arrays is None
    shared = (*_SHARED, "Text.kt") if kind in ("encoder", "classifier") else _SHARED
    build = source("kotlin", "build.gradle.kts") + (_TOKENIZERS.encode() if has_texts else b"")
    readme = _README.format(name=name, tokenizer=_TOKENIZER if has_texts else "")
    inputs = {} if arrays is None else unpacked(arrays)
    return {
        **{f"{_CODE}/{file}": source("kotlin", file) for file in shared},
        f"{_CODE}/Model.kt": source("kotlin", _MODELS[kind]),
        "src/main/AndroidManifest.xml": source("kotlin", "AndroidManifest.xml"),
        "settings.gradle.kts": source("kotlin", "settings.gradle.kts"),
        "build.gradle.kts": build + b"}\n",
        "gradle.properties": b"android.useAndroidX=true\n",
        "README.md": readme.encode(),
        **{f"{ASSETS}/{file}": content for file, content in inputs.items()},
    }
