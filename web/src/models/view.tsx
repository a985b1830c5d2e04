import { RailButton } from "../app/shell";
import { words } from "../app/words";

/** The view of models. */
export function View({ id }: { id: string | null }) {
  return (
    <>
      <header class="view-head">
        <RailButton />
        <h1>{words.value.models}</h1>
      </header>
      <div class="view-page">{id}</div>
    </>
  );
}
