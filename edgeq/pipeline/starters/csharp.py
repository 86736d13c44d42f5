"""The starter in C#: Microsoft.ML.OnnxRuntime, and Hugging Face's tokenizers for texts.

Its files are in the folder `csharp` next to this module.
"""

from __future__ import annotations

from edgeq.core.artifact import Artifact
from edgeq.pipeline.starters.kinds import DTYPES, Kind, dtypes_of, kind_of, source, unpacked

_MODELS: dict[Kind, str] = {
    "encoder": "Encoder.cs",
    "classifier": "Classifier.cs",
    "arrays": "Arrays.cs",
    "decoder": "Decoder.cs",
}
_EXAMPLES: dict[Kind, str] = {
    "encoder": ' -- "how do I reset my password" "steps to change a login" "rain tomorrow"',
    "classifier": ' -- "it works well" "it broke on the first day"',
    "arrays": "",
    "decoder": ' -- "It was"',
}
_SHARED = ("Program.cs", "Session.cs", "SelfTest.cs")
_TOKENIZERS = '    <PackageReference Include="Tokenizers.HuggingFace" Version="3.23.1" />\n'
_PROJECT = """\
<Project Sdk="Microsoft.NET.Sdk">
  <PropertyGroup>
    <OutputType>Exe</OutputType>
    <TargetFramework>net8.0</TargetFramework>
    <Nullable>enable</Nullable>
  </PropertyGroup>
  <ItemGroup>
    <PackageReference Include="Microsoft.ML.OnnxRuntime" Version="1.31.1" />
{tokenizers}  </ItemGroup>
</Project>
"""
_README = """\
# {name} in C#

With the [.NET SDK](https://dotnet.microsoft.com/download), 8 or later:

    dotnet run{example}

The program runs the bundle's self-test, then the model. `bundle/` is the bundle, unpacked; its
README says what the model takes and gives. `Model.cs` is yours to change: after a change, look at
the self-test.
{tokenizer}
Tested: compiled and run on Linux with Microsoft.ML.OnnxRuntime's own sources{stand_in}. Not tested
with packages from NuGet.
"""
_TOKENIZER = """
Texts are cut into tokens by Hugging Face's tokenizers, the library that the check used, in the
binding Tokenizers.HuggingFace.
"""
_STAND_IN = ", and with a stand-in for\nTokenizers.HuggingFace that asks the same library"


def runs(artifact: Artifact) -> bool:
    """Whether this starter can run the artifact."""
    kind = kind_of(artifact)
    return kind in _MODELS and (kind != "arrays" or dtypes_of(artifact) <= DTYPES)


def files(artifact: Artifact, name: str, arrays: bytes | None) -> dict[str, bytes]:
    """Files of the program, by name. arrays: the self-test's `.npz`, for a model of arrays."""
    kind = kind_of(artifact)
    assert kind is not None  # the caller asks first
    has_texts = arrays is None
    shared = (*_SHARED, "Text.cs") if kind in ("encoder", "classifier") else _SHARED
    readme = _README.format(
        name=name,
        example=_EXAMPLES[kind],
        tokenizer=_TOKENIZER if has_texts else "",
        stand_in=_STAND_IN if has_texts else "",
    )
    return {
        **{file: source("csharp", file) for file in shared},
        "Model.cs": source("csharp", _MODELS[kind]),
        "Starter.csproj": _PROJECT.format(tokenizers=_TOKENIZERS if has_texts else "").encode(),
        "README.md": readme.encode(),
        **({} if arrays is None else unpacked(arrays)),
    }
