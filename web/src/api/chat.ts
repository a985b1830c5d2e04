// Answers as they come: `/v1/chat/completions` and what belongs to it.

import { type ApiError, events, faultOf, NoConnection, request, send } from "./http";

export type Message =
  | { role: "system" | "user"; content: string }
  | { role: "assistant"; content: string; reasoning_content?: string; prefix?: true };

/** What an answer cost whoever runs the server. */
export type Cost = {
  flops: number;
  core_seconds: number;
  joules: number;
  joules_are: "measured" | "estimated" | "";
  money: number;
  currency: string;
};

/** What verifying came to. */
export type Verified = {
  checker: string;
  samples: number;
  chosen: number;
  is_verified: boolean;
  agreement: number;
  verdicts: { result: string | null; is_finished: boolean; agrees: boolean }[];
};

/** What an answer used. */
export type Usage = {
  prompt_tokens: number;
  completion_tokens: number;
  reasoning_tokens: number;
  cached_tokens: number;
  cost: Cost | null;
};

/** Why a thought was closed, where the model did not do it itself. */
export type Closed = "budget" | "asked" | "circles";

/** A piece of what comes. */
export type Piece =
  | { kind: "begun"; id: string }
  | { kind: "thought" | "answer"; text: string }
  | { kind: "ended"; finish: string; closed: Closed | null; isInThought: boolean }
  | { kind: "used"; usage: Usage; verified: Verified | null };

type Chunk = {
  id?: string;
  error?: unknown;
  choices?: {
    delta?: { content?: string | null; reasoning_content?: string | null; reasoning?: string | null };
    finish_reason?: string | null;
    finish_details?: { thought_closed?: Closed; ended_in_thought?: boolean };
  }[];
  usage?: {
    prompt_tokens: number;
    completion_tokens: number;
    completion_tokens_details?: { reasoning_tokens?: number };
    prompt_tokens_details?: { cached_tokens?: number };
    cost?: Cost;
    verified?: Verified;
  } | null;
};

/** Statuses of faults that come inside a stream, where the status line was sent long ago. */
const STATUS: Record<string, number> = {
  authentication_error: 401,
  insufficient_balance: 402,
  permission_error: 403,
  rate_limit_error: 429,
  unavailable_error: 503,
  invalid_request_error: 400,
};

function faultInStream(error: unknown): ApiError {
  const type = String((error as { type?: unknown } | null)?.type ?? "");
  return faultOf(STATUS[type] ?? 500, { error });
}

/** Asks, and gives the pieces as they come. Leaving the loop ends the answer on the server too. */
export async function* stream(body: object, signal: AbortSignal): AsyncGenerator<Piece> {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const answer = await send("POST", "/v1/chat/completions", { body: asked, signal });
  let hasBegun = false;
  for await (const { data } of events(answer)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data) as Chunk;
    if (chunk.error !== undefined) throw faultInStream(chunk.error);
    if (!hasBegun && chunk.id !== undefined) {
      hasBegun = true;
      yield { kind: "begun", id: chunk.id };
    }
    yield* pieces(chunk);
  }
  // The server ends every stream in words; one that just stops was cut.
  throw new NoConnection();
}

function* pieces({ choices, usage }: Chunk): Generator<Piece> {
  const choice = choices?.[0];
  const thought = choice?.delta?.reasoning_content ?? choice?.delta?.reasoning;
  if (thought) yield { kind: "thought", text: thought };
  if (choice?.delta?.content) yield { kind: "answer", text: choice.delta.content };
  if (choice?.finish_reason) {
    const details = choice.finish_details;
    const closed = details?.thought_closed ?? null;
    yield { kind: "ended", finish: choice.finish_reason, closed, isInThought: details?.ended_in_thought ?? false };
  }
  if (usage) {
    yield {
      kind: "used",
      verified: usage.verified ?? null,
      usage: {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        reasoning_tokens: usage.completion_tokens_details?.reasoning_tokens ?? 0,
        cached_tokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
        cost: usage.cost ?? null,
      },
    };
  }
}

/** Ends the thought of an answer under way: its answer comes next. */
export const stopThinking = (id: string): Promise<unknown> =>
  request("POST", `/v1/chat/completions/${encodeURIComponent(id)}/stop_thinking`, { body: {} });

export type Tokenized = { count: number; max_model_len: number };

/** How many tokens a text or a conversation is. Loads the model if it is not loaded. */
export const tokenize = (
  body: { model: string } & ({ prompt: string; add_special_tokens: false } | { messages: Message[] }),
  signal?: AbortSignal,
): Promise<Tokenized> => request("POST", "/tokenize", { body, signal });

/** A model that can be asked. What is not told is absent. */
export type ServedModel = {
  id: string;
  bytes?: number;
  /** Tokens that a conversation may have. */
  max_model_len?: number | null;
  /** How its makers sample, which is what the server does where a request does not say. */
  sampling?: { temperature?: number; top_p?: number; top_k?: number } | null;
  about?: {
    architecture?: string;
    layers?: number;
    licence?: string | null;
    parameters?: number;
    /** Whether its answers can begin with a thought. */
    thinks?: boolean;
  };
};

export const servedModels = async (): Promise<ServedModel[]> =>
  (await request<{ data: ServedModel[] }>("GET", "/v1/models")).data;

/** Some of what the catalogue knows of a model; see `api/models.ts` for all. */
export type ModelCard = {
  name: string;
  bytes?: number | null;
  parameters?: number | null;
  quantization?: string | null;
  architecture?: string | null;
  licence?: string | null;
  base_models?: string[];
  method?: string | null;
  context?: number | null;
  loaded?: boolean;
  cost?: { core_seconds?: number; joules?: number; money?: number; currency?: string } | null;
};

/** The catalogue's entries; none where the server has no catalogue. */
export const modelCards = async (): Promise<ModelCard[]> => {
  const { data } = await request<{ data: ModelCard[] }>("GET", "/web/models");
  return data;
};
