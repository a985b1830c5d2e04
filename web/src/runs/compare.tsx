// Runs over each other: the same curves, one colour a run.

import { useState } from "preact/hooks";
import { RailButton } from "../app/shell";
import { go, href } from "../app/route";
import { percent, seconds } from "../i18n/format";
import { Icon, Select } from "../ui/index";
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
  const told = `${live.whole?.state ?? ""}${live.fault ?? ""}${live.whole === null}`;
  const [last, setLast] = useState("");
  if (last !== told) {
    setLast(told);
    queueMicrotask(() => tell(live));
  }
  return null;
}

export function Comparison({ ids }: { ids: readonly string[] }) {
  const say = words.value;
  const [all, setAll] = useState<Record<string, Live>>({});
  const [stage, setStage] = useState("");
  const own = ids.slice(0, MOST_COMPARED);
  const known = own.flatMap((id) => (all[id]?.whole ? [all[id]] : []));
  const stages = [...new Set(known.flatMap((live) => live.whole?.stages.map((one) => one.name) ?? []))];
  const runs = known.map((live) => ({ id: live.id, name: live.whole?.name ?? "", data: live.data }));
  return (
    <>
      {own.map((id) => (
        <Follower key={id} id={id} tell={(live) => setAll((now) => ({ ...now, [id]: live }))} />
      ))}
      <header class="view-head">
        <RailButton />
        <a class="button quiet bare" href={href("runs")} aria-label={say.back} title={say.back}>
          <Icon name="chevron_left" />
        </a>
        <h1>{say.comparison}</h1>
      </header>
      <div class="view-page runs">
        <div class="inside stack">
          <ul class="compared">
            {own.map((id, at) => {
              const live = all[id];
              const whole = live?.whole;
              if (live) void live.data.version.value;
              const best = live && whole ? Math.max(0, ...results(live.data, whole).map((row) => row.score.pass_at_1.value)) : 0;
              return (
                <li key={id}>
                  <i style={{ background: `var(--line-${at + 1})` }} />
                  <div>
                    <p>
                      <a href={href("runs", id)}>{whole?.name ?? "…"}</a>{" "}
                      {whole && <StateBadge state={whole.state} stopping={whole.stopping} />}
                    </p>
                    <p class="muted">
                      {live?.fault === "unknown"
                        ? say.unknown
                        : whole &&
                          [
                            whole.recipe,
                            `${say.seed.toLowerCase()} ${whole.seed}`,
                            seconds(whole.seconds),
                            ...(whole.bill ? [allMoney(whole.bill)] : []),
                            ...(best > 0 ? [`${say.best} ${percent(best, 1)}`] : []),
                          ].join(" · ")}
                    </p>
                  </div>
                  {own.length > 2 && (
                    <button
                      type="button"
                      class="button quiet bare small"
                      aria-label={`${say.cancel}: ${whole?.name ?? id}`}
                      onClick={() => go("runs", own.filter((other) => other !== id).join(","))}
                    >
                      <Icon name="close" size={16} />
                    </button>
                  )}
                </li>
              );
            })}
          </ul>
          <div class="compare-stage">
            <Select
              label={say.stage}
              value={stage}
              options={[["", say.whole_run], ...stages.map((name) => [name, name] as const)]}
              onChange={setStage}
            />
          </div>
          {runs.length > 0 && <Charts runs={runs} stage={stage === "" ? null : stage} />}
        </div>
      </div>
    </>
  );
}
