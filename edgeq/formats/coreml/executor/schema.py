"""The protocol-buffer classes of Core ML files, without the rest of coremltools.

`import coremltools` loads converters, looks for libraries that only macOS has and prints warnings
about versions of torch and scikit-learn, none of which a reader of files needs. The generated
classes depend on protobuf alone. So only their folder is loaded, as a package under a separate
name; a process that also imports coremltools has both, without interference.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeq.core.errors import missing_extra

_PACKAGE = "_edgeq_coreml_schema"


@cache
def messages() -> Any:
    """The module with the message class `Model`; its field `mlProgram` holds a whole program.

    Missing if coremltools is not installed.
    """
    found = importlib.util.find_spec("coremltools")
    if found is None or found.origin is None:
        raise missing_extra("coremltools", "coreml", "read Core ML packages")
    package = ModuleType(_PACKAGE)
    package.__path__ = [str(Path(found.origin).parent / "proto")]
    sys.modules[_PACKAGE] = package
    return importlib.import_module(f"{_PACKAGE}.Model_pb2")
