"""Take each model through edgeq and onnxruntime's tools, and print the table."""

from __future__ import annotations

import argparse
import json
import subprocess
from dataclasses import asdict
from pathlib import Path

from benchmarks.zoo.chain import by_edgeq, formats_in
from benchmarks.zoo.inputs import NotHere
from benchmarks.zoo.measure import feeds_of, measured, runs, session
from benchmarks.zoo.models import MODELS, ZooModel
from benchmarks.zoo.page import page
from benchmarks.zoo.peers import make_peers
from benchmarks.zoo.prepare import install, prepare
from benchmarks.zoo.rows import Row

SUPPORT = ("scikit-learn==1.7.2",)  # its two photographs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument("folder", type=Path, help="where packages and results are kept")
    parser.add_argument("models", nargs="*", help=f"of {', '.join(MODELS)}; default: all")
    parser.add_argument("--page", type=Path, help="write the table to this Markdown file")
    given = parser.parse_args()
    for name in given.models or MODELS:
        kept = given.folder / name / "rows.json"
        if not kept.exists() or given.models:
            rows = rows_of(MODELS[name], given.folder)
            found = {"edgeq": version(), "rows": [asdict(row) for row in rows]}
            kept.write_text(json.dumps(found, indent=1))
        for row in json.loads(kept.read_text())["rows"]:
            print(*(f"{key}={value}" for key, value in row.items() if value not in (None, "")))
    if given.page:
        kept_all = [json.loads(path.read_text()) for path in given.folder.glob("*/rows.json")]
        all_rows = [Row(**row) for each in kept_all for row in each["rows"]]
        versions = sorted({each["edgeq"] for each in kept_all})
        formats = {name: formats_in(given.folder / name / "build.txt") for name in MODELS}
        given.page.write_text(page(all_rows, MODELS, versions, formats), encoding="utf-8")


def version() -> str:
    """The commit of the code that quantizes."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def rows_of(model: ZooModel, folder: Path) -> list[Row]:
    """The table's rows of one model."""
    packages, own = folder / "packages", folder / model.name
    own.mkdir(parents=True, exist_ok=True)
    for package in (*SUPPORT, model.package):
        install(package, packages)
    try:
        original = prepare(model, packages, own)
    except NotHere as missing:
        return [Row(model.name, "all", note=f"not run: {missing}")]
    steps, made = by_edgeq(own, folder)
    files: dict[str, Path | str] = {"float": original, **made}
    seen = runs(model, session(original), feeds_of(own / "calibration.npz"))
    files |= make_peers(original, [feed for feed, _ in seen], own)
    rows = measured(model, files, own)
    return [*rows, *(Row(model.name, "edgeq", note=step) for step in steps)]


if __name__ == "__main__":
    main()
