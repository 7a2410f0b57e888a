// The server's methods in the Connect protocol, as JSON. The page has no other way to the server.

import { LABELS } from "./labels.js";
import { ofTab } from "../storage.js";

const SERVICE = "unroll.v1.TextGenerationService/";
const TOKEN = "unroll.token";
const END = 2; // the flag of the last envelope
const CALL_MS = 60_000;

/** An error in the server's own words, but for a field's name, which is the page's. */
export class ServerError extends Error {
  constructor(code, message, details = []) {
    const find = (name) => details.find((each) => each.type.endsWith(name))?.debug;
    const field = find("BadRequest")?.fieldViolations?.[0]?.field ?? "";
    super(LABELS[field] ? message.replace(`${field}:`, `${LABELS[field]}:`) : message);
    this.code = code;
    this.reason = find("ErrorInfo")?.reason ?? "";
    this.field = field;
  }
}

export const keepToken = (token) => ofTab.setItem(TOKEN, token);
export const hasToken = () => Boolean(ofTab.getItem(TOKEN));

function headers(media) {
  const token = ofTab.getItem(TOKEN);
  return { "content-type": media, ...(token ? { authorization: `Bearer ${token}` } : {}) };
}

async function post(method, media, body, signal) {
  const request = { method: "POST", headers: headers(media), body, signal };
  try {
    return await fetch(SERVICE + method, request);
  } catch (error) {
    throw translated(error, signal);
  }
}

function translated(error, signal) {
  if (error.name === "TimeoutError") {
    return new ServerError("timeout", `The server has not answered within ${CALL_MS / 1000} s.`);
  }
  if (signal?.aborted) return error;
  return new ServerError("unreachable", "The connection to the server broke, or there is no server.");
}

async function refusal(response) {
  const text = await response.text();
  try {
    const told = JSON.parse(text);
    return new ServerError(told.code, told.message, told.details);
  } catch {
    return new ServerError("unknown", text || `The server answered ${response.status}.`);
  }
}

/** Call a unary method; returns its answer. */
export async function call(method, body) {
  const signal = AbortSignal.timeout(CALL_MS);
  const response = await post(method, "application/json", JSON.stringify(body), signal);
  if (!response.ok) throw await refusal(response);
  try {
    return await response.json();
  } catch (error) {
    throw translated(error);
  }
}

/** Get one of the server's plain paths, `readyz` or `version`; returns the response. */
export const get = (path) =>
  fetch(path, { headers: headers("application/json"), signal: AbortSignal.timeout(CALL_MS) });

/** Call a method that streams; `take` gets each message. Ends with the stream, or throws. */
export async function stream(method, body, take, signal) {
  const response = await post(method, "application/connect+json", enveloped(body), signal);
  if (!response.ok || !response.headers.get("content-type")?.startsWith("application/connect+json")) {
    throw await refusal(response);
  }
  const reader = response.body.getReader();
  let rest = new Uint8Array(0);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new TypeError("the stream has no end");
      rest = rest.length ? joined(rest, value) : value;
      const { messages, left, end } = unwrapped(rest);
      rest = left;
      messages.forEach(take);
      if (end?.error) throw new ServerError(end.error.code, end.error.message, end.error.details);
      if (end) return;
    }
  } catch (error) {
    throw error instanceof ServerError ? error : translated(error, signal);
  }
}

function enveloped(message) {
  const data = new TextEncoder().encode(JSON.stringify(message));
  const head = new Uint8Array(5);
  new DataView(head.buffer).setUint32(1, data.length);
  return joined(head, data);
}

function unwrapped(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const messages = [];
  let end;
  let at = 0;
  while (bytes.length - at >= 5) {
    const next = at + 5 + view.getUint32(at + 1);
    if (next > bytes.length) break;
    const message = JSON.parse(new TextDecoder().decode(bytes.subarray(at + 5, next)));
    if (view.getUint8(at) & END) end = message;
    else messages.push(message);
    at = next;
  }
  return { messages, left: bytes.slice(at), end };
}

function joined(first, second) {
  const whole = new Uint8Array(first.length + second.length);
  whole.set(first);
  whole.set(second, first.length);
  return whole;
}
