// The line of descent, drawn: from the first model to this one, each with how it was made.
// Horizontal where there is room, else downward.

import { useEffect, useRef, useState } from "preact/hooks";
import { href } from "../app/route";
import type { Ancestor } from "../api/models";
import { parted } from "./catalogue";
import { GLYPHS, methodIn, methodOf } from "./methods";
import { words } from "./words";

const [NARROW, WIDE, HEIGHT] = [188, 252, 64];
const [GAP, DROP] = [44, 30];
/** Room above nodes for the names of teachers. */
const ABOVE = 26;
const PAD = 2;

type Place = { x: number; y: number };

export function Line({ lineage }: { lineage: readonly Ancestor[] }) {
  const say = words.value;
  const frame = useRef<HTMLDivElement>(null);
  const [room, setRoom] = useState(0);
  useEffect(() => {
    const own = frame.current;
    if (!own) return undefined;
    const watch = new ResizeObserver(() => setRoom(own.clientWidth));
    watch.observe(own);
    setRoom(own.clientWidth);
    return () => watch.disconnect();
  }, []);
  const n = lineage.length;
  const besideNodes = (n - 1) * GAP + 2 * PAD;
  const isAcross = n * NARROW + besideNodes <= room;
  const fits = Math.min(WIDE, Math.floor((room - besideNodes) / n));
  const hasTeacher = lineage.some(({ teacher }) => teacher !== null);
  const above = hasTeacher && isAcross ? ABOVE : 0;
  const width = isAcross ? n * fits + besideNodes : Math.max(NARROW, room);
  const wide = isAcross ? fits : width - 2 * PAD;
  const height = isAcross ? HEIGHT + above + 2 * PAD : n * HEIGHT + (n - 1) * DROP + 2 * PAD;
  const place = (at: number): Place =>
    isAcross ? { x: PAD + at * (wide + GAP), y: PAD + above } : { x: PAD, y: PAD + at * (HEIGHT + DROP) };
  const sentence = lineage.map(({ name, method }) => [name, methodIn(method)].filter((part) => part !== null).join(", "));
  return (
    <div ref={frame} class="descent">
      {room > 0 && (
        <svg width={width} height={height} viewBox={`0 0 ${width} ${height}`} role="group" aria-label={say.descent_words(sentence.join(" → "))}>
          {lineage.slice(1).map((ancestor, at) => (
            <Edge key={at} from={place(at)} to={place(at + 1)} width={wide} isAcross={isAcross} teacher={isAcross ? null : ancestor.teacher} />
          ))}
          {lineage.map((ancestor, at) => (
            <Node key={at} ancestor={ancestor} place={place(at)} width={wide} isFirst={at === 0} isLast={at === n - 1} teaches={isAcross} />
          ))}
        </svg>
      )}
    </div>
  );
}

function Edge({ from, to, width, isAcross, teacher }: { from: Place; to: Place; width: number; isAcross: boolean; teacher: string | null }) {
  const [x1, y1] = isAcross ? [from.x + width, from.y + HEIGHT / 2] : [from.x + 32, from.y + HEIGHT];
  const [x2, y2] = isAcross ? [to.x - 7, to.y + HEIGHT / 2] : [to.x + 32, to.y - 7];
  const head = isAcross ? `M${x2} ${y2 - 4}l6 4-6 4z` : `M${x2 - 4} ${y2}l4 6 4-6z`;
  return (
    <g class="edge">
      <path class="stem" d={`M${x1} ${y1}L${x2} ${y2}`} />
      <path class="head" d={head} />
      {teacher !== null && (
        <text class="teacher" x={x1 + 16} y={(y1 + y2) / 2 + 6}>
          {words.value.taught_by(teacher)}
        </text>
      )}
    </g>
  );
}

/** So many letters fit; the whole name is in the title. What tells names apart often stands at their end. */
function cut(text: string, most: number): string {
  if (text.length <= most) return text;
  const end = Math.floor((most - 1) / 2);
  return `${text.slice(0, most - 1 - end)}…${text.slice(text.length - end)}`;
}

function Node({ ancestor, place, width, isFirst, isLast, teaches }: { ancestor: Ancestor; place: Place; width: number; isFirst: boolean; isLast: boolean; teaches: boolean }) {
  const say = words.value;
  const { name, method, here, teacher } = ancestor;
  const { x, y } = place;
  const kind = methodOf(method) ?? "origin";
  const about = methodIn(method) ?? (isFirst ? say.methods.origin : isLast ? say.this_one : "");
  const letters = Math.floor((width - 66) / 9);
  const body = (
    <g class={isLast ? "own" : here ? "link" : undefined}>
      <title>{[name, about].filter((part) => part !== "").join(", ")}</title>
      <rect class="box" x={x} y={y} width={width} height={HEIGHT} rx={10} />
      <rect class="disc" x={x + 12} y={y + 14} width={36} height={36} rx={10} />
      <svg x={x + 20} y={y + 22} width={20} height={20} viewBox="0 0 24 24" class="glyph">
        <path d={GLYPHS[kind]} />
      </svg>
      <text class="name" x={x + 58} y={y + (about === "" ? 37 : 28)}>
        {cut(parted(name).own, letters)}
      </text>
      {about !== "" && (
        <text class="how" x={x + 58} y={y + 46}>
          {cut(about, letters)}
        </text>
      )}
      {teaches && teacher !== null && (
        <g>
          <path class="lesson" d={`M${x + width / 2} ${y - 12}V${y - 2}`} />
          <text class="teacher" x={x + width / 2} y={y - 15} text-anchor="middle">
            {cut(say.taught_by(teacher), 30)}
          </text>
        </g>
      )}
    </g>
  );
  return here && !isLast ? <a href={href("models", name)}>{body}</a> : body;
}
