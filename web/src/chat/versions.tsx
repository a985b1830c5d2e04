import { IconButton } from "../ui/index";
import type { Turn } from "./tree";
import { words } from "./words";

/** Moves between the versions of a turn: ‹ 2/3 ›. Nothing where there is one. */
export function Versions({
  place: { at, of, before, after },
  choose,
}: {
  place: { at: number; of: number; before: Turn | null; after: Turn | null };
  choose: (turn: Turn) => void;
}) {
  if (of < 2) return null;
  const say = words.value;
  return (
    <span class="versions" role="group" aria-label={say.versions}>
      <IconButton small icon="chevron_left" label={say.version_before} disabled={!before} onClick={() => before && choose(before)} />
      <span aria-label={say.version_of(at + 1, of)}>
        {at + 1}/{of}
      </span>
      <IconButton small icon="chevron_right" label={say.version_after} disabled={!after} onClick={() => after && choose(after)} />
    </span>
  );
}
