// A bundle's record and its model, opened.
import { openSession, readBytes } from "./platform.mjs";

export const readJson = async (url) => JSON.parse(new TextDecoder().decode(await readBytes(url)));

/** folder: the URL of an unpacked bundle, ending in a slash. */
export async function openBundle(folder) {
  const { artifact, end_tokens: endTokens } = await readJson(new URL("bundle.json", folder));
  return { artifact, endTokens, session: await openSession(folder, artifact) };
}
