"""Recordings of a data set as the model's inputs, computed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core import canonical
from edgeq.core.artifact import ValueInfo
from edgeq.core.audio import AudioSettings
from edgeq.core.files import write_text
from edgeq.core.store import Store
from edgeq.core.terms import Progress
from edgeq.formats.audio import prepared_audio
from edgeq.pipeline.build.image_arrays import first_names, refuse_many
from edgeq.recipe import data_sets
from edgeq.recipe.file_sets import (
    PREPARED_ARRAYS,
    PREPARED_RECORD,
    TRANSCRIPTS_FILE,
    PreparedFiles,
)
from edgeq.recipe.transcripts import has_transcripts, read_transcripts


def prepared_recordings(
    folder: Path,
    samples: int | None,
    settings: AudioSettings,
    value: ValueInfo,
    store: Store,
    progress: Progress,
) -> Path:
    """A directory with the inputs of the recordings in `folder`, and their names and texts.

    value: the model's input. Raises InvalidInput for what cannot be read.
    """
    recordings = data_sets.chosen_files(folder, samples)
    refuse_many(folder, len(recordings), settings.shape, value)
    digests = [canonical.sha256_of_file(each.path) for each in recordings]
    has_texts = has_transcripts(folder)
    key = {
        "recordings": [[each.name, own] for each, own in zip(recordings, digests, strict=True)],
        "settings": settings.model_dump(mode="json"),
        "input": value.model_dump(mode="json"),
        "texts": canonical.sha256_of_file(folder / TRANSCRIPTS_FILE) if has_texts else None,
    }

    def make(destination: Path) -> None:
        progress(f"prepare {len(recordings)} recordings")
        rows = [prepared_audio(e.path, settings, value, str(e.path))[0] for e in recordings]
        inputs: dict[str, Any] = {value.name: np.stack(rows)}
        np.savez(destination / PREPARED_ARRAYS, **inputs)
        record = PreparedFiles(
            names=first_names(recordings, digests),
            labels=None,
            texts=read_transcripts(folder, recordings) if has_texts else None,
        )
        content = canonical.to_json(record.model_dump(mode="json"))
        write_text(destination / PREPARED_RECORD, content)

    return store.stage("recordings", key, make, describe=folder.name)
