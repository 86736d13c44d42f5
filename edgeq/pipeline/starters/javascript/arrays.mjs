// A model from arrays to arrays.
import { readBytes, Tensor } from "./platform.mjs";
import { openBundle, readJson } from "./session.mjs";

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int16: Int16Array,
  int8: Int8Array,
  uint64: BigUint64Array,
  uint32: Uint32Array,
  uint16: Uint16Array,
  uint8: Uint8Array,
  bool: Uint8Array,
};

export class Model {
  /** Open an unpacked bundle; `folder` is its URL, ending in a slash. */
  static async load(folder) {
    const { session } = await openBundle(folder);
    return new Model(session);
  }

  constructor(session) {
    this.session = session;
  }

  /** The output tensors by name; `inputs` are tensors by name. */
  run(inputs) {
    return this.session.run(inputs);
  }

  /** The outputs for the arrays of the self-test. */
  async answer() {
    const outputs = await this.run(await sample());
    const numbers = ([name, tensor]) => [name, Array.from(tensor.data, Number)];
    return { outputs: Object.fromEntries(Object.entries(outputs).map(numbers)) };
  }
}

/** The arrays in inputs/, by name. */
async function sample() {
  const folder = new URL("inputs/", import.meta.url);
  const described = await readJson(new URL("inputs.json", folder));
  const inputs = {};
  for (const [name, { file, dtype, shape }] of Object.entries(described)) {
    const bytes = Uint8Array.from(await readBytes(new URL(file, folder)));
    inputs[name] = new Tensor(dtype, new ARRAYS[dtype](bytes.buffer), shape);
  }
  return inputs;
}

/** Lines with the shape and first value of each output, for the arrays in inputs/. */
export async function show(model) {
  const outputs = Object.entries(await model.run(await sample()));
  return outputs.map(([name, { dims, data }]) => `${name}: ${dims.join(" ")}, first value ${data[0]}`);
}
