/** The HTTP routes of an app, typed. What may be retried is retried under the same request id. */

import type {
  AnswerPromptResponse,
  File,
  GetFileResponse,
  GetTimelineResponse,
  ListSessionsResponse,
  OpenSessionResponse,
  SendActionResponse,
  SendMessageResponse,
  Session,
  StopInvocationResponse,
  UpdateSessionResponse,
  UploadFileResponse,
  UserInfo,
} from "../wire.ts";
import type { Env } from "./env.ts";
import { delay, Waiting } from "./waiting.ts";

/** A field that was refused, and why. */
export interface FieldProblem {
  readonly field: string;
  readonly description: string;
}

/** An answer that is an error, or no answer. */
export class ApiError extends Error {
  override readonly name = "ApiError";

  /**
   * @param status - The HTTP status; 0: no answer came.
   * @param reason - As `SESSION_CLOSED`; `NETWORK` and `TIMEOUT` where no answer came.
   * @param detail - A sentence for a person.
   * @param fields - What was refused, where fields were.
   * @param retryAfterMs - What the server asked to wait; 0: nothing.
   * @param fileId - The file that it is about, where it is about one.
   */
  constructor(
    readonly status: number,
    readonly reason: string,
    readonly detail: string,
    readonly fields: readonly FieldProblem[] = [],
    readonly retryAfterMs = 0,
    readonly fileId = "",
  ) {
    super(`${status} ${reason}: ${detail}`);
  }

  /** Whether the very same request may well succeed later. */
  get passing(): boolean {
    return [0, 408, 429, 502, 503, 504].includes(this.status);
  }

  /** What to tell the person: the detail, or what was wrong with the first field. */
  get sentence(): string {
    const [first] = this.fields;
    return first?.description || this.detail;
  }
}

/** What an app says of itself. */
export interface Config {
  readonly app?: string;
  readonly sign_in?: readonly string[];
  readonly limits?: {
    readonly text_bytes?: number;
    readonly title_chars?: number;
    readonly file_bytes?: number;
    readonly attachments?: number;
  };
  readonly version?: string;
}

/** Who is signed in. */
export interface SignedIn {
  readonly user?: UserInfo;
  readonly method?: string;
}

interface Call {
  readonly method?: string;
  readonly body?: Record<string, unknown>;
  readonly signal?: AbortSignal;
  /** How often it is repeated; 3 where it is not said. */
  readonly retries?: number;
}

const TIMEOUT_MS = 30_000;
/** An upload of which nothing moves so long has come to its end. */
const STALLED_MS = 60_000;
const RETRIES = 3;
/** Two clocks that are nearer than this agree: the header tells whole seconds, some time ago. */
const CLOCK_SLACK_MS = 5_000;
/** What a server may ask to wait: a person does not sit longer in front of it. */
const MAX_RETRY_AFTER_MS = 30_000;

/** Calls of one app. Every one of them throws {@link ApiError}, or the signal's reason. */
export class Api {
  readonly #env: Env;
  readonly #base: string;
  /** Milliseconds by which the sidecar's clock is ahead of this device's, to a second. */
  skew = 0;
  /** Waits between repetitions; woken when the line is back. */
  readonly waiting: Waiting;

  constructor(env: Env, app: string) {
    this.#env = env;
    this.#base = `/apps/${encodeURIComponent(app)}`;
    this.waiting = new Waiting(env);
  }

  config(signal?: AbortSignal): Promise<Config> {
    return this.#call("/v1/config", { ...on(signal) });
  }

  user(signal?: AbortSignal): Promise<SignedIn> {
    return this.#call("/auth/user", { ...on(signal) });
  }

  signInAsGuest(signal?: AbortSignal): Promise<SignedIn> {
    return this.#call("/auth/guest", { method: "POST", body: {}, ...on(signal) });
  }

  listSessions(
    options: { query?: string; pageToken?: string; pageSize?: number },
    signal?: AbortSignal,
  ): Promise<ListSessionsResponse> {
    const found = query({
      query: options.query,
      page_token: options.pageToken,
      page_size: options.pageSize,
    });
    return this.#call(`/v1/sessions${found}`, { ...on(signal) });
  }

  timeline(
    sessionId: string,
    options: { pageToken?: string; pageSize?: number },
    signal?: AbortSignal,
  ): Promise<GetTimelineResponse> {
    const found = query({ page_token: options.pageToken, page_size: options.pageSize });
    return this.#call(`${session(sessionId)}${found}`, { ...on(signal) });
  }

