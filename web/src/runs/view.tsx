// The view of runs: all of them (`#/runs`), one (`#/runs/ID`), or some over each other
// (`#/runs/ID,ID`).

import { Comparison } from "./compare";
import { One } from "./one";
import { Overview } from "./overview";
import "./runs.css";

export function View({ id }: { id: string | null }) {
  if (id === null) return <Overview />;
  const ids = id.split(",").filter((part) => part !== "");
  return ids.length > 1 ? <Comparison ids={ids} /> : <One key={id} id={ids[0] ?? id} />;
}
