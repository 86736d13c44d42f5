// A text classifier: a text gets a probability for each label.
import { TextModel } from "./text.mjs";

export class Model extends TextModel {
  /** The probability of each label. */
  async classify(text) {
    return this.probabilities(await this.run(this.tokens(text)));
  }

  probabilities(scores) {
    const { labels, function: name } = this.artifact.classes;
    const largest = Math.max(...scores);
    const powers = Array.from(scores, (score) => Math.exp(score - largest));
    const sum = powers.reduce((total, power) => total + power, 0);
    const functions = {
      softmax: (i) => powers[i] / sum,
      sigmoid: (i) => 1 / (1 + Math.exp(-scores[i])),
      none: (i) => scores[i],
    };
    const of = functions[name];
    return Object.fromEntries(labels.map((label, i) => [label, of(i)]));
  }

  /** The labels that a text gets: the likeliest, or each above one half where it can have several. */
  labels(probabilities) {
    const { labels, function: name } = this.artifact.classes;
    if (name === "sigmoid") return labels.filter((label) => probabilities[label] >= 0.5);
    return [labels.reduce((a, b) => (probabilities[b] > probabilities[a] ? b : a))];
  }

  /** The token ids, outputs and labels of one case of the self-test. */
  async answer({ text }) {
    const tokens = this.tokens(text);
    const scores = await this.run(tokens);
    const labels = this.labels(this.probabilities(scores));
    return { tokens, outputs: { [this.output]: scores }, labels };
  }
}

/** Lines with the probability of each label, for each text. */
export async function show(model, texts) {
  const lines = [];
  for (const text of texts) {
    const found = Object.entries(await model.classify(text));
    lines.push(text, ...found.map(([label, share]) => `  ${share.toFixed(4)} ${label}`));
  }
  return lines;
}
