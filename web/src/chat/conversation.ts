// A conversation that is open: its document, what is being answered in it, and its place in the store.

import { signal, type Signal } from "@preact/signals";
import { readDocument } from "./document";
import { type Draft, EMPTY } from "./drafts";
import { type ChatStore, Conflict } from "./kept";
import { type Document, merged, titleOf, type Turn, withTurns } from "./tree";

/** How far an answer has come. */
export type Phase = "waiting" | "thinking" | "answering";

/** An answer that is being written. Its texts are apart from the document: they change with each token. */
export type Live = {
  readonly phase: Signal<Phase>;
  readonly content: Signal<string>;
  readonly reasoning: Signal<string>;
  /** Pieces so far, which are nearly as many as tokens. */
  readonly tokens: Signal<number>;
  readonly thoughtTokens: Signal<number>;
  /** Milliseconds, of the page's own clock. */
  readonly startedAt: number;
  thoughtAt: number | null;
  answerAt: number | null;
  /** By which the server knows it. */
  id: string | null;
  /** Whether its thought was asked to end. */
  readonly isHurried: Signal<boolean>;
  readonly stop: () => void;
};

const SAVE_MILLISECONDS = 400;

export class Conversation {
  readonly title = signal("");
  readonly document: Signal<Document>;
  readonly live = signal<ReadonlyMap<string, Live>>(new Map());
  /** What went wrong with an answer, by its turn. */
  readonly faults = signal<ReadonlyMap<string, unknown>>(new Map());
  /** Why the last attempt to keep it failed. */
  readonly unsaved = signal<unknown>(null);
  /** What is being written to be asked next. */
  readonly draft = signal<Draft>(EMPTY);
  private revision: number;
  /** The title that the store has. */
  private storedTitle: string;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private saving: Promise<void> = Promise.resolve();
  private writes = 0;
  private isGone = false;

  constructor(
    readonly id: string,
    document: Document,
    private readonly store: ChatStore,
    private readonly onSaved: () => void,
    stored: { title: string; revision: number } = { title: "", revision: 0 },
  ) {
    this.document = signal(document);
    this.title.value = this.storedTitle = stored.title;
    this.revision = stored.revision;
  }

  /** Whether the store has it, or is about to. */
  get isKept(): boolean {
    return this.revision > 0 || Object.keys(this.document.value.nodes).length > 0;
  }

  get isAnswering(): boolean {
    return this.live.value.size > 0;
  }

  /** Whether the store has all of it, and nothing is to come. */
  get isSettled(): boolean {
    return !this.isAnswering && this.timer === undefined && this.writes === 0 && this.unsaved.value === null;
  }

  change(document: Document): void {
    this.document.value = document;
    if (Object.keys(document.nodes).length > 0) this.keep();
  }

  put(...turns: Turn[]): void {
    this.change(withTurns(this.document.value, ...turns));
  }

  rename(title: string): void {
    this.title.value = title;
    this.keep();
  }

  fail(turn: string, fault: unknown): void {
    const faults = new Map(this.faults.value);
    if (fault === null) faults.delete(turn);
    else faults.set(turn, fault);
    this.faults.value = faults;
  }

  setLive(turn: string, live: Live | null): void {
    const all = new Map(this.live.value);
    if (live) all.set(turn, live);
    else all.delete(turn);
    this.live.value = all;
  }

  /** Saves it soon; changes that follow quickly are saved together. */
  keep(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.save(), SAVE_MILLISECONDS);
  }

  /** Saves it now, behind what is being saved already. */
  save(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.writes += 1;
    this.saving = this.saving.then(() => this.write());
    return this.saving;
  }

  /** Ends its answers; nothing more of it is kept. */
  close(): void {
    this.isGone = true;
    clearTimeout(this.timer);
    for (const live of this.live.value.values()) live.stop();
  }

  /** Takes it out of the store; where that fails it goes on as it was. */
  async remove(): Promise<void> {
    this.isGone = true;
    try {
      await this.saving;
      await this.store.remove(this.id);
    } catch (error) {
      this.isGone = false;
      this.keep();
      throw error;
    }
    this.close();
  }

  /** The document with what has come of answers so far. */
  snapshot(): Document {
    const document = this.document.value;
    const written = [...this.live.value].flatMap(([id, live]) => {
      const turn = document.nodes[id];
      const reasoning = live.reasoning.value;
      return turn ? [{ ...turn, content: live.content.value, reasoning: reasoning === "" ? null : reasoning }] : [];
    });
    return written.length > 0 ? withTurns(document, ...written) : document;
  }

  private async write(): Promise<void> {
    try {
      if (this.isGone || !this.isKept) return;
      await this.tryWrite(true);
      this.unsaved.value = null;
      this.onSaved();
    } catch (error) {
      this.unsaved.value = error;
    } finally {
      this.writes -= 1;
    }
  }

  private async tryWrite(mayMerge: boolean): Promise<void> {
    const document = this.snapshot();
    // Once it has a name it keeps it, whichever branch is in front.
    this.title.value ||= titleOf(document);
    const title = this.title.value;
    try {
      this.revision = await this.store.save({ id: this.id, title, document, revision: this.revision });
      this.storedTitle = title;
    } catch (error) {
      if (!(error instanceof Conflict) || !mayMerge) throw error;
      // Changed in another window: turns of both are kept.
      const stored = await this.store.load(this.id);
      // Closed meanwhile: it is not for whoever is here now.
      if (this.isGone) return;
      const theirs = stored && readDocument(stored.document);
      if (stored) {
        // A title is what was chosen last; who has not chosen takes theirs.
        if (this.title.value === this.storedTitle) this.title.value = stored.title;
        this.storedTitle = stored.title;
      }
      this.revision = stored?.revision ?? 0;
      if (theirs) this.document.value = merged(this.document.value, theirs);
      await this.tryWrite(false);
    }
  }
}

/** What is shown as the title. */
export const shownTitle = (conversation: Conversation): string =>
  conversation.title.value || titleOf(conversation.document.value);

