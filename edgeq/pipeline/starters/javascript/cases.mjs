// Proves that this program gives the answers that were checked.
import { Model } from "./model.mjs";
import { cpuName } from "./platform.mjs";
import { readJson } from "./session.mjs";

/** Length of the difference over the length of the listed values. */
function distance(expected, got) {
  let [difference, length] = [0, 0];
  expected.at.forEach((at, i) => {
    difference += (got[at] - expected.values[i]) ** 2;
    length += expected.values[i] ** 2;
  });
  return difference === 0 ? 0 : Math.sqrt(difference / length);
}

const isSame = (wanted, got) => wanted == null || String(got) === String(wanted);

/** Run the bundle's self-test; `say` gets a line for each case. Returns the number of failures. */
export async function selftest(folder, say) {
  const test = await readJson(new URL("selftest.json", folder));
  const isSameCpu = cpuName() === test.cpu;
  const most = isSameCpu ? test.largest_distance_same_cpu : test.largest_distance_other_cpu;
  const model = await Model.load(folder);
  let failures = 0;
  for (const [number, wanted] of test.cases.entries()) {
    const begin = performance.now();
    const { tokens, outputs, labels } = await model.answer(wanted);
    const took = (performance.now() - begin).toFixed(1);
    const gap = Math.max(...wanted.outputs.map((each) => distance(each, outputs[each.name])));
    const others = [
      isSame(wanted.token_ids, tokens) ? "" : "OTHER TOKEN IDS, ",
      isSame(wanted.labels, labels) ? "" : "OTHER LABELS, ",
    ].join("");
    const passes = gap <= most && others === "";
    failures += !passes;
    const verdict = passes ? "pass" : "FAIL";
    const far = `distance ${gap.toExponential(1)} (at most ${most})`;
    say(`case ${number + 1}: ${verdict}, ${others}${far}, ${took} ms`);
  }
  const differing = (texts) =>
    texts.filter(({ text, token_ids }) => !isSame(token_ids, model.idsOf(text)));
  const shown = ({ text }) => JSON.stringify(text.slice(0, 40));
  const ordinary = differing(test.ordinary_texts ?? []);
  const odd = differing(test.odd_texts ?? []);
  for (const each of ordinary) say(`FAIL, OTHER TOKEN IDS than those checked: ${shown(each)}`);
  for (const each of odd) say(`note: other token ids than those checked: ${shown(each)}`);
  return failures + ordinary.length;
}
