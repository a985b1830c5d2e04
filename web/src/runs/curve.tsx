// One chart: lines that grow, what they say where the cursor is, and the cursor by keys and by finger.

import { useEffect, useRef, useState } from "preact/hooks";
import { theme } from "../app/theme";
import { language } from "../i18n/index";
import { colourName, type Range, valueAt } from "./drawing";
import { HEIGHT, type Plot, plot, type Shape } from "./plot";
import { lowerBound, type Points } from "./points";
import { words } from "./words";

/** Keys move over so many places of what is seen. */
const STRIDES = 60;

/** The picture in a box, as long as that is there. The library comes with the first chart. */
function usePlot(shape: Shape, hear: (x: number | null) => void) {
  const box = useRef<HTMLDivElement>(null);
  const own = useRef<Plot | null>(null);
  const now = useRef(shape);
  now.current = shape;
  const { traces, spans, zoom, range, isFromZero, domain, sync } = shape;
  const look = traces.map(colourName).join();
  useEffect(() => {
    let gone = false;
    void import("uplot").then(({ default: Made }) => {
      if (!gone && box.current) own.current = plot(Made, box.current, () => now.current, hear);
    });
    return () => {
      gone = true;
      own.current?.remove();
      own.current = null;
    };
    // What is written on a canvas stays as it was written.
  }, [look, theme.value, language.value, sync]);
  useEffect(() => own.current?.put(), [traces, zoom.value, spans, range, isFromZero, domain[0], domain[1]]);
  return { box, own };
}

/** The place that a key leads to from `at`; null where the key leads nowhere. */
function placeBy(key: string, { x }: Points, at: number | null, zoom: Range): number | null {
  const from = zoom ? lowerBound(x, zoom[0]) : 0;
  const to = zoom ? Math.max(from, lowerBound(x, zoom[1]) - 1) : x.length - 1;
  const here = at === null ? to : Math.min(to, lowerBound(x, at));
  const stride = Math.max(1, Math.round((to - from) / STRIDES));
  const next = {
    ArrowRight: here + stride,
    ArrowLeft: here - stride,
    PageUp: here + 10 * stride,
    PageDown: here - 10 * stride,
    Home: from,
    End: to,
  }[key];
  return next === undefined ? null : (x[Math.max(from, Math.min(to, next))] ?? null);
}

export function Curve(shape: Shape) {
  const { title, traces, zoom, format, formatX } = shape;
  const [at, setAt] = useState<number | null>(null);
  const { box, own } = usePlot(shape, setAt);
  const first = traces[0]?.points ?? { x: [], y: [] };
  const end = first.x.at(-1);
  const isAlone = traces.length === 1;
  const values = traces.map((trace) => {
    const value = valueAt(trace.points, at);
    return { trace, words: value === null ? "–" : format(value) };
  });
  const where = at === null ? "" : `${formatX(at)}: `;
  const onKeyDown = (event: KeyboardEvent): void => {
    const place = placeBy(event.key, first, at, zoom.value);
    if (place === null) return;
    event.preventDefault();
    own.current?.cursor(place);
  };
  const onTouch = (event: TouchEvent): void => {
    const touch = event.touches[0];
    if (touch) own.current?.touch(touch.clientX);
  };
  return (
    <figure class="card curve">
      <figcaption>
        <span class="curve-title">{title}</span>
        <span class="curve-values" aria-hidden="true">
          {at !== null && <span class="muted">{formatX(at)}</span>}
          {values.map(({ trace, words }) => (
            <span key={trace.name}>
              {!isAlone && (
                <>
                  <i style={{ background: `var(${colourName(trace)})` }} />
                  <span class="curve-name truncate" title={trace.name}>
                    {trace.name}
                  </span>
                </>
              )}
              <b>{words}</b>
            </span>
          ))}
        </span>
      </figcaption>
      <div
        ref={box}
        class="curve-plot"
        style={{ height: `${HEIGHT}px` }}
        role="slider"
        tabIndex={0}
        aria-label={summary(shape)}
        aria-valuemin={0}
        aria-valuemax={Math.max(1, end ?? 1)}
        aria-valuenow={at ?? end ?? 0}
        aria-valuetext={where + values.map(({ trace, words }) => (isAlone ? words : `${trace.name} ${words}`)).join(", ")}
        onKeyDown={onKeyDown}
        onTouchStart={onTouch}
        onTouchMove={onTouch}
        onBlur={() => own.current?.cursor(null)}
      />
    </figure>
  );
}

/** What a screen reader says of the whole. */
function summary({ title, traces, format }: Shape): string {
  const sentences = traces.map(({ name, points }) => {
    const known = points.y.filter((value) => !Number.isNaN(value));
    if (known.length === 0) return name;
    let [low, high] = [Infinity, -Infinity];
    for (const value of known) [low, high] = [Math.min(low, value), Math.max(high, value)];
    const [first, last] = [known[0] ?? 0, known.at(-1) ?? 0];
    const label = traces.length > 1 ? `${title}, ${name}` : title;
    return words.value.summary(label, format(first), format(last), format(low), format(high));
  });
  return sentences.join(" ");
}
