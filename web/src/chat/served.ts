// The models that can be asked, what is known of each, and what the reader chose last.

import { signal } from "@preact/signals";
import { type ModelCard, modelCards, type ServedModel, servedModels } from "../api/chat";
import { ApiError } from "../api/http";
import { session, silence } from "../app/state";
import { readSettings, type Settings, type Thinking, USUAL } from "./settings";

const MODEL = "frugal.model";
const THINKING = "frugal.thinking";

export const models = signal<ServedModel[] | null>(null);
export const cards = signal<ReadonlyMap<string, ModelCard>>(new Map());
/** Tokens that a conversation with a model may have, as far as it is known. */
export const contexts = signal<ReadonlyMap<string, number>>(new Map());
/** Models that have answered this page: asking them to count tokens loads nothing. */
export const warm = new Set<string>();

/** Asks for the models and, where there is a catalogue, for what it knows of them. */
export async function refreshModels(): Promise<void> {
  try {
    models.value = await servedModels();
    silence.value = null;
  } catch (error) {
    if (!(error instanceof ApiError)) silence.value = error;
    models.value ??= [];
    return;
  }
  const known = new Map(contexts.value);
  for (const { id, max_model_len } of models.value) if (max_model_len) known.set(id, max_model_len);
  contexts.value = known;
  try {
    cards.value = new Map((await modelCards()).map((card) => [card.name, card]));
  } catch {
    // An older server, or a key that may not see it: the list alone does.
  }
}

/** Notes how long a conversation with a model may be. */
export function noteContext(model: string, tokens: number): void {
  if (contexts.value.get(model) !== tokens) contexts.value = new Map(contexts.value).set(model, tokens);
}

const served = (name: string | null): ServedModel | undefined => models.value?.find((model) => model.id === name);

/** Whether a model can think before it answers; where nobody says, it may. */
export const canThink = (name: string | null): boolean => served(name)?.about?.thinks !== false;

/** The settings without what the model cannot do. */
export const fitting = (model: string, settings: Settings): Settings =>
  canThink(model) ? settings : { ...settings, thinking: USUAL.thinking };

/** The model that a new conversation begins with. */
export function usualModel(): string | null {
  const names = (models.value ?? []).map((model) => model.id);
  const wanted = [localStorage.getItem(MODEL), session.value?.default_model];
  return wanted.find((name): name is string => !!name && names.includes(name)) ?? names[0] ?? null;
}

export function rememberModel(name: string): void {
  localStorage.setItem(MODEL, name);
}

export function rememberThinking(thinking: Thinking): void {
  localStorage.setItem(THINKING, JSON.stringify(thinking));
}

/** How a new conversation is asked. */
export function usualSettings(): Settings {
  try {
    const { thinking } = readSettings({ thinking: JSON.parse(localStorage.getItem(THINKING) ?? "null") });
    return { ...USUAL, thinking };
  } catch {
    return USUAL;
  }
}
