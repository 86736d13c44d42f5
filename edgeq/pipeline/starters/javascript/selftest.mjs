// node selftest.mjs
import { selftest } from "./cases.mjs";

process.exitCode = (await selftest(new URL("bundle/", import.meta.url), console.log)) ? 1 : 0;
