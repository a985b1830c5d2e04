// All that can be set: the system prompt, thinking, verifying, and how tokens are drawn.

import { number } from "../i18n/format";
import { Button, Choice, Drawer, Fold, NumberField, Slider, TextArea } from "../ui/index";
import type { Conversation } from "./conversation";
import { canThink, contexts, models, rememberThinking } from "./served";
import { type Checker, type Dial, DIALS, MOST_SAMPLES, type Settings, USUAL, USUAL_SAMPLES } from "./settings";
import { isSettingsOpen, whose } from "./sheets";
import { words } from "./words";

const MAIN: readonly Dial[] = ["temperature", "top_p", "max_tokens"];
const MORE: readonly Dial[] = ["top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "seed"];

export function SettingsDrawer({ conversation }: { conversation: Conversation }) {
  const say = words.value;
  const document = conversation.document.value;
  const isRival = whose.value === "rival" && document.rival !== null;
  const model = isRival ? document.rival!.model : document.model;
  const settings = isRival ? document.rival!.settings : document.settings;
  const set = (part: Partial<Settings>): void => {
    const now = { ...settings, ...part };
    if (isRival) conversation.change({ ...document, rival: { ...document.rival!, settings: now } });
    else {
      conversation.change({ ...document, settings: now });
      if (part.thinking) rememberThinking(part.thinking);
    }
  };
  const dial = (name: Dial) => <OneDial key={name} name={name} model={model} value={settings[name]} onChange={(value) => set({ [name]: value })} />;
  return (
    <Drawer
      title={isRival ? say.second_settings : say.settings}
      closes={say.close}
      onClose={() => (isSettingsOpen.value = false)}
      foot={
        <Button icon="refresh" onClick={() => set(USUAL)}>
          {say.reset}
        </Button>
      }
    >
      <div class="settings">
        {!isRival && (
          <TextArea
            label={say.system}
            hint={say.system_about}
            placeholder={say.system_place}
            rows={5}
            value={document.system}
            onInput={(system) => conversation.change({ ...document, system })}
          />
        )}
        {canThink(model) ? <ThinkingFields settings={settings} set={set} /> : <NoThinking model={model} />}
        <VerifyFields settings={settings} set={set} />
        <hr class="menu-line" />
        <h3>{say.sampling}</h3>
        <p class="muted small-print">{model === null ? say.sampling_about : say.sampling_of(model)}</p>
        {MAIN.map(dial)}
        <Fold head={say.more_settings}>
          <div class="settings inner">{MORE.map(dial)}</div>
        </Fold>
      </div>
    </Drawer>
  );
}

/** The default of a setting for a model, where the server tells it or where it is the same for all. */
function usualOf(name: Dial, model: string | null): number | null {
  const served = models.value?.find((one) => one.id === model);
  if (name === "temperature" || name === "top_p" || name === "top_k") return served?.sampling?.[name] ?? null;
  return DIALS[name].usual;
}

function OneDial({ name, model, value, onChange }: { name: Dial; model: string | null; value: number | null; onChange: (value: number | null) => void }) {
  const say = words.value;
  const usual = usualOf(name, model);
  const { min, step } = DIALS[name];
  const max = name === "max_tokens" && model !== null ? (contexts.value.get(model) ?? DIALS[name].max) : DIALS[name].max;
  const aside =
    value === null ? (
      <span class="usual-value">{usual === null ? say.as_model : say.usual(number(usual))}</span>
    ) : (
      <button type="button" class="reset-value" onClick={() => onChange(null)}>
        {say.reset_one}
      </button>
    );
  const common = { label: say.dials[name], hint: say.dials_about[name], aside };
  if (name === "seed" || name === "max_tokens")
    return (
      <NumberField {...common} value={value} min={min} max={max} step={1} placeholder={name === "seed" ? say.random : say.what_fits} onChange={onChange} />
    );
  return <Slider {...common} value={value} usual={usual} min={min} max={max} step={step} onChange={onChange} />;
}

type Part = { settings: Settings; set: (part: Partial<Settings>) => void };

function ThinkingFields({ settings: { thinking }, set }: Part) {
  const say = words.value;
  type Mode = typeof thinking.mode;
  const options = [
    ["usual", say.think_usual_short],
    ["on", say.think_on_short],
    ["off", say.think_off_short],
  ] as const satisfies readonly (readonly [Mode, string])[];
  return (
    <div class="settings-part">
      <h3>{say.thinking_head}</h3>
      <Choice label={say.thinking_head} value={thinking.mode} options={options} onChange={(mode) => set({ thinking: { mode, budget: mode === "on" ? thinking.budget : null } })} />
      {thinking.mode === "on" && (
        <NumberField
          label={say.budget}
          hint={say.budget_about}
          value={thinking.budget}
          min={1}
          max={DIALS.max_tokens.max}
          step={64}
          placeholder={say.endless}
          onChange={(budget) => set({ thinking: { mode: "on", budget } })}
        />
      )}
    </div>
  );
}

function NoThinking({ model }: { model: string | null }) {
  const say = words.value;
  return (
    <div class="settings-part">
      <h3>{say.thinking_head}</h3>
      <p class="muted small-print">{say.cannot_think(model ?? "")}</p>
    </div>
  );
}

function VerifyFields({ settings: { verify }, set }: Part) {
  const say = words.value;
  const options = [
    ["off", say.verify_off_short],
    ["majority", say.checkers_short.majority],
    ["math", say.checkers_short.math],
    ["json", say.checkers_short.json],
  ] as const satisfies readonly (readonly [Checker | "off", string])[];
  const samples = verify?.samples ?? USUAL_SAMPLES;
  return (
    <div class="settings-part">
      <h3>{say.verify}</h3>
      <p class="muted small-print">{say.verify_about}</p>
      <Choice<Checker | "off">
        label={say.verify}
        value={verify?.checker ?? "off"}
        options={options}
        onChange={(checker) => set({ verify: checker === "off" ? null : { checker, samples } })}
      />
      {verify && (
        <Slider
          label={say.samples}
          value={samples}
          usual={USUAL_SAMPLES}
          min={2}
          max={MOST_SAMPLES}
          step={1}
          onChange={(many) => set({ verify: { ...verify, samples: many ?? USUAL_SAMPLES } })}
        />
      )}
    </div>
  );
}
