import { useEffect, useState } from "preact/hooks";

/** Seconds since a moment of the page's clock, anew a few times a second while it runs. */
export function useSeconds(since: number | null, isRunning: boolean): number {
  const [now, setNow] = useState(() => performance.now());
  useEffect(() => {
    if (!isRunning) return undefined;
    setNow(performance.now());
    const timer = setInterval(() => setNow(performance.now()), 250);
    return () => clearInterval(timer);
  }, [since, isRunning]);
  return since === null ? 0 : Math.max(0, (now - since) / 1000);
}