  /** Opens a session. Not repeated here: the outbox does that, under the id it has kept. */
  async openSession(requestId: string, title: string, signal?: AbortSignal): Promise<Session> {
    const answer = await this.#call<OpenSessionResponse>("/v1/sessions", {
      method: "POST",
      body: { request_id: requestId, title },
      retries: 0,
      ...on(signal),
    });
    return answer.session ?? {};
  }

  /** Sends a message. Not repeated here: the outbox does that, under the id it has kept. */
  sendMessage(
    sessionId: string,
    text: string,
    requestId: string,
    fileIds: readonly string[],
    signal?: AbortSignal,
  ): Promise<SendMessageResponse> {
    const files = fileIds.length > 0 ? { attachments: fileIds } : {};
    return this.#call(`${session(sessionId)}/messages`, {
      method: "POST",
      body: { text, ...files, request_id: requestId },
      retries: 0,
      ...on(signal),
    });
  }

  async rename(sessionId: string, title: string): Promise<Session> {
    const body = { title, request_id: this.#env.uuid() };
    const answer = await this.#call<UpdateSessionResponse>(session(sessionId), {
      method: "PATCH",
      body,
    });
    return answer.session ?? {};
  }

  async remove(sessionId: string): Promise<void> {
    const found = query({ request_id: this.#env.uuid() });
    await this.#call(`${session(sessionId)}${found}`, { method: "DELETE" });
  }

  stop(sessionId: string, invocationId: string): Promise<StopInvocationResponse> {
    const body = { invocation_id: invocationId, request_id: this.#env.uuid() };
    return this.#call(`${session(sessionId)}/stop`, { method: "POST", body });
  }

  act(
    sessionId: string,
    name: string,
    blockId: string,
    payload: unknown,
  ): Promise<SendActionResponse> {
    const body = {
      name,
      ...(blockId ? { block_id: blockId } : {}),
      ...(payload === undefined || payload === null ? {} : { payload }),
      request_id: this.#env.uuid(),
    };
    return this.#call(`${session(sessionId)}/actions`, { method: "POST", body });
  }

  /** What is known of a file, with an address that is good for days. */
  async file(fileId: string, signal?: AbortSignal): Promise<File> {
    const path = `/v1/files/${encodeURIComponent(fileId)}`;
    return (await this.#call<GetFileResponse>(path, { ...on(signal) })).file ?? {};
  }

  /** Removes a file that nothing carries. */
  async removeFile(fileId: string): Promise<void> {
    await this.#call(`/v1/files/${encodeURIComponent(fileId)}`, { method: "DELETE" });
  }

  /**
   * Uploads a file, once. It may be repeated under the same request id.
   *
   * @param told - Called with the bytes that have gone, those of the form around it included.
   */
  async upload(
    file: Blob,
    name: string,
    requestId: string,
    told: (sent: number) => void,
    signal: AbortSignal,
  ): Promise<File> {
    const stalled = new AbortController();
    const give = () => stalled.abort();
    const abort = () => stalled.abort(signal.reason);
    let timer = this.#env.setTimeout(give, STALLED_MS);
    const moved = (sent: number) => {
      this.#env.clearTimeout(timer);
      timer = this.#env.setTimeout(give, STALLED_MS);
      told(sent);
    };
    signal.addEventListener("abort", abort);
    try {
      signal.throwIfAborted();
      const form = new FormData();
      // Before the file, and beside it: in the name of a file's part browsers write " as %22.
      form.append("name", name);
      form.append("file", file, name);
      const address = `${this.#base}/v1/files${query({ request_id: requestId })}`;
      const response = await this.#env.upload(address, form, moved, stalled.signal);
      if (!response.ok) {
        throw await problem(response);
      }
      const { file: made } = (await response.json()) as UploadFileResponse;
      if (!made?.file_id) {
        throw new TypeError("no file"); // Not what a sidecar says: a proxy's page, perhaps.
      }
      return made;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof ApiError) {
        throw error;
      }
      throw stalled.signal.aborted
        ? new ApiError(0, "TIMEOUT", "The upload does not move on.")
        : new ApiError(0, "NETWORK", "The server cannot be reached.");
    } finally {
      this.#env.clearTimeout(timer);
      signal.removeEventListener("abort", abort);
    }
  }

  /** Answers a prompt. Not repeated here: whoever answers does that, under the id it has kept. */
  answerPrompt(
    promptId: string,
    reply: Record<string, unknown>,
    requestId: string,
  ): Promise<AnswerPromptResponse> {
    return this.#call(`/v1/prompts/${encodeURIComponent(promptId)}/answer`, {
      method: "POST",
      body: { ...reply, request_id: requestId },
      retries: 0,
    });
  }

  /** Begins to follow all sessions from a position on. The body is the caller's to read. */
  async events(after: number, signal: AbortSignal): Promise<Response> {
    const address = `${this.#base}/v1/events${query({ after })}`;
    const response = await this.#env.fetch(address, {
      signal,
      headers: { Accept: "text/event-stream" },
      credentials: "same-origin",
      cache: "no-store",
    });
    if (!response.ok) {
      throw await problem(response);
    }
    return response;
  }

  async #call<T>(path: string, call: Call): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      try {
        return (await this.#once(path, call)) as T;
      } catch (error) {
        const passing = error instanceof ApiError && error.passing;
        if (!passing || attempt >= (call.retries ?? RETRIES)) {
          throw error;
        }
        const ms = delay(attempt, this.#env.random(), error.retryAfterMs);
        await this.waiting.wait(ms, call.signal);
        call.signal?.throwIfAborted();
      }
    }
  }

  #compareClocks(response: Response): void {
    const theirs = Date.parse(response.headers.get("Date") ?? "");
    const ahead = theirs - this.#env.now();
    if (Number.isFinite(ahead)) {
      this.skew = Math.abs(ahead) < CLOCK_SLACK_MS ? 0 : ahead;
    }
  }

  async #once(path: string, call: Call): Promise<unknown> {
    call.signal?.throwIfAborted();
    const controller = new AbortController();
    const abort = () => controller.abort(call.signal?.reason);
    call.signal?.addEventListener("abort", abort);
    let late = false;
    const timer = this.#env.setTimeout(() => {
      late = true;
      controller.abort();
    }, TIMEOUT_MS);
    try {
      const response = await this.#env.fetch(`${this.#base}${path}`, {
        method: call.method ?? "GET",
        signal: controller.signal,
        headers: {
          Accept: "application/json",
          ...(call.body ? { "Content-Type": "application/json" } : {}),
        },
        ...(call.body ? { body: JSON.stringify(call.body) } : {}),
        credentials: "same-origin",
        cache: "no-store",
      });
      this.#compareClocks(response);
      if (!response.ok) {
        throw await problem(response);
      }
      return response.status === 204 ? {} : await response.json();
    } catch (error) {
      call.signal?.throwIfAborted();
      if (error instanceof ApiError) {
        throw error;
      }
      // No answer, half of one, or one that is not what a sidecar says: a proxy's, perhaps.
      throw late
        ? new ApiError(0, "TIMEOUT", "The server takes too long to answer.")
        : new ApiError(0, "NETWORK", "The server cannot be reached.");
    } finally {
      this.#env.clearTimeout(timer);
      call.signal?.removeEventListener("abort", abort);
    }
  }
}

