"""How a store delivers a bundle's files next to an app instead of within it.

Google Play: https://developer.android.com/guide/playcore/asset-delivery/integrate-java
Apple: https://developer.apple.com/documentation/backgroundassets/creating-managed-asset-packs
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from edgeq.core.artifact import Artifact
from edgeq.formats.registry import file_format

_PLAY = """\
On Google Play, an asset pack: a directory `{name}` in your project with these files in
`src/main/assets`, `include(":{name}")` in the project's settings, `assetPacks += listOf(":{name}")`
in the app's `android` block, and this `build.gradle.kts`:

```kotlin
plugins {{ id("com.android.asset-pack") }}

assetPack {{
    packName.set("{name}")
    dynamicDelivery {{ deliveryType.set("install-time") }}
}}
```"""
_APPLE = """\
In the App Store, with Background Assets from iOS 26 and macOS 26 on: put these files into a
directory `{name}`, next to it this `Manifest.json`, and package both by `xcrun ba-package
Manifest.json -o {name}.aar`:

```json
{manifest}
```"""


def delivery(artifact: Artifact) -> Iterator[str]:
    """Paragraphs for the bundle's README. Neither store was tried."""
    name = pack_name(artifact)
    yield (
        "A store can deliver these files apart from your app, which then stays small and is "
        "updated without them. Written by the stores' documentation, and not tried in either."
    )
    if file_format(artifact.format).runs_anywhere:
        yield _PLAY.format(name=name)
    yield _APPLE.format(name=name, manifest=json.dumps(_manifest(name), indent=2))


def pack_name(artifact: Artifact) -> str:
    """The model's name as both stores take it: letters, digits and underscores, a letter first."""
    name = re.sub(r"[^a-z0-9]+", "_", artifact.model.name.lower()).strip("_")
    return name if name[:1].isalpha() else f"model_{name}".rstrip("_")


def _manifest(name: str) -> dict[str, object]:
    events = ["firstInstallation", "subsequentUpdate"]
    return {
        "assetPackID": name,
        "downloadPolicy": {"essential": {"installationEventTypes": events}},
        "fileSelectors": [{"directory": name}],
        "platforms": ["iOS", "macOS"],
    }
