// What a browser gives: the runtime, files of the server, and no name of the CPU.
import { InferenceSession, Tensor } from "onnxruntime-web/wasm";

export { Tensor };
export const cpuName = () => null;

export async function readBytes(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${answer.statusText}`);
  return new Uint8Array(await answer.arrayBuffer());
}

/** Kernels of WebAssembly are the same on every CPU: the bundle's settings are for others. */
export function openSession(folder, artifact) {
  const stored = Object.keys(artifact.files).filter((name) => name.endsWith(".data"));
  const externalData = stored.map((path) => ({ path, data: new URL(path, folder).href }));
  return InferenceSession.create(new URL("model.onnx", folder).href, { externalData });
}
