// Markdown that is read when it comes near: far from view it stands as it was written, which costs one
// node and is found by the browser's own search.

import { useEffect, useRef, useState } from "preact/hooks";
import { AsWritten, Markdown } from "./markdown";

/** How far beyond the view things count as near. */
const MARGIN = "1600px 0px";

const waiting = new WeakMap<Element, () => void>();
let observer: IntersectionObserver | null = null;

function whenNear(element: Element, run: () => void): () => void {
  observer ??= new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) if (isIntersecting) waiting.get(target)?.();
    },
    { rootMargin: MARGIN },
  );
  waiting.set(element, run);
  observer.observe(element);
  return () => {
    waiting.delete(element);
    observer?.unobserve(element);
  };
}

/** `isNear`: known to be in view from the start. */
export function SoonMarkdown({ source, isNear }: { source: string; isNear: boolean }) {
  const [isRead, setRead] = useState(isNear);
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    // What is skipped while out of sight has no place of its own; its turn has.
    const turn = place.current?.closest(".turn") ?? place.current;
    return isRead || !turn ? undefined : whenNear(turn, () => setRead(true));
  }, [isRead]);
  if (isRead) return <Markdown source={source} />;
  return (
    <div ref={place} class="prose">
      <AsWritten text={source} />
    </div>
  );
}
