// What a run cost, stage by stage, and the recipe it followed.

import { bytes, count, energy, flops, money, number, percent, seconds } from "../i18n/format";
import type { Spent, Stage, StageBill, Whole } from "../api/runs";
import { type Column, CopyButton, Table } from "../ui/index";
import { Length, OverLine } from "./parts";
import { words } from "./words";

export const allMoney = (spent: Spent): string =>
  Object.entries(spent.money)
    .map(([currency, amount]) => money(amount, currency))
    .join(" + ") || "–";

export const allFlops = (spent: Spent): number => spent.flops_forward + spent.flops_backward + spent.flops_rollout;

/** How far an energy figure can be believed. */
export const energyMethod = (spent: Spent): string => {
  const say = words.value;
  return { measured: say.energy_measured, estimated: say.energy_estimated, mixed: say.energy_mixed }[spent.energy ?? "estimated"];
};

export function Bill({ whole }: { whole: Whole }) {
  const say = words.value;
  return (
    <section class="stack">
      <h2>{say.bill}</h2>
      {whole.bill && whole.bills[0] ? (
        <Account total={whole.bill} bills={whole.bills} first={whole.bills[0]} />
      ) : (
        <Timings stages={whole.stages} />
      )}
      <div class="recipe-head">
        <h2>{say.recipe}</h2>
        <CopyButton text={() => whole.recipe_toml} label={say.copy} done={say.copied} />
      </div>
      <pre class="recipe" tabIndex={0} role="region" aria-label={say.recipe}>
        {whole.recipe_toml}
      </pre>
    </section>
  );
}

/** A stage's bill, or the sum of all. */
type Entry = Spent & Partial<StageBill>;

function Account({ total, bills, first }: { total: Spent; bills: readonly StageBill[]; first: StageBill }) {
  const say = words.value;
  const longest = Math.max(...bills.map((bill) => bill.seconds));
  const tokens = (n: number): string => (n === 0 ? "–" : count(n));
  const columns: Column<Entry>[] = [
    { head: say.stage, cell: (bill) => bill.stage ?? say.total, as: "name" },
    {
      head: say.time,
      cell: (bill) => (
        <OverLine picture={bill.stage !== undefined && <Length of={bill.seconds} longest={longest} />}>{seconds(bill.seconds)}</OverLine>
      ),
      as: "wide",
    },
    { head: say.core, cell: (bill) => seconds(bill.core_seconds), as: "number" },
    { head: say.trained, cell: (bill) => tokens(bill.tokens_trained), as: "number" },
    { head: say.generated, cell: (bill) => tokens(bill.tokens_generated), as: "number" },
    { head: say.flops, cell: (bill) => flops(allFlops(bill)), as: "number" },
    { head: say.of_peak, cell: (bill) => (bill.share_of_peak ? percent(bill.share_of_peak, 1) : "–"), as: "number" },
    { head: say.memory, cell: (bill) => (bill.peak_memory_bytes === null ? "–" : bytes(bill.peak_memory_bytes)), as: "number" },
    { head: say.energy, cell: (bill) => energy(bill.joules), as: "number" },
    { head: say.money, cell: allMoney, as: "number" },
  ];
  return (
    <>
      <Table<Entry> label={say.bill} rows={bills} columns={columns} id={(bill) => bill.stage ?? ""} foot={total} />
      <p class="muted fine">
        {say.bill_words(money(first.price_per_core_hour, first.currency))} {total.energy !== "measured" && say.bill_estimated}
      </p>
    </>
  );
}

/** Where the ledger knows nothing: what the run's own timings say. */
function Timings({ stages }: { stages: readonly Stage[] }) {
  const say = words.value;
  const longest = Math.max(0, ...stages.map((stage) => stage.seconds));
  const columns: Column<Stage>[] = [
    { head: say.stage, cell: (stage) => stage.name, as: "name" },
    { head: say.time, cell: (stage) => <OverLine picture={<Length of={stage.seconds} longest={longest} />}>{seconds(stage.seconds)}</OverLine>, as: "wide" },
    { head: say.steps, cell: (stage) => number(stage.steps), as: "number" },
    { head: say.trained, cell: (stage) => count(stage.tokens_trained), as: "number" },
    { head: say.generated, cell: (stage) => count(stage.tokens_generated), as: "number" },
  ];
  return (
    <>
      <p class="muted fine">{say.bill_none}</p>
      <Table label={say.time} rows={stages} columns={columns} id={(stage) => stage.name} />
    </>
  );
}
