"""The starter for Node.js: onnxruntime-node, and a tokenizer in JavaScript."""

from __future__ import annotations

import json

from edgeq.core.artifact import MODEL_FILE, Artifact
from edgeq.core.tasks import task_of

PACKAGES = {"onnxruntime-node": "1.30.0"}
TOKENIZER_PACKAGES = {"@huggingface/tokenizers": "0.2.0"}

_OPENING = """\
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { arch } from "node:os";
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
"""
_SESSION = """
const readJson = async (folder, name) => JSON.parse(await readFile(join(folder, name), "utf8"));

/** Which of the bundle's session settings this CPU needs for exact kernels. */
function cpuClass() {
  if (arch() === "arm64") return "aarch64";
  try {
    const flags = readFileSync("/proc/cpuinfo", "utf8");
    if (/\\b(avx512_vnni|avx_vnni)\\b/.test(flags)) return "";
  } catch {
    // Not Linux: the exact kernels run on every CPU, a little slower on some.
  }
  return "x86_64-without-vnni";
}

async function openSession(folder, artifact) {
  const extra = {};
  const entries = artifact.settings.session_by_cpu?.[cpuClass()] ?? {};
  for (const [key, value] of Object.entries(entries)) {
    const [group, name] = key.split(".");
    (extra[group] ??= {})[name] = value;
  }
  return InferenceSession.create(join(folder, "model.onnx"), { extra });
}
"""
_ENCODER = """
/** A sentence encoder: a text becomes one vector. */
export class Model {
  /** Open an unpacked bundle. */
  static async load(folder) {
    const { artifact } = await readJson(folder, "bundle.json");
    const tokenizer = new Tokenizer(await readJson(folder, "tokenizer.json"), {});
    return new Model(artifact, tokenizer, await openSession(folder, artifact));
  }

  constructor(artifact, tokenizer, session) {
    Object.assign(this, { text: artifact.text, tokenizer, session });
    this.output = artifact.outputs[0].name;
  }

  /** Token ids of a text, cut as the check cut it. */
  tokens(text) {
    const ids = this.tokenizer.encode(text).ids;
    const most = this.text.max_tokens;
    if (ids.length <= most) return ids;
    // Special tokens behind the text stay.
    const plain = this.tokenizer.encode(text, { add_special_tokens: false }).ids;
    const begin = ids.findIndex((_, i) => plain.every((id, j) => id === ids[i + j]));
    const after = ids.length - begin - plain.length;
    return [...ids.slice(0, most - after), ...ids.slice(ids.length - after)];
  }

  /** A text with a prompt in front of it, by a name of the model's prompts. */
  prompted(text, prompt = this.text.default_prompt) {
    const front = prompt == null ? "" : this.text.prompts[prompt];
    if (front === undefined) throw new Error(`the model has no prompt ${prompt}`);
    return front + text;
  }

  /** One Float32Array for each text. `prompt` is a name of the model's prompts. */
  async embed(texts, prompt = this.text.default_prompt) {
    const vectors = [];
    for (const text of texts) {
      vectors.push(await this.#vector(this.tokens(this.prompted(text, prompt))));
    }
    return vectors;
  }

  async #vector(ids) {
    const shape = [1, ids.length];
    const row = (values) => new Tensor("int64", BigInt64Array.from(values, BigInt), shape);
    const all = {
      input_ids: row(ids),
      attention_mask: row(ids.map(() => 1)),
      token_type_ids: row(ids.map(() => 0)),
    };
    const feeds = Object.fromEntries(this.session.inputNames.map((name) => [name, all[name]]));
    return (await this.session.run(feeds))[this.output].data;
  }

  /** The token ids and outputs of one case of the self-test. */
  async answer({ text }) {
    const [vector] = await this.embed([text]);
    return { tokens: this.tokens(this.prompted(text)), outputs: { [this.output]: vector } };
  }
}
"""
_SELFTEST = """\
// Proves that this program gives the answers that were checked: node selftest.mjs
import { readFile } from "node:fs/promises";
import { cpus } from "node:os";
import { Model } from "./model.mjs";

const folder = process.argv[2] ?? new URL("bundle", import.meta.url).pathname;
const test = JSON.parse(await readFile(`${folder}/selftest.json`, "utf8"));
const isSame = cpus()[0].model === test.cpu;
const most = isSame ? test.largest_distance_same_cpu : test.largest_distance_other_cpu;

/** Length of the difference over the length of the listed values. */
function distance(expected, got) {
  let [difference, length] = [0, 0];
  expected.at.forEach((at, i) => {
    difference += (got[at] - expected.values[i]) ** 2;
    length += expected.values[i] ** 2;
  });
  return Math.sqrt(difference / length);
}

const model = await Model.load(folder);
let failures = 0;
for (const [number, wanted] of test.cases.entries()) {
  const { tokens, outputs } = await model.answer(wanted);
  const sameTokens = String(tokens) === String(wanted.token_ids);
  const gaps = wanted.outputs.map((each) => distance(each, outputs[each.name]));
  const passes = sameTokens && gaps.every((gap) => gap <= most);
  failures += !passes;
  const ids = sameTokens ? "same token ids" : "OTHER TOKEN IDS";
  const gap = Math.max(...gaps).toExponential(1);
  const verdict = passes ? "pass" : "FAIL";
  console.log(`case ${number + 1}: ${verdict}, ${ids}, distance ${gap} (at most ${most})`);
}
process.exitCode = failures ? 1 : 0;
"""
_MAIN = """\
// node main.mjs "a text" "another": how similar each text is to the first.
import { Model } from "./model.mjs";

const texts = process.argv.slice(2);
const model = await Model.load(new URL("bundle", import.meta.url).pathname);
const [first, ...others] = await model.embed(texts);
const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const cosine = (a, b) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
others.forEach((vector, i) => console.log(cosine(first, vector).toFixed(4), texts[i + 1]));
"""
_README = """\
# {name} in Node.js

    npm install
    node selftest.mjs
    node main.mjs "how do I reset my password" "steps to change a login" "rain tomorrow"

`bundle/` is the bundle, unpacked; its README says what the model takes and gives. `model.mjs` is
yours to change: after a change, run the self-test.
"""


def runs(artifact: Artifact) -> bool:
    """Whether this starter can run the artifact: sentence encoders only."""
    return MODEL_FILE in artifact.files and task_of(artifact.task).embeds


def files(artifact: Artifact, name: str, arrays: bytes | None) -> dict[str, bytes]:
    """Files of a program that embeds texts, by name."""
    texts = {
        "package.json": _package(name, {**PACKAGES, **TOKENIZER_PACKAGES}),
        "model.mjs": _OPENING
        + 'import { Tokenizer } from "@huggingface/tokenizers";\n'
        + _SESSION
        + _ENCODER,
        "selftest.mjs": _SELFTEST,
        "main.mjs": _MAIN,
        "README.md": _README.format(name=name),
    }
    return {file: text.encode() for file, text in texts.items()}


def _package(name: str, packages: dict[str, str]) -> str:
    content = {
        "name": name,
        "private": True,
        "type": "module",
        "engines": {"node": ">=20"},
        "scripts": {"selftest": "node selftest.mjs"},
        "dependencies": packages,
    }
    return json.dumps(content, indent=2) + "\n"
