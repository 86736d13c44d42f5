// node main.mjs "a text" "another"
import { Model, show } from "./model.mjs";

const model = await Model.load(new URL("bundle/", import.meta.url));
for (const line of await show(model, process.argv.slice(2))) console.log(line);
