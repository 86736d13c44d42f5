// node serve.mjs [port]: serves this folder to browsers on this machine.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";

const TYPES = { ".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm" };
const root = new URL(".", import.meta.url);

const server = createServer(async (request, answer) => {
  const { pathname } = new URL(request.url, "http://localhost");
  const name = pathname === "/" ? "index.html" : pathname.slice(1);
  try {
    const content = await readFile(new URL(`./${name}`, root));
    answer.writeHead(200, {
      "Content-Type": TYPES[extname(name)] ?? "application/octet-stream",
      // A page apart from all others may use several threads.
      "Cross-Origin-Opener-Policy": "same-origin",
      "Cross-Origin-Embedder-Policy": "require-corp",
    });
    answer.end(content);
  } catch {
    answer.writeHead(404).end();
  }
});
server.listen(Number(process.argv[2] ?? 8000), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}/`);
});
