// A model of texts: token ids go in, one text at a time.
import { Tokenizer } from "@huggingface/tokenizers";
import { Tensor } from "./platform.mjs";
import { openBundle, readJson } from "./session.mjs";

export class TextModel {
  /** Open an unpacked bundle; `folder` is its URL, ending in a slash. */
  static async load(folder) {
    const tokenizer = new Tokenizer(await readJson(new URL("tokenizer.json", folder)), {});
    return new this({ ...(await openBundle(folder)), tokenizer });
  }

  constructor({ artifact, session, tokenizer }) {
    Object.assign(this, { artifact, text: artifact.text, tokenizer, session });
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

  /** Token ids of a text as the self-test has them. */
  idsOf(text) {
    return this.tokens(text);
  }

  /** The model's answer to token ids. No padding: it would change the answer. */
  async run(ids) {
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
}
