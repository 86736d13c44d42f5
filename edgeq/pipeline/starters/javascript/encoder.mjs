// A sentence encoder: a text becomes one vector.
import { TextModel } from "./text.mjs";

export class Model extends TextModel {
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
      vectors.push(await this.run(this.tokens(this.prompted(text, prompt))));
    }
    return vectors;
  }

  idsOf(text) {
    return this.tokens(this.prompted(text));
  }

  /** The token ids and outputs of one case of the self-test. */
  async answer({ text }) {
    const [vector] = await this.embed([text]);
    return { tokens: this.idsOf(text), outputs: { [this.output]: vector } };
  }
}

/** Lines that say how similar each text is to the first. */
export async function show(model, texts) {
  const [first, ...others] = await model.embed(texts);
  const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  const cosine = (a, b) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  return others.map((vector, i) => `${cosine(first, vector).toFixed(4)} ${texts[i + 1]}`);
}
