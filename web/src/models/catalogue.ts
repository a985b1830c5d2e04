// The models that are kept here, as last seen, and what of them is asked for.

import { computed, signal } from "@preact/signals";
import { isAborted } from "../api/http";
import { listModels, type Model } from "../api/models";
import { type Method, methodOf } from "./methods";

/** Null until the server has said it. */
export const all = signal<readonly Model[] | null>(null);
/** Why they could not be listed. */
export const fault = signal<unknown>(null);

export async function refreshModels(signal?: AbortSignal): Promise<void> {
  try {
    all.value = await listModels(signal);
    fault.value = null;
  } catch (error) {
    if (!isAborted(error)) fault.value = error;
  }
}

/** What of the catalogue is wanted; empty where anything is. */
export type Filter = { text: string; size: string; licence: string; method: string };

export const NO_FILTER: Filter = { text: "", size: "", licence: "", method: "" };
export const filter = signal<Filter>(NO_FILTER);
export const isFiltered = computed(() => Object.values(filter.value).some((value) => value !== ""));

/** Bounds of sizes, in bytes. */
export const SIZES = [1e9, 4e9, 16e9] as const;

/** Stands for models that name no licence. */
export const NONE = "-";

const fits = (model: Model, { text, size, licence, method }: Filter): boolean => {
  const said = [model.name, model.architecture, model.quantization, model.licence, ...model.base_models];
  const line = said.join("\n").toLowerCase();
  const [how, bound] = [size[0], Number(size.slice(1))];
  return (
    text.toLowerCase().split(/\s+/).every((word) => line.includes(word)) &&
    (size === "" || (how === "<" ? model.bytes <= bound : model.bytes > bound)) &&
    (licence === "" || (model.licence ?? NONE) === licence) &&
    (method === "" || methodOf(model.method) === method)
  );
};

/** Those that fit: the loaded ones first, then by name. */
export const shown = computed(() => {
  const found = (all.value ?? []).filter((model) => fits(model, filter.value));
  return found.sort((a, b) => Number(b.loaded) - Number(a.loaded) || a.name.localeCompare(b.name));
});

export const licences = computed(() => [...new Set((all.value ?? []).map((model) => model.licence ?? NONE))].sort());

export const methods = computed(() => {
  const found = (all.value ?? []).map((model) => methodOf(model.method));
  return [...new Set(found.filter((method): method is Method => method !== null))].sort();
});

/** Owner and name, so that the owner can be quieter. */
export function parted(name: string): { owner: string; own: string } {
  const at = name.indexOf("/");
  return at < 0 ? { owner: "", own: name } : { owner: name.slice(0, at + 1), own: name.slice(at + 1) };
}
