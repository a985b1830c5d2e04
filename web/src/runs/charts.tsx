// The curves of one run, or of several over each other, as pictures or as tables.

import { type Signal, signal } from "@preact/signals";
import { useMemo, useState } from "preact/hooks";
import { number, seconds } from "../i18n/format";
import { Button, Choice, type Column, Table } from "../ui/index";
import { Curve } from "./curve";
import type { RunData } from "./data";
import type { Range, Span, Trace } from "./drawing";
import { Heat } from "./heat";
import { FIRST, has, type Metric, MORE, nameOf } from "./metrics";
import { type Axis, band, points, spans } from "./points";
import { words } from "./words";

/** A run whose curves are drawn. */
export type Drawn = { id: string; name: string; data: RunData };

const TABLE_ROWS = 24;
const NO_SPANS: readonly Span[] = [];

/** Written on the axis and beside values. */
const place = (axis: Axis) => (at: number): string => (axis.stage === null ? seconds(Math.max(0, at)) : number(Math.round(at)));

function tracesOf(runs: readonly Drawn[], metric: Metric, axis: Axis): Trace[] {
  if (runs.length > 1) {
    return runs
      .map((run, at) => ({ name: run.name, points: points(run.data, metric.name, axis), colour: at + 1 }))
      .filter((trace) => trace.points.x.length > 0);
  }
  const own = runs[0];
  if (!own) return [];
  return [metric.name, ...(metric.with ?? [])]
    .map((name, at) => ({ name: nameOf(name), points: points(own.data, name, axis), colour: at + 1 }))
    .filter((trace) => trace.points.x.length > 0);
}

/** Distances of ticks that are whole seconds, minutes or hours. */
const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800];

/** Times as they stand at an axis that goes so far: 0:30 and 12:00, or 30 min, 1 h 30, 2 d. */
const clock = (end: number) => (at: number): string => {
  const two = (part: number): string => String(Math.floor(part)).padStart(2, "0");
  if (end < 3600) return `${Math.floor(at / 60)}:${two(at % 60)}`;
  if (at < 3600) return at === 0 ? "0" : `${number(at / 60, { maximumFractionDigits: 1 })} min`;
  if (at % 86_400 === 0) return `${at / 86_400} d`;
  const rest = at % 3600 === 0 ? "" : ` ${two((at % 3600) / 60)}`;
  return `${Math.floor(at / 3600)} h${rest}`;
};

/** From where to where an axis goes. */
function domainOf(runs: readonly Drawn[], axis: Axis): readonly [number, number] {
  const ends = runs.map(({ data }) => {
    if (axis.stage === null) return spans(data).at(-1)?.to ?? 0;
    const stage = data.stages.get(axis.stage);
    return Math.max(stage?.steps ?? 0, stage?.seconds.length ?? 0);
  });
  return [axis.stage === null ? 0 : 1, Math.max(1, ...ends)];
}

function Picture({ runs, metric, axis, zoom, sync }: { runs: readonly Drawn[]; metric: Metric; axis: Axis; zoom: Signal<Range>; sync: string }) {
  const versions = runs.map((run) => run.data.version.value).join();
  const ids = runs.map((run) => run.id).join();
  const traces = useMemo(() => tracesOf(runs, metric, axis), [ids, metric, axis.stage, versions]);
  const marks = useMemo(() => {
    const own = runs.length === 1 && axis.stage === null ? runs[0] : undefined;
    return own ? spans(own.data) : NO_SPANS;
  }, [ids, axis.stage, versions]);
  if (traces.length === 0) return null;
  const domain = domainOf(runs, axis);
  return (
    <Curve
      title={nameOf(metric.name)}
      traces={traces}
      spans={marks}
      zoom={zoom}
      format={metric.format}
      formatX={axis.stage === null ? place(axis) : (at) => words.value.at_step(place(axis)(at))}
      domain={domain}
      tick={axis.stage === null ? clock(domain[1]) : place(axis)}
      increments={axis.stage === null ? SECONDS : undefined}
      range={metric.range}
      isFromZero={metric.isFromZero}
      sync={sync}
    />
  );
}

