"""Every test run keeps to its own cache: nothing is left in, or taken from, the user's."""

import os
import tempfile

# Before any test module starts a process of its own.
_CACHE = tempfile.TemporaryDirectory(prefix="edgeq-tests-", ignore_cleanup_errors=True)
os.environ["EDGEQ_CACHE"] = _CACHE.name
