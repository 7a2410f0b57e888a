// Asks a server as programs in JavaScript do; prints what it got as JSON.
// node clients.mjs URL DESCRIPTORS PROMPT SYMBOLS SEED
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { readFileSync } from "node:fs";
import OpenAI from "openai";

const [url, descriptors, prompt, symbols, seed] = process.argv.slice(2);
const files = fromBinary(FileDescriptorSetSchema, readFileSync(descriptors));
const service = createFileRegistry(files).getService("unroll.v1.TextGenerationService");
const asked = { prompt, maxNewSymbols: Number(symbols), seed: BigInt(seed) };
const endless = { prompt, maxNewSymbols: 65536 };

async function codeOf(call) {
  try {
    await call();
    return "none";
  } catch (error) {
    const { code, details } = ConnectError.from(error);
    return [Code[code], ...details.map((each) => each.type)];
  }
}

async function connect(useBinaryFormat) {
  const transport = createConnectTransport({ baseUrl: url, httpVersion: "1.1", useBinaryFormat });
  const client = createClient(service, transport);
  const streamed = async (request, options) => {
    let text = "";
    for await (const piece of client.streamGenerate(request, options)) text += piece.text;
    return text;
  };
  const told = {
    whole: (await client.generate(asked)).text,
    streamed: await streamed(asked),
    refused: await codeOf(() => client.generate({ prompt: "X" })),
    late: await codeOf(() => client.generate(endless, { timeoutMs: 100 })),
    cut: await codeOf(() => streamed(endless, { timeoutMs: 100 })),
  };
  const leaving = new AbortController(); // from Node 24 on, `break` reads the rest instead
  told.left = await codeOf(async () => {
    const stream = client.streamGenerate(endless, { signal: leaving.signal });
    for await (const _ of stream) leaving.abort();
  });
  return told;
}

async function openai() {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
  const request = { model: "small", prompt, max_tokens: Number(symbols), seed: Number(seed) };
  const whole = await client.completions.create(request);
  let text = "";
  for await (const piece of await client.completions.create({ ...request, stream: true }))
    text += piece.choices[0].text;
  const refused = await client.completions
    .create({ ...request, prompt: "X" })
    .catch((error) => [error.constructor.name, error.status, error.param, error.code]);
  return { whole: whole.choices[0].text, streamed: text, refused };
}

console.log(
  JSON.stringify({ binary: await connect(true), json: await connect(false), openai: await openai() }),
);
