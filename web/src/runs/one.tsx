// One run: how it stands, its stages, its curves as they grow, what the models said, what it cost.

import { useState } from "preact/hooks";
import { href } from "../app/route";
import { ViewHead } from "../app/view_head";
import type { Whole } from "../api/runs";
import { Button, Empty, Fold, LinkButton, Loading, Note, Tabs } from "../ui/index";
import { Bill } from "./bill";
import { Charts } from "./charts";
import { Deeds } from "./deeds";
import { Facts, Figures } from "./figures";
import { Grow } from "./grow";
import { type Live, useRun } from "./live";
import { StateBadge } from "./parts";
import { Results } from "./results";
import { Samples } from "./samples";
import { StageStrip } from "./strip";
import { words } from "./words";

export function One({ id }: { id: string }) {
  const live = useRun(id);
  const say = words.value;
  const { data, whole, fault } = live;
  const standing = data.standing.value ?? whole;
  const isUnknown = fault === "unknown" && !whole;
  return (
    <>
      <ViewHead
        title={whole?.name ?? ""}
        whole={whole?.name}
        back={["runs", say.back]}
        state={standing && !isUnknown && <StateBadge state={standing.state} stopping={standing.stopping} />}
      >
        {whole && <Deeds whole={whole} live={live} />}
      </ViewHead>
      {isUnknown ? (
        <Empty icon="search" title={say.unknown} actions={<LinkButton href={href("runs")}>{say.back}</LinkButton>} />
      ) : (
        <div class="view-page">
          <div class="inside stack">
            <Notes live={live} />
            {whole ? <Known live={live} whole={whole} /> : fault === null && <Loading label={say.loading} />}
          </div>
        </div>
      )}
    </>
  );
}

/** What the reader should know of what is shown. */
function Notes({ live: { data, whole, fault, again } }: { live: Live }) {
  const say = words.value;
  return (
    <>
      {fault === "failed" && (
        <Note tone="bad" actions={<Button onClick={again}>{say.again}</Button>}>
          {say.failed}
        </Note>
      )}
      {!data.isConnected.value && <Note tone="warn">{say.connection_lost}</Note>}
      {data.damaged.value.map((file) => (
        <Note key={file} tone="warn">
          {say.damaged(file)}
        </Note>
      ))}
      {whole?.problem && (
        <Note tone="warn" title={say.problem}>
          {whole.problem}
        </Note>
      )}
    </>
  );
}

type Tab = "curves" | "thinking" | "results" | "bill";

function Known({ live: { id, data }, whole }: { live: Live; whole: Whole }) {
  const say = words.value;
  const [tab, setTab] = useState<Tab>("curves");
  const [stage, setStage] = useState<string | null>(null);
  const tabs: [Tab, string][] = [
    ["curves", say.tab_curves],
    ["thinking", say.tab_thinking],
    ["results", say.tab_results],
    ["bill", say.tab_bill],
  ];
  const { version } = data;
  const checks = whole.self_check_words;
  return (
    <>
      <div class="run-head">
        {whole.about !== "" && <p class="about">{whole.about}</p>}
        <Facts whole={whole} />
      </div>
      <Figures data={data} whole={whole} />
      <StageStrip
        stages={(data.standing.value ?? whole).stages}
        steps={(one) => (void version.value, data.steps(one))}
        chosen={stage}
        onChoose={(chosen) => {
          setStage(chosen);
          setTab("curves");
        }}
      />
      <Tabs label={whole.name} value={tab} options={tabs} onChange={setTab} />
      <div role="tabpanel" aria-label={tabs.find(([name]) => name === tab)?.[1]} class="stack">
        {tab === "curves" &&
          (data.isComplete.value || version.value > 0 ? (
            <Charts runs={[{ id, name: whole.name, data }]} stage={stage} />
          ) : (
            <p class="muted no-curves" role="status">
              {say.catching_up}
            </p>
          ))}
        {tab === "thinking" && (
          <>
            <Grow data={data} checks={checks} />
            <Samples data={data} checks={checks} stage={stage} />
          </>
        )}
        {tab === "results" && <Results data={data} whole={whole} />}
        {tab === "bill" && <Bill whole={whole} />}
      </div>
      {whole.log !== null && (
        <Fold head={say.log}>
          <pre class="recipe" tabIndex={0} role="region" aria-label={say.log}>
            {whole.log}
          </pre>
        </Fold>
      )}
    </>
  );
}
