import { type ComponentChildren, Component, type FunctionComponent } from "preact";

/** A component that is drawn again only where `same` says that its properties differ. */
export function memo<P extends object>(
  Inner: FunctionComponent<P>,
  same: (old: P, now: P) => boolean,
): FunctionComponent<P> {
  class Memo extends Component<P> {
    override shouldComponentUpdate(now: P): boolean {
      return !same(this.props as P, now);
    }
    override render(): ComponentChildren {
      return <Inner {...(this.props as P)} />;
    }
  }
  return Memo as unknown as FunctionComponent<P>;
}
