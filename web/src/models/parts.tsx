// Small things that the list and the page of one model share.

import { ApiError, NoConnection } from "../api/http";
import type { Model } from "../api/models";
import { number } from "../i18n/format";
import { Badge } from "../ui/index";
import { parted } from "./catalogue";
import { GLYPHS, methodOf } from "./methods";
import { words } from "./words";

export function Name({ name }: { name: string }) {
  const { owner, own } = parted(name);
  return (
    <span class="full-name">
      {owner !== "" && <span class="owner">{owner}</span>}
      <b>{own}</b>
    </span>
  );
}

/** What is worth a word: that it is loaded, or cannot be. */
export function State({ model }: { model: Model }) {
  const say = words.value;
  if (model.loaded) return <Badge tone="good" icon="bolt">{say.loaded}</Badge>;
  return model.served ? null : <Badge tone="warn">{say.kept}</Badge>;
}

/** A picture of how a model was made. */
export function MethodMark({ word }: { word: string | null }) {
  return (
    <svg class="method-mark" width={36} height={36} viewBox="0 0 36 36" aria-hidden="true">
      <rect width={36} height={36} rx={10} />
      <svg x={8} y={8} width={20} height={20} viewBox="0 0 24 24">
        <path d={GLYPHS[methodOf(word) ?? "origin"]} />
      </svg>
    </svg>
  );
}

/** Tokens in a second: two places that count, and no more than one behind the point. */
export const speed = (perSecond: number): string =>
  number(perSecond, perSecond < 10 ? { maximumFractionDigits: 1 } : { maximumFractionDigits: 0 });

/** The server's words for people, as a sentence. */
export function reason(fault: unknown, unreachable: string): string {
  if (fault instanceof NoConnection) return unreachable;
  const text = fault instanceof ApiError ? fault.message : String(fault);
  return text === "" ? "" : `${text[0]?.toUpperCase()}${text.slice(1)}${/[.!?。]$/.test(text) ? "" : "."}`;
}
