// Views come when they are first looked at.

import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Button, Empty, Loading } from "../ui/index";
import type { Area } from "./route";
import { words } from "./words";

/** What a view's module gives. `id` is the part of the address after the area. */
export type ViewModule = { View: ComponentType<{ id: string | null }> };

const VIEWS: Record<Area, () => Promise<ViewModule>> = {
  chat: () => import("../chat/view"),
  models: () => import("../models/view"),
  runs: () => import("../runs/view"),
};

const loaded = new Map<Area, ViewModule>();

export function LazyView({ area, id }: { area: Area; id: string | null }) {
  const [, redraw] = useState(0);
  const [failed, setFailed] = useState(false);
  const module = loaded.get(area);
  const load = (): void => {
    setFailed(false);
    VIEWS[area]().then(
      (module) => {
        loaded.set(area, module);
        redraw((n) => n + 1);
      },
      () => setFailed(true),
    );
  };
  useEffect(() => {
    if (!loaded.has(area)) load();
  }, [area]);
  if (module) return <module.View id={id} />;
  if (failed)
    return (
      <Empty
        icon="unplug"
        title={words.value.view_failed}
        actions={
          <>
            <Button onClick={load}>{words.value.again}</Button>
            <Button onClick={() => location.reload()}>{words.value.reload}</Button>
          </>
        }
      >
        {words.value.view_failed_words}
      </Empty>
    );
  return <Loading label={words.value.loading} />;
}