/** What a response that is not a success says. */
export async function problem(response: Response): Promise<ApiError> {
  let said: Record<string, unknown> = {};
  try {
    const body: unknown = await response.json();
    said = typeof body === "object" && body !== null ? (body as Record<string, unknown>) : {};
  } catch {
    // A proxy's page; the status says enough.
  }
  return problemOf(said, response.status, response.headers.get("Retry-After"));
}

/** An error out of problem+json, also of one that ends a stream of events. */
export function problemOf(
  said: Readonly<Record<string, unknown>>,
  status: number,
  retryAfter: string | null = null,
): ApiError {
  const text = (value: unknown) => (typeof value === "string" ? value : "");
  const errors = Array.isArray(said.errors) ? (said.errors as unknown[]) : [];
  const fields = errors.map((error) => {
    const each = (error ?? {}) as Record<string, unknown>;
    return { field: text(each.field), description: text(each.description) };
  });
  const seconds = Number(retryAfter ?? 0);
  const wait = Number.isFinite(seconds) ? Math.min(seconds * 1000, MAX_RETRY_AFTER_MS) : 0;
  const detail = text(said.detail) || `The server answered ${status}.`;
  const real = typeof said.status === "number" && status === 0 ? said.status : status;
  const { file_id: fileId } = (said.metadata ?? {}) as Record<string, unknown>;
  return new ApiError(real, text(said.reason), detail, fields, Math.max(0, wait), text(fileId));
}

function session(sessionId: string): string {
  return `/v1/sessions/${encodeURIComponent(sessionId)}`;
}

function query(values: Record<string, string | number | undefined>): string {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined && value !== "") {
      found.set(name, String(value));
    }
  }
  const text = found.toString();
  return text ? `?${text}` : "";
}

function on(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal ? { signal } : {};
}
