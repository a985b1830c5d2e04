// Runs over each other: the same curves, one colour a run.

import { useEffect, useState } from "preact/hooks";
import { go, href } from "../app/route";
import { ViewHead } from "../app/view_head";
import { percent, seconds } from "../i18n/format";
import { IconButton, Select } from "../ui/index";
import { allMoney } from "./bill";
import { Charts } from "./charts";
import { type Live, useRun } from "./live";
import { StateBadge } from "./parts";
import { results } from "./results";
import { words } from "./words";

/** A browser holds so many connections to one server that some are left for the rest of the page. */
export const MOST_COMPARED = 4;

/** Follows a run for those who draw it, and draws nothing. */
function Follower({ id, tell }: { id: string; tell: (live: Live) => void }) {
  const live = useRun(id);
  useEffect(() => tell(live), [live.data, live.whole, live.fault]);
  return null;
}

export function Comparison({ ids }: { ids: readonly string[] }) {
  const say = words.value;
  const [all, setAll] = useState<Record<string, Live>>({});
  const [stage, setStage] = useState("");
  const own = ids.slice(0, MOST_COMPARED);
  const known = own.flatMap((id) => (all[id]?.whole ? [all[id]] : []));
  const stages = [...new Set(known.flatMap((live) => live.whole?.stages.map((one) => one.name) ?? []))];
  // Who left the comparison takes its stages along.
  const chosen = stages.includes(stage) ? stage : "";
  const runs = known.map((live) => ({ id: live.id, name: live.whole?.name ?? "", data: live.data }));
  const leave = (id: string): void => go("runs", own.filter((other) => other !== id).join(","));
  return (
    <>
      {own.map((id) => (
        <Follower key={id} id={id} tell={(live) => setAll((now) => ({ ...now, [id]: live }))} />
      ))}
      <ViewHead title={say.comparison} back={["runs", say.back]} />
      <div class="view-page">
        <div class="inside stack">
          <ul class="compared">
            {own.map((id, at) => (
              <Compared key={id} id={id} live={all[id]} colour={at + 1} leave={own.length > 2 ? () => leave(id) : null} />
            ))}
          </ul>
          <div class="compare-stage">
            <Select
              label={say.stage}
              value={chosen}
              options={[["", say.whole_run], ...stages.map((name) => [name, name] as const)]}
              onChange={setStage}
            />
          </div>
          {runs.length > 0 && <Charts runs={runs} stage={chosen === "" ? null : chosen} />}
        </div>
      </div>
    </>
  );
}

/** One of the runs: which colour it has, and what it came to. */
function Compared({ id, live, colour, leave }: { id: string; live: Live | undefined; colour: number; leave: (() => void) | null }) {
  const say = words.value;
  const whole = live?.whole;
  return (
    <li class="card">
      <i style={{ background: `var(--line-${colour})` }} />
      <div>
        <p>
          <a href={href("runs", id)}>{whole?.name ?? "…"}</a> {whole && <StateBadge state={whole.state} stopping={whole.stopping} />}
        </p>
        <p class="muted fine">{live?.fault === "unknown" ? say.unknown : live?.fault === "failed" ? say.failed : live && about(live)}</p>
      </div>
      {leave && <IconButton small icon="close" label={`${say.cancel}: ${whole?.name ?? id}`} onClick={leave} />}
    </li>
  );
}

function about({ data, whole }: Live): string {
  const say = words.value;
  // The best is known when it was examined.
  void data.version.value;
  if (!whole) return "";
  const best = Math.max(0, ...results(data, whole).map((row) => row.score.pass_at_1.value));
  const parts = [whole.recipe, say.seed_n(whole.seed), seconds(whole.seconds)];
  if (whole.bill) parts.push(allMoney(whole.bill));
  if (best > 0) parts.push(`${say.best} ${percent(best, 1)}`);
  return parts.join(" · ");
}
