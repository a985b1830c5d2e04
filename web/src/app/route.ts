// The address after `#`: which view, and of what. `#/chat/ID`, `#/models/NAME`, `#/runs/ID`.

import { signal } from "@preact/signals";

export type Area = "chat" | "models" | "runs";
export type Route = { area: Area | null; id: string | null };

export function read(hash: string): Route {
  const [, area = "chat", ...rest] = hash.split("/");
  const known = area === "chat" || area === "models" || area === "runs" || area === "";
  let id: string | null = null;
  try {
    // Names of models hold slashes; they are written as they are or escaped.
    id = rest.length > 0 ? decodeURIComponent(rest.join("/")) : null;
  } catch {
    return { area: null, id: null };
  }
  return { area: known ? ((area || "chat") as Area) : null, id: id === "" ? null : id };
}

export const href = (area: Area, id?: string | null): string =>
  id ? `#/${area}/${encodeURIComponent(id)}` : `#/${area}`;

/** Where we are. */
export const route = signal<Route>(read(location.hash));
addEventListener("hashchange", () => (route.value = read(location.hash)));

/** Goes somewhere. `replace` leaves no step back. */
export function go(area: Area, id?: string | null, how: "push" | "replace" = "push"): void {
  const target = href(area, id);
  if (location.hash === target) return;
  if (how === "push") location.hash = target;
  else {
    history.replaceState(null, "", target);
    route.value = read(target);
  }
}
