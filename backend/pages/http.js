// Requests of the pages to their own service, and nothing else.

/** The token that shows a request comes from a page of ours. */
function token() {
  const found = document.cookie.split("; ").find((one) => one.startsWith("cliper_csrf="));
  return found ? decodeURIComponent(found.slice("cliper_csrf=".length)) : "";
}

export class Refused extends Error {
  /** `status` is 0 where the service did not answer. */
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

/** Send a request; throws Refused with the service's own sentence. */
export async function send(path, { method = "GET", json, body, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRF-Token"] = token();
  if (json !== undefined) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(json);
  }
  let answer;
  try {
    answer = await fetch(path, { method, headers, body, signal, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The service does not answer. Is it still running?", 0);
  }
  if (answer.ok) return answer;
  let sentence = `${answer.status} ${answer.statusText}`;
  try {
    sentence = (await answer.json()).error || sentence;
  } catch {
    // a proxy's own page; the status line has to do
  }
  throw new Refused(sentence, answer.status);
}

/** The same, with what the answer says as JSON. */
export async function ask(path, options) {
  return (await send(path, options)).json();
}

/** Bytes that were packed by the service: base64 of zlib. */
export async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
