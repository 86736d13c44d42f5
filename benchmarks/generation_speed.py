"""How fast a language model's files of edgeq read and write, compared with other runners of them.

    python benchmarks/generation_speed.py ONNX_ARTIFACT GGUF_ARTIFACT [--threads 1] [--rounds 12]

A prompt of 128 tokens, then 64 tokens one at a time, each the likeliest. Runners: edgeq on both
files; onnxruntime-genai on the ONNX one and llama-cpp-python on the GGUF one, where they are
installed (EDGEQ_LLAMA=llama_cpp has edgeq use that build of llama.cpp, too). Each is a process
of its own, and they take turns; speeds are of the median times, ratios of the fastest on a file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np

PROMPT, GENERATED, CONTEXT = 128, 64, 256
Text = Callable[[], Iterator[None]]
"""Reads the prompt up to the first yield, and writes a token up to each of the next."""


def by_edgeq(path: Path, threads: int) -> Text:
    """edgeq's own runner."""
    import edgeq
    from edgeq import LanguageModel

    model = edgeq.load(path, threads=threads, context=CONTEXT)
    assert isinstance(model, LanguageModel)
    prompt = np.arange(3, 3 + PROMPT, dtype=np.int32)

    def text() -> Iterator[None]:
        token = int(model.prefill(prompt).argmax())
        yield
        for _ in range(GENERATED):
            token = int(model.step(token).argmax())
            yield

    return text


def by_genai(path: Path, threads: int) -> Text:
    """onnxruntime-genai, which opens the artifact's directory."""
    import onnxruntime_genai as og

    config = og.Config(str(path))
    options = {"session_options": {"intra_op_num_threads": threads}}
    config.overlay(json.dumps({"model": {"decoder": options}}))
    model = og.Model(config)
    params = og.GeneratorParams(model)
    length = PROMPT + GENERATED + 1
    params.set_search_options(max_length=length, min_length=length, do_sample=False)

    def text() -> Iterator[None]:
        generator = og.Generator(model, params)
        generator.append_tokens(list(range(3, 3 + PROMPT)))
        generator.generate_next_token()
        yield
        for _ in range(GENERATED):
            generator.generate_next_token()
            yield

    return text


def by_llama_cpp(path: Path, threads: int) -> Text:
    """llama-cpp-python."""
    from llama_cpp import Llama

    (file,) = path.glob("*.gguf")
    model = Llama(
        str(file), n_ctx=CONTEXT, n_threads=threads, n_threads_batch=threads, verbose=False
    )

    def text() -> Iterator[None]:
        model.reset()
        model.eval(list(range(3, 3 + PROMPT)))
        token = model.sample(temp=0.0)
        yield
        for _ in range(GENERATED):
            model.eval([token])
            token = model.sample(temp=0.0)
            yield

    return text


RUNNERS = {"edgeq": by_edgeq, "onnxruntime-genai": by_genai, "llama-cpp-python": by_llama_cpp}


def serve(runner: str, path: Path, threads: int) -> None:
    """Print seconds of a prompt and of each token for every line that comes in."""
    text = RUNNERS[runner](path, threads)
    print(json.dumps("ready"), flush=True)
    for _ in sys.stdin:
        times = [time.perf_counter()]
        times += [time.perf_counter() for _ in text()]
        print(json.dumps(np.diff(times).tolist()), flush=True)


class Runner:
    """A process that serves; `found` is empty if its package is not installed."""

    def __init__(self, name: str, path: Path, threads: int) -> None:
        self.name, self.path = name, path
        command = [sys.executable, __file__, "--serve", name, str(path), "--threads", str(threads)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.is_there = bool(self._process.stdout.readline())
        self.times: list[list[float]] = []

    def take_turn(self) -> list[float]:
        """Seconds of a prompt, and of each token."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: list[float] = json.loads(self._process.stdout.readline())
        return found

    def end(self) -> str:
        """End the process; the last line of what it complained of."""
        errors = self._process.communicate()[1].strip().splitlines()
        return errors[-1] if errors else ""

    @property
    def speeds(self) -> tuple[float, float]:
        """Tokens per second of a prompt and of generation."""
        prompts = median(row[0] for row in self.times)
        return PROMPT / prompts, 1 / median(second for row in self.times for second in row[1:])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifacts", nargs="+", type=Path, help="of ONNX, and of GGUF")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--serve", choices=RUNNERS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.artifacts[0], given.threads)
        return
    for path in given.artifacts:
        other = "llama-cpp-python" if list(path.glob("*.gguf")) else "onnxruntime-genai"
        runners = [Runner(name, path, given.threads) for name in ("edgeq", other)]
        present = [runner for runner in runners if runner.is_there]
        for number in range(given.rounds + 1):
            for runner in present if number % 2 else reversed(present):
                times = runner.take_turn()
                runner.times += [times] if number else []  # the first one warms up
        best = [max(speeds) for speeds in zip(*(each.speeds for each in present), strict=True)]
        for runner in runners:
            complaint = runner.end()
            if not runner.is_there:
                print(f"{path.name}, {runner.name}: not run: {complaint}")
                continue
            shown = "; ".join(
                f"{word} {speed:.1f} tok/s, {speed / most:.2f} of the fastest"
                for word, speed, most in zip(
                    ("prompt", "generation"), runner.speeds, best, strict=True
                )
            )
            print(f"{path.name}, {runner.name}: {shown}")


if __name__ == "__main__":
    main()
