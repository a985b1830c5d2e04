// What a run cost, stage by stage, and the recipe it followed.

import { bytes, count, energy, flops, money, number, percent, seconds } from "../i18n/format";
import type { Spent, Stage, StageBill, Whole } from "../api/runs";
import { CopyButton } from "../ui/index";
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

function Line({ name, bill, longest }: { name: string; bill: Spent & Partial<StageBill>; longest: number }) {
  return (
    <tr>
      <th scope="row">{name}</th>
      <td class="wide">
        <span class="share-line">
          <span>{seconds(bill.seconds)}</span>
          {longest > 0 && (
            <span class="length" aria-hidden="true">
              <i style={{ width: `${(100 * bill.seconds) / longest}%` }} />
            </span>
          )}
        </span>
      </td>
      <td class="number">{seconds(bill.core_seconds)}</td>
      <td class="number">{bill.tokens_trained === 0 ? "–" : count(bill.tokens_trained)}</td>
      <td class="number">{bill.tokens_generated === 0 ? "–" : count(bill.tokens_generated)}</td>
      <td class="number">{flops(allFlops(bill))}</td>
      <td class="number">{bill.share_of_peak ? percent(bill.share_of_peak, 1) : "–"}</td>
      <td class="number">{bill.peak_memory_bytes === null ? "–" : bytes(bill.peak_memory_bytes)}</td>
      <td class="number">{energy(bill.joules)}</td>
      <td class="number">{allMoney(bill)}</td>
    </tr>
  );
}

export function Bill({ whole }: { whole: Whole }) {
  const say = words.value;
  const longest = Math.max(0, ...whole.bills.map((bill) => bill.seconds));
  const first = whole.bills[0];
  return (
    <section class="stack">
      <h2>{say.bill}</h2>
      {whole.bill && first ? (
        <>
          <div class="table-frame" tabIndex={0} role="region" aria-label={say.bill}>
            <table class="table">
              <thead>
                <tr>
                  <th scope="col">{say.stage}</th>
                  <th scope="col" class="wide">{say.time}</th>
                  <th scope="col" class="number">{say.core}</th>
                  <th scope="col" class="number">{say.trained}</th>
                  <th scope="col" class="number">{say.generated}</th>
                  <th scope="col" class="number">{say.flops}</th>
                  <th scope="col" class="number">{say.of_peak}</th>
                  <th scope="col" class="number">{say.memory}</th>
                  <th scope="col" class="number">{say.energy}</th>
                  <th scope="col" class="number">{say.money}</th>
                </tr>
              </thead>
              <tbody>
                {whole.bills.map((bill) => (
                  <Line key={bill.stage} name={bill.stage} bill={bill} longest={longest} />
                ))}
              </tbody>
              <tfoot>
                <Line name={say.total} bill={whole.bill} longest={0} />
              </tfoot>
            </table>
          </div>
          <p class="muted fine">
            {say.bill_words(money(first.price_per_core_hour, first.currency))}{" "}
            {whole.bill.energy !== "measured" && say.bill_estimated}
          </p>
        </>
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

/** Where the ledger knows nothing: what the run's own timings say. */
function Timings({ stages }: { stages: readonly Stage[] }) {
  const say = words.value;
  const longest = Math.max(1e-9, ...stages.map((stage) => stage.seconds));
  return (
    <>
      <p class="muted">{say.bill_none}</p>
      <div class="table-frame" tabIndex={0} role="region" aria-label={say.time}>
        <table class="table">
          <thead>
            <tr>
              <th scope="col">{say.stage}</th>
              <th scope="col" class="wide">{say.time}</th>
              <th scope="col" class="number">{say.column_x_step}</th>
              <th scope="col" class="number">{say.trained}</th>
              <th scope="col" class="number">{say.generated}</th>
            </tr>
          </thead>
          <tbody>
            {stages.map((stage) => (
              <tr key={stage.name}>
                <th scope="row">{stage.name}</th>
                <td class="wide">
                  <span class="share-line">
                    <span>{seconds(stage.seconds)}</span>
                    <span class="length" aria-hidden="true">
                      <i style={{ width: `${(100 * stage.seconds) / longest}%` }} />
                    </span>
                  </span>
                </td>
                <td class="number">{number(stage.steps)}</td>
                <td class="number">{count(stage.tokens_trained)}</td>
                <td class="number">{count(stage.tokens_generated)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}
