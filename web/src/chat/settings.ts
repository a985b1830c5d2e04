// How a model is asked to answer. What is null is left to the server, which does as the model's
// makers do.

export type Thinking = { mode: "usual" | "on" | "off"; budget: number | null };
export type Checker = "majority" | "math" | "json";
export type Verify = { samples: number; checker: Checker };

export type Settings = {
  thinking: Thinking;
  verify: Verify | null;
  temperature: number | null;
  top_p: number | null;
  top_k: number | null;
  min_p: number | null;
  presence_penalty: number | null;
  frequency_penalty: number | null;
  repetition_penalty: number | null;
  max_tokens: number | null;
  seed: number | null;
};

export const USUAL: Settings = {
  thinking: { mode: "usual", budget: null },
  verify: null,
  temperature: null,
  top_p: null,
  top_k: null,
  min_p: null,
  presence_penalty: null,
  frequency_penalty: null,
  repetition_penalty: null,
  max_tokens: null,
  seed: null,
};

/** A setting that is one number. */
export type Dial = keyof { [K in keyof Settings as Settings[K] extends number | null ? K : never]: true };

/** The bounds that the server keeps, a sensible step, and the default where it is the same for all models. */
export const DIALS: Record<Dial, { min: number; max: number; step: number; usual: number | null }> = {
  temperature: { min: 0, max: 2, step: 0.05, usual: null },
  top_p: { min: 0, max: 1, step: 0.01, usual: null },
  top_k: { min: 0, max: 200, step: 1, usual: null },
  min_p: { min: 0, max: 1, step: 0.01, usual: 0 },
  presence_penalty: { min: -2, max: 2, step: 0.1, usual: 0 },
  frequency_penalty: { min: -2, max: 2, step: 0.1, usual: 0 },
  repetition_penalty: { min: 0.5, max: 2, step: 0.01, usual: 1 },
  max_tokens: { min: 1, max: 131_072, step: 1, usual: null },
  seed: { min: 0, max: 2 ** 48, step: 1, usual: null },
};

const CHECKERS: readonly Checker[] = ["majority", "math", "json"];
export const MOST_SAMPLES = 64;
/** So many answers are drawn to be verified where nobody says how many. */
export const USUAL_SAMPLES = 5;

/** The fields of a request. */
export function fields(settings: Settings): Record<string, unknown> {
  const { thinking, verify, ...dials } = settings;
  const given = Object.entries(dials).filter(([, value]) => value !== null);
  const out: Record<string, unknown> = Object.fromEntries(given);
  if (thinking.mode !== "usual") {
    const budget = thinking.mode === "on" && thinking.budget !== null ? { budget_tokens: thinking.budget } : {};
    out["thinking"] = { type: thinking.mode === "on" ? "enabled" : "disabled", ...budget };
  }
  if (verify) out["verify"] = verify;
  return out;
}

/** How many settings differ from the usual ones. */
export function changed(settings: Settings): number {
  const dials = (Object.keys(DIALS) as Dial[]).filter((name) => settings[name] !== null).length;
  return dials + (settings.thinking.mode === "usual" ? 0 : 1) + (settings.verify ? 1 : 0);
}

/** Settings out of anything: what is not as it should be is as usual. */
export function readSettings(value: unknown): Settings {
  const from = (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;
  const settings: Settings = { ...USUAL };
  for (const name of Object.keys(DIALS) as Dial[]) {
    const number = from[name];
    const { min, max } = DIALS[name];
    if (typeof number === "number" && number >= min && number <= max) settings[name] = number;
  }
  const thinking = from["thinking"] as Partial<Thinking> | undefined;
  if (thinking?.mode === "on" || thinking?.mode === "off") {
    const budget = typeof thinking.budget === "number" && thinking.budget > 0 ? Math.floor(thinking.budget) : null;
    settings.thinking = { mode: thinking.mode, budget };
  }
  const verify = from["verify"] as Partial<Verify> | null | undefined;
  if (verify && typeof verify.samples === "number" && CHECKERS.includes(verify.checker as Checker)) {
    const samples = Math.min(MOST_SAMPLES, Math.max(1, Math.floor(verify.samples)));
    settings.verify = { samples, checker: verify.checker as Checker };
  }
  return settings;
}
