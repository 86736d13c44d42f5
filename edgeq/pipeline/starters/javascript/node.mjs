// What Node.js gives: the runtime, files, and the CPU.
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { arch, cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { InferenceSession, Tensor } from "onnxruntime-node";

export { Tensor };
export const readBytes = (url) => readFile(url);
export const cpuName = () => cpus()[0].model;

/** Which of the bundle's session settings this CPU needs for exact kernels. */
function cpuClass() {
  if (arch() === "arm64") return "aarch64";
  try {
    const flags = readFileSync("/proc/cpuinfo", "utf8");
    if (/\b(avx512_vnni|avx_vnni)\b/.test(flags)) return "";
  } catch {
    // Not Linux: the exact kernels run on every CPU, a little slower on some.
  }
  return "x86_64-without-vnni";
}

export function openSession(folder, artifact) {
  const extra = {};
  const entries = artifact.settings.session_by_cpu?.[cpuClass()] ?? {};
  for (const [key, value] of Object.entries(entries)) {
    const [group, name] = key.split(".");
    (extra[group] ??= {})[name] = value;
  }
  return InferenceSession.create(fileURLToPath(new URL("model.onnx", folder)), { extra });
}
