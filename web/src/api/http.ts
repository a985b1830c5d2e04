// Requests to the server that this page came from, and what can go wrong with them.

/** The server refused, in its own words. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    /** The envelope's `type`, as `rate_limit_error`. */
    readonly type: string,
    message: string,
    /** The field at fault. */
    readonly param: string | null = null,
    /** The envelope's `code`, as `context_length_exceeded`. */
    readonly code: string | null = null,
    /** Seconds after which to try again, if the server said. */
    readonly retryAfter: number | null = null,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

/** The server could not be reached, or was lost in the middle of an answer. */
export class NoConnection extends Error {
  constructor() {
    super("no connection");
    this.name = "NoConnection";
  }
}

/** Whether a request ended because the page itself called it off. */
export const isAborted = (error: unknown): boolean => error instanceof DOMException && error.name === "AbortError";

/** Reads an envelope `{"error": {message, type, param, code}}`; anything else gives its status alone. */
export function faultOf(status: number, body: unknown, retryAfter: number | null = null): ApiError {
  const error = (body as { error?: unknown } | null)?.error;
  const field = (name: string): string | null => {
    const value = (error as Record<string, unknown> | undefined)?.[name];
    return typeof value === "string" ? value : null;
  };
  const message = field("message") ?? (typeof error === "string" ? error : "");
  return new ApiError(status, field("type") ?? "", message, field("param"), field("code"), retryAfter);
}

export type Options = {
  /** Sent as JSON. */
  body?: unknown;
  signal?: AbortSignal | undefined;
};

/** As JSON that any reader takes: half a character, which a paste can leave, is none. */
function json(body: unknown): string {
  const text = JSON.stringify(body);
  // Whole characters are written as they are, so what is escaped is a half, unless the stroke is itself escaped.
  return text.includes("\\ud") ? text.replace(/\\\\|\\ud[89a-f][\da-f]{2}/g, (found) => (found === "\\\\" ? found : "\ufffd")) : text;
}

/** Sends a request; an answer that is no success becomes an {@link ApiError}. */
export async function send(method: string, path: string, { body, signal }: Options = {}): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(path, {
      method,
      signal: signal ?? null,
      credentials: "same-origin",
      cache: "no-store",
      // Tells the server that its own page asks, where a browser sends nothing that says so.
      headers: { "x-frugal-page": "1", ...(body === undefined ? {} : { "content-type": "application/json" }) },
      ...(body === undefined ? {} : { body: json(body) }),
    });
  } catch (error) {
    if (isAborted(error)) throw error;
    throw new NoConnection();
  }
  if (answer.ok) return answer;
  const seconds = Number(answer.headers.get("retry-after") ?? NaN);
  const text = await answer.text().catch(() => "");
  throw faultOf(answer.status, parsed(text), Number.isNaN(seconds) ? null : seconds);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The same, for the JSON of the answer; nothing for 204. */
export async function request<T>(method: string, path: string, options: Options = {}): Promise<T> {
  const answer = await send(method, path, options);
  if (answer.status === 204) return undefined as T;
  try {
    return (await answer.json()) as T;
  } catch (error) {
    // Cut in the middle, or from somebody who answers in the server's place.
    throw isAborted(error) ? error : new NoConnection();
  }
}

/** One event of a stream. */
export type ServerEvent = { name: string | null; data: string };

/** Takes the text of a stream as it comes and gives the events that are whole. */
export class EventReader {
  private rest = "";
  private name: string | null = null;
  private data: string[] = [];

  push(text: string): ServerEvent[] {
    const events: ServerEvent[] = [];
    // A return at the end may be the first half of a line's end.
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    for (const line of lines) this.line(line, events);
    return events;
  }

  private line(line: string, events: ServerEvent[]): void {
    if (line === "") {
      if (this.data.length > 0) events.push({ name: this.name, data: this.data.join("\n") });
      this.name = null;
      this.data = [];
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.data.push(value);
    else if (field === "event") this.name = value;
  }
}

/** The events of an answer as they come. A connection that is lost throws {@link NoConnection}. */
export async function* events(answer: Response): AsyncGenerator<ServerEvent> {
  const body = answer.body;
  if (!body) return;
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const splitter = new EventReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* splitter.push(decoder.decode(value, { stream: true }));
    }
  } catch (error) {
    if (isAborted(error) || error instanceof ApiError) throw error;
    throw new NoConnection();
  } finally {
    // Ends the request where the caller stops listening: that is how an answer is called off.
    await reader.cancel().catch(() => undefined);
  }
}
