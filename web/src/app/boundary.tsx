// Where a part of the page that fails is held, so that what is around it goes on.

import { Component, type ComponentChildren } from "preact";
import { Button, Empty, Note } from "../ui/index";
import { RailButton } from "./rail_button";
import { words } from "./words";

type Properties = {
  /** What is drawn: something else is tried anew by itself. */
  of: unknown;
  /** A whole view, or a part among others. */
  look?: "view" | "part";
  children: ComponentChildren;
};

/** Draws what is in it; where that fails, says so and offers to try again. */
export class Boundary extends Component<Properties, { fault: { error: unknown } | null }> {
  override state = { fault: null };

  static override getDerivedStateFromError(error: unknown) {
    return { fault: { error } };
  }

  override componentDidCatch(error: unknown): void {
    console.error(error);
  }

  override componentDidUpdate({ of }: Properties): void {
    if (this.state.fault && of !== this.props.of) this.setState({ fault: null });
  }

  override render({ look = "part", children }: Properties, { fault }: { fault: { error: unknown } | null }) {
    if (!fault) return children;
    return look === "view" ? <FailedView {...fault} again={this.again} /> : <FailedPart {...fault} again={this.again} />;
  }

  private readonly again = (): void => this.setState({ fault: null });
}

type Failed = { error: unknown; again: () => void };

function Ways({ again }: Pick<Failed, "again">) {
  return (
    <>
      <Button small icon="refresh" onClick={again}>
        {words.value.again}
      </Button>
      <Button small onClick={() => location.reload()}>
        {words.value.reload}
      </Button>
    </>
  );
}

function FailedPart({ error, again }: Failed) {
  return (
    <Note tone="bad" title={words.value.broken} actions={<Ways again={again} />}>
      {words.value.broken_words(String(error))}
    </Note>
  );
}

function FailedView({ error, again }: Failed) {
  return (
    <>
      <header class="view-head">
        <RailButton />
      </header>
      <div class="failed-view" role="alert">
        <Empty icon="warning" title={words.value.broken} actions={<Ways again={again} />}>
          {words.value.broken_words(String(error))}
        </Empty>
      </div>
    </>
  );
}
