/** Requests to our own service; what goes wrong is an Error with the service's sentence. */

function cookie(name) {
  const found = document.cookie.split("; ").find((one) => one.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
}

/** The JSON a path answers with. */
export async function ask(path, { method = "GET", json, body, signal } = {}) {
  const headers = {};
  if (json !== undefined) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(json);
  }
  if (method !== "GET") headers["X-CSRF-Token"] = cookie("cliper_csrf");
  const answer = await fetch(path, { method, headers, body, signal, credentials: "same-origin" });
  const told = await answer.json().catch(() => null);
  if (!answer.ok) throw new Error(told?.error ?? `the service answered ${answer.status}`);
  return told;
}
