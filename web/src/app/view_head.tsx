import type { ComponentChildren } from "preact";
import { Icon } from "../ui/index";
import { type Area, href } from "./route";
import { RailButton } from "./rail_button";

/** The head of a view: its name, how it stands, and what can be done. `back` leads to all of its kind. */
export function ViewHead({
  title,
  whole,
  back,
  state,
  children,
}: {
  title: ComponentChildren;
  /** The title as a tooltip, where it may be cut. */
  whole?: string | undefined;
  back?: readonly [Area, string];
  state?: ComponentChildren;
  children?: ComponentChildren;
}) {
  return (
    <header class="view-head named">
      <div class="view-title">
        <RailButton />
        {back && (
          <a class="button quiet bare" href={href(back[0])} aria-label={back[1]} title={back[1]}>
            <Icon name="chevron_left" />
          </a>
        )}
        <h1 class="truncate" title={whole}>
          {title}
        </h1>
        {state}
      </div>
      <div class="view-deeds">{children}</div>
    </header>
  );
}
