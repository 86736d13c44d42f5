// A language model: it continues a text, token by token.
import { Tokenizer } from "@huggingface/tokenizers";
import { Tensor } from "./platform.mjs";
import { openBundle, readJson } from "./session.mjs";

const AT_ONCE = 512; // tokens in one run: attention takes memory for each of them

const integers = (values, shape) => new Tensor("int64", BigInt64Array.from(values, BigInt), shape);

export class Model {
  /**
   * Open an unpacked bundle; `folder` is its URL, ending in a slash. `context`: the most tokens of a
   * text with its continuation.
   */
  static async load(folder, context = 2048) {
    const tokenizer = new Tokenizer(await readJson(new URL("tokenizer.json", folder)), {});
    return new this({ ...(await openBundle(folder)), tokenizer, context });
  }

  constructor({ artifact, endTokens, session, tokenizer, context }) {
    this.context = Math.min(context, artifact.text.max_tokens);
    Object.assign(this, { session, tokenizer, endTokens: new Set(endTokens) });
    this.caches = artifact.inputs
      .filter(({ name }) => name.startsWith("past_key_values."))
      .map(({ name, shape }) => ({
        past: name,
        present: name.replace("past_key_values", "present"),
        shape: shape.map((size) => (Number.isInteger(size) ? size : this.context)),
      }));
    this.clear();
  }

  /** Forget the text that was read. */
  clear() {
    this.position = 0;
    this.kept = this.caches.map(({ shape }) => {
      const size = shape.reduce((product, each) => product * each, 1);
      return new Tensor("float32", new Float32Array(size), shape);
    });
  }

  /** Token ids of a text, with the special tokens that precede one. */
  tokens(text) {
    return this.tokenizer.encode(text).ids;
  }

  /** The scores of the token that follows `ids`, which are read behind what was read before. */
  async append(ids) {
    if (ids.length === 0 || this.position + ids.length > this.context) {
      throw new Error(`${ids.length} tokens are none, or do not fit into ${this.context}`);
    }
    let scores;
    for (let begin = 0; begin < ids.length; begin += AT_ONCE) {
      scores = await this.run(ids.slice(begin, begin + AT_ONCE));
    }
    return scores;
  }

  async run(ids) {
    const feeds = {
      input_ids: integers(ids, [1, ids.length]),
      past_length: integers([this.position], [1]),
      logits_to_keep: integers([1], [1]),
    };
    const fetches = { logits: null };
    this.caches.forEach(({ past, present }, i) => {
      // One memory for both: the runtime writes new keys and values where the old ones are.
      feeds[past] = fetches[present] = this.kept[i];
    });
    const found = await this.session.run(feeds, fetches);
    this.kept = this.caches.map(({ present }) => found[present]);
    this.position += ids.length;
    return found.logits.data;
  }

  /** The likeliest continuation of a prompt, in pieces, until an end token or `most` tokens. */
  async *generate(prompt, most = 64) {
    this.clear();
    let ids = this.tokens(prompt);
    // A token's text depends on those before it: a space may begin it or not.
    let recent = ids.slice(-4);
    let shown = recent.length;
    const letters = (tokens) => [...this.tokenizer.decode(tokens, { skip_special_tokens: true })];
    for (; most > 0 && this.position + ids.length <= this.context; most--) {
      const scores = await this.append(ids);
      const next = scores.reduce((best, score, id) => (score > scores[best] ? id : best), 0);
      if (this.endTokens.has(next)) return;
      ids = [next];
      recent.push(next);
      const before = letters(recent.slice(0, shown));
      const whole = letters(recent);
      // The bytes of a character may come in several tokens.
      if (whole.length > before.length && whole.at(-1) !== "\ufffd") {
        yield whole.slice(before.length).join("");
        recent = recent.slice(shown);
        shown = recent.length;
      }
    }
  }

  idsOf(text) {
    return this.tokens(text);
  }

  /** The token ids of one case of the self-test, and the scores of the token after them. */
  async answer({ text }) {
    const tokens = this.tokens(text);
    this.clear();
    return { tokens, outputs: { logits: await this.append(tokens) } };
  }
}

/** Every text with its continuation. */
export async function show(model, texts) {
  const lines = [];
  for (const text of texts) {
    let line = text;
    for await (const piece of model.generate(text)) line += piece;
    lines.push(line);
  }
  return lines;
}
