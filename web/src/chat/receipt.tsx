// What an answer took: in a line, and in full behind it.

import type { ComponentChildren } from "preact";
import { energy, flops, money, number, percent, seconds, significant } from "../i18n/format";
import { Badge, Popover } from "../ui/index";
import { changed, type Settings } from "./settings";
import type { Turn } from "./tree";
import { words } from "./words";

function speedOf({ usage, seconds: took }: Turn): number | null {
  if (!usage || !took) return null;
  const writing = took.whole - (took.first ?? 0);
  return writing > 0.05 && usage.completion_tokens > 1 ? usage.completion_tokens / writing : null;
}

/** Tokens, time, energy and money of an answer, and a way to all that is known. */
export function Receipt({ turn }: { turn: Turn }) {
  const say = words.value;
  const { usage, seconds: took } = turn;
  if (!usage && !took) return null;
  const cost = usage?.cost ?? null;
  const parts = [
    usage && say.tokens(usage.completion_tokens),
    took && seconds(took.whole),
    cost && cost.joules > 0 && (cost.joules_are === "measured" ? energy(cost.joules) : say.estimated(energy(cost.joules))),
    cost && cost.money > 0 && money(cost.money, cost.currency),
  ].filter(Boolean);
  return (
    <Popover
      small
      side="end"
      label={say.receipt}
      face={
        <span class="receipt-line">
          {parts.map((part, at) => (
            <span key={at} class={at > 1 ? "wide" : undefined}>
              {part}
            </span>
          ))}
        </span>
      }
    >
      {() => <Full turn={turn} />}
    </Popover>
  );
}

function Full({ turn }: { turn: Turn }) {
  const say = words.value.bill;
  const { usage, seconds: took } = turn;
  const cost = usage?.cost ?? null;
  const speed = speedOf(turn);
  const row = (name: string, value: ComponentChildren, note?: string): ComponentChildren => (
    <div>
      <dt>{name}</dt>
      <dd>
        {value}
        {note !== undefined && <small>{note}</small>}
      </dd>
    </div>
  );
  const answered = usage ? usage.completion_tokens - usage.reasoning_tokens : 0;
  return (
    <dl class="bill" tabIndex={0}>
      {turn.model !== null && row(say.model, <span class="mono">{turn.model}</span>, turn.verify ? say.of_all(turn.verify.samples) : undefined)}
      {usage && usage.prompt_tokens > 0 && row(say.prompt, number(usage.prompt_tokens), usage.cached_tokens > 0 ? say.cached(number(usage.cached_tokens)) : undefined)}
      {usage && usage.reasoning_tokens > 0 && row(say.thought, number(usage.reasoning_tokens))}
      {usage && row(say.answer, number(answered), usage.cost === null ? say.counted : undefined)}
      {took?.first != null && row(say.first, seconds(took.first))}
      {took?.thought != null && row(say.thinking, seconds(took.thought))}
      {took && row(say.whole, seconds(took.whole))}
      {speed !== null && row(say.speed, say.per_second(significant(speed, 3)))}
      {cost && row(say.energy, energy(cost.joules), cost.joules_are === "measured" ? say.measured : say.is_estimate)}
      {cost && row(say.money, cost.money > 0 ? money(cost.money, cost.currency) : say.no_price)}
      {cost && row(say.compute, flops(cost.flops), say.core_seconds(significant(cost.core_seconds, 3)))}
      {turn.settings && changed(turn.settings) > 0 && row(say.settings, settingsIn(turn.settings))}
    </dl>
  );
}

/** The settings that are not as usual, in words. */
export function settingsIn(settings: Settings): string {
  const say = words.value;
  const { thinking, verify, ...dials } = settings;
  const parts = Object.entries(dials)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${say.dials[name as keyof typeof say.dials]} ${number(value as number, { maximumFractionDigits: 3, useGrouping: name !== "seed" })}`);
  if (thinking.mode !== "usual") parts.unshift(thinking.mode === "off" ? say.think_off : thinking.budget === null ? say.think_on : say.think_budget(thinking.budget));
  if (verify) parts.push(say.verify_samples(verify.samples));
  return parts.join(", ");
}

/** What verifying came to: how many agree, and each sample's result. */
export function Verdict({ turn }: { turn: Turn }) {
  const say = words.value.verdict;
  const verified = turn.verify;
  if (!verified) return null;
  const { is_verified, agreement, samples, checker, verdicts } = verified;
  const agreeing = Math.round(agreement * samples);
  const tone = !is_verified ? "bad" : agreement >= 0.5 ? "good" : "warn";
  return (
    <div class="verdict">
      <Badge tone={tone} icon={is_verified ? "shield" : "warning"}>
        {is_verified ? say.agree(agreeing, samples) : say.none(samples)}
      </Badge>
      <Popover small label={say.details}>
        {() => (
          <div class="verdict-full" tabIndex={0}>
            <p>{say.about[checker as keyof typeof say.about] ?? say.about.task}</p>
            <p class="muted">{say.share(percent(agreement))}</p>
            <ol>
              {verdicts.map((one, at) => (
                <li key={at} class={one.agrees ? "agrees" : ""}>
                  <span class="mono truncate">{one.result ?? (one.is_finished ? say.no_result : say.unfinished)}</span>
                  {at === verified.chosen && <Badge tone="accent">{say.chosen}</Badge>}
                  {one.agrees && at !== verified.chosen && <Badge tone="good">{say.same}</Badge>}
                </li>
              ))}
            </ol>
          </div>
        )}
      </Popover>
    </div>
  );
}
