// Runs that are followed, as long as something on the page looks at them.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { ApiError, isAborted } from "../api/http";
import { follow, run, type Whole } from "../api/runs";
import { RunData } from "./data";

export type Live = {
  id: string;
  data: RunData;
  whole: Whole | null;
  /** Why it cannot be shown. */
  fault: "unknown" | "failed" | null;
  /** Asks for the whole again, after something was done to it. */
  refresh: () => void;
  /** Begins anew, after something failed. */
  again: () => void;
};

/** Follows one run; who shows another is drawn anew, under another key. */
export function useRun(id: string): Live {
  const [whole, setWhole] = useState<Whole | null>(null);
  const [fault, setFault] = useState<Live["fault"]>(null);
  const [round, setRound] = useState(0);
  const data = useMemo(() => new RunData(), [id, round]);
  const refresh = useRef<() => void>(() => undefined);

  useEffect(() => {
    setWhole(null);
    setFault(null);
    const control = new AbortController();
    // The state and the stage it was told in: bills and scores change with them.
    let told = "";
    const fetch = async (): Promise<void> => {
      try {
        setWhole(await run(id, control.signal));
        setFault(null);
      } catch (error) {
        if (isAborted(error)) return;
        setFault(error instanceof ApiError && error.status === 404 ? "unknown" : "failed");
      }
    };
    refresh.current = () => void fetch();
    void fetch();
    follow(id, data.offsets, {
      signal: control.signal,
      connected: (is) => (data.isConnected.value = is),
      hear: (heard) => {
        data.hear(heard);
        if ("state" in heard) {
          const now = `${heard.state} ${heard.stopping} ${heard.stages.map((stage) => stage.state).join()}`;
          if (told !== "" && told !== now) void fetch();
          told = now;
        }
      },
    }).catch((error: unknown) => {
      if (!isAborted(error)) setFault(error instanceof ApiError && error.status === 404 ? "unknown" : "failed");
    });
    return () => control.abort();
  }, [data]);

  return { id, data, whole, fault, refresh: () => refresh.current(), again: () => setRound((n) => n + 1) };
}
