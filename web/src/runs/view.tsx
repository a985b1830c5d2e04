import { RailButton } from "../app/shell";
import { words } from "../app/words";

/** The view of runs. */
export function View({ id }: { id: string | null }) {
  return (
    <>
      <header class="view-head">
        <RailButton />
        <h1>{words.value.runs}</h1>
      </header>
      <div class="view-page">{id}</div>
    </>
  );
}
