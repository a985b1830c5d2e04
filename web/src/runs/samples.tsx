// What models said while they learned, with verdicts: to be read through and filtered.

import { useMemo, useState } from "preact/hooks";
import { number } from "../i18n/format";
import { Button, Fold, SearchField, Select } from "../ui/index";
import type { RunData, Sample } from "./data";
import { said } from "./said";
import { Answer, Thought, Verdict } from "./thought";
import { words } from "./words";

const AT_A_TIME = 20;

type Wanted = { stage: string; verdict: "any" | "right" | "wrong"; text: string };

function matches(sample: Sample, { stage, verdict, text }: Wanted): boolean {
  const from = sample.checkpoint ?? sample.stage;
  if (stage !== "" && from !== stage) return false;
  if (verdict !== "any" && sample.right !== (verdict === "right")) return false;
  const wanted = text.trim().toLowerCase();
  return wanted === "" || sample.question.toLowerCase().includes(wanted) || sample.text.toLowerCase().includes(wanted);
}

export function Samples({ data, checks, stage }: { data: RunData; checks: readonly string[]; stage: string | null }) {
  const [wanted, want] = useState<Wanted>({ stage: stage ?? "", verdict: "any", text: "" });
  const [most, setMost] = useState(AT_A_TIME);
  const version = data.version.value;
  const stages = useMemo(
    () => [...new Set(data.samples.map((sample) => sample.checkpoint ?? sample.stage))],
    [data, version],
  );
  const found = useMemo(
    () => data.samples.filter((sample) => matches(sample, wanted)).reverse(),
    [data, version, wanted],
  );
  const change = (part: Partial<Wanted>): void => {
    want({ ...wanted, ...part });
    setMost(AT_A_TIME);
  };
  return (
    <section class="card panel">
      <header>
        <div>
          <h2>{words.value.samples}</h2>
          <p class="muted fine">{data.samples.length === 0 ? words.value.samples_none : words.value.samples_words}</p>
        </div>
      </header>
      {data.samples.length > 0 && (
        <>
          <div class="samples-filter">
            <SearchField label={words.value.search} value={wanted.text} onInput={(text) => change({ text })} />
            <Select
              label={words.value.stage}
              value={wanted.stage}
              options={[["", words.value.all_stages], ...stages.map((name) => [name, name] as const)]}
              onChange={(stage) => change({ stage })}
            />
            <Select
              label={words.value.verdict}
              value={wanted.verdict}
              options={[
                ["any", words.value.any],
                ["right", words.value.right],
                ["wrong", words.value.wrong],
              ]}
              onChange={(verdict) => change({ verdict })}
            />
          </div>
          <p class="muted fine samples-count" role="status">
            {words.value.samples_match(found.length, data.samples.length)}
          </p>
          <ul class="samples-list">
            {found.slice(0, most).map((sample, at) => (
              <Row key={`${sample.stage}/${sample.step}/${sample.checkpoint}/${sample.question}/${at}`} sample={sample} checks={checks} />
            ))}
          </ul>
          {found.length > most && <Button onClick={() => setMost(most + 2 * AT_A_TIME)}>{words.value.more}</Button>}
        </>
      )}
    </section>
  );
}

function Row({ sample, checks }: { sample: Sample; checks: readonly string[] }) {
  const { thought, words: length } = said(sample.text);
  const from = sample.checkpoint ?? `${sample.stage}, ${words.value.at_step(number(sample.step ?? 0))}`;
  const reward = sample.reward === null ? "" : words.value.reward_is(number(sample.reward, { maximumFractionDigits: 2 }));
  const about = [from, reward].filter(Boolean).join(" · ");
  return (
    <li class="sample">
      <p class="sample-head">
        <span class="asked">{sample.question}</span>
        <Verdict right={sample.right} />
      </p>
      <p>
        <Answer text={sample.text} />
      </p>
      {thought !== null && length > 0 ? (
        <Fold head={`${about} · ${words.value.n_words(length)}`}>
          <Thought text={thought} checks={checks} />
        </Fold>
      ) : (
        <p class="sample-from muted fine">{about}</p>
      )}
    </li>
  );
}