type Entry = { x: number; mean: number; low: number; high: number };

/** A trace in so few rows that they can be read. */
function entries(trace: Trace): Entry[] {
  const thin = band(trace.points, TABLE_ROWS, null);
  return thin.x.flatMap((x, row) => {
    const [mean, low, high] = [thin.mean[row], thin.low[row], thin.high[row]];
    return mean === null || mean === undefined ? [] : [{ x, mean, low: low ?? mean, high: high ?? mean }];
  });
}

function Numbers({ runs, metric, axis }: { runs: readonly Drawn[]; metric: Metric; axis: Axis }) {
  const say = words.value;
  runs.forEach((run) => void run.data.version.value);
  const traces = tracesOf(runs, metric, axis);
  if (traces.length === 0) return null;
  const at = place(axis);
  const { format } = metric;
  const columns: Column<Entry>[] = [
    { head: axis.stage === null ? say.column_x_time : say.column_x_step, cell: ({ x }) => at(x) },
    { head: say.mean, cell: ({ mean }) => format(mean), as: "number" },
    {
      head: say.range,
      cell: ({ low, high }) => high > low && <span class="muted">{say.range_between(format(low), format(high))}</span>,
      as: "number",
    },
  ];
  return (
    <>
      {traces.map((trace) => {
        const label = runs.length > 1 ? `${nameOf(metric.name)} · ${trace.name}` : trace.name;
        return <Table key={trace.name} label={label} hasCaption rows={entries(trace)} columns={columns} id={({ x }) => x} />;
      })}
    </>
  );
}

export function Charts({ runs, stage }: { runs: readonly Drawn[]; stage: string | null }) {
  const say = words.value;
  const [how, setHow] = useState<"charts" | "tables">("charts");
  const [isMore, setMore] = useState(false);
  const axis: Axis = { stage };
  const key = `${runs.map((run) => run.id).join()}/${stage ?? ""}`;
  // What was looked at closely belongs to one axis.
  const zoom = useMemo(() => signal<Range>(null), [key]);
  const there = (metric: Metric): boolean => {
    return runs.some((run) => {
      void run.data.version.value;
      return has(run.data, metric.name, stage);
    });
  };
  const [first, more] = [FIRST.filter(there), MORE.filter(there)];
  const shown = [...first, ...(isMore ? more : [])];
  const one = runs.length === 1 ? runs[0] : undefined;
  return (
    <section class="charts">
      <div class="charts-head">
        <p class="muted fine">{how === "charts" && shown.length > 0 ? say.drag_hint : ""}</p>
        {zoom.value !== null && (
          <Button small icon="search" onClick={() => (zoom.value = null)}>
            {say.show_all}
          </Button>
        )}
        <Choice
          label={say.shown_as}
          value={how}
          options={[
            ["charts", say.as_charts],
            ["tables", say.as_tables],
          ]}
          onChange={setHow}
        />
      </div>
      {shown.length === 0 && <p class="muted no-curves">{say.no_curves}</p>}
      <div class="curves">
        {shown.map((metric) =>
          how === "charts" ? (
            <Picture key={metric.name} runs={runs} metric={metric} axis={axis} zoom={zoom} sync={key} />
          ) : (
            <Numbers key={metric.name} runs={runs} metric={metric} axis={axis} />
          ),
        )}
      </div>
      {more.length > 0 && (
        <Button kind="quiet" icon={isMore ? "arrow_up" : "arrow_down"} onClick={() => setMore(!isMore)}>
          {isMore ? say.fewer_curves : say.more_curves}
        </Button>
      )}
      {one && <Heat data={one.data} stage={stage} how={how} />}
    </section>
  );
}
