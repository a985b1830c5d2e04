// The view of runs: all of them (`#/runs`), one (`#/runs/ID`), or some over each other
// (`#/runs/ID,ID`).

import { useEffect } from "preact/hooks";
import { href, route } from "../app/route";
import { isRailOpen, railContent } from "../app/state";
import { Comparison } from "./compare";
import { useList } from "./list";
import { One } from "./one";
import { Overview } from "./overview";
import "./runs.css";
import { words } from "./words";

/** Runs that the rail names. */
const MOST_NAMED = 24;

/** The runs in the rail, to go from one to the next. */
function Named() {
  const { list } = useList();
  const chosen = (route.value.id ?? "").split(",");
  if (!list || list.data.length === 0) return null;
  return (
    <nav class="rail-runs" aria-label={words.value.title}>
      <ul>
        {list.data.slice(0, MOST_NAMED).map((run) => (
          <li key={run.id}>
            <a
              href={href("runs", run.id)}
              aria-current={chosen.includes(run.id) ? "page" : undefined}
              onClick={() => (isRailOpen.value = false)}
            >
              <i class="state-dot" data-state={run.state} title={words.value.state[run.state]} />
              <span class="truncate">{run.name}</span>
            </a>
          </li>
        ))}
      </ul>
    </nav>
  );
}

export function View({ id }: { id: string | null }) {
  useEffect(() => {
    railContent.value = Named;
    return () => void (railContent.value = null);
  }, []);
  if (id === null) return <Overview />;
  const ids = id.split(",").filter((part) => part !== "");
  return ids.length > 1 ? <Comparison ids={ids} /> : <One key={id} id={ids[0] ?? id} />;
}
