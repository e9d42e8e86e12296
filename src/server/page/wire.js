// The requests of the page, with the key in a header, and the server-sent events.

// The server refused a request; `message` is its sentence.
export class Refused extends Error {
  constructor(status, {message, param}, retryAfter) {
    super(message);
    Object.assign(this, {status, param, retryAfter});  // retryAfter: seconds; 0: not said
  }
}

// Nothing answered, or the server or a proxy in front of it says that it cannot now.
export class Unreachable extends Error {
  constructor(reason = "the server does not answer") {
    super(`${reason}. This page goes on by itself when the server is back.`);
  }
}

export async function request(path, {headers = {}, ...options} = {}) {
  const key = sessionStorage.getItem("key");
  const authorization = key ? {Authorization: `Bearer ${key}`} : {};
  const response = await reach(
    () => fetch(path, {...options, headers: {...headers, ...authorization}, cache: "no-store"}));
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  if ([502, 503, 504].includes(response.status)) throw new Unreachable(body.error?.message);
  const error = body.error ?? {message: `the server answered with status ${response.status}`};
  throw new Refused(response.status, error, Number(response.headers.get("Retry-After")));
}

// The answer of `attempt`, where a failing connection throws Unreachable.
async function reach(attempt) {
  try {
    return await attempt();
  } catch (error) {
    throw error instanceof TypeError ? new Unreachable() : error;
  }
}

export async function requestJson(path, options) {
  const response = await request(path, options);
  return parse(await reach(() => response.text()));
}

export async function requestBlob(path) {
  const response = await request(path);
  return reach(() => response.blob());
}

// JSON in which a seed is a string of digits: one beyond 2^53 is no number of JavaScript.
function parse(text) {
  return JSON.parse(text, (name, value, context) =>
    name === "seed" && value !== null ? context?.source ?? String(value) : value);
}

// Calls handle(name, data) for each server-sent event at `path`, until the connection ends.
export async function readEvents(path, handle) {
  const response = await request(path);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let unread = "";
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    const events = (unread + value).split(/\r?\n\r?\n/);
    unread = events.pop();
    for (const event of events) {
      const lines = name => [...event.matchAll(new RegExp(`^${name}: ?(.*?)\r?$`, "gm"))]
        .map(match => match[1]).join("\n");
      if (lines("data")) handle(lines("event"), parse(lines("data")));
    }
  }
}
