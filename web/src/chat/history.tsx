// The conversations there are, in the rail: found by words, renamed, taken out, thrown away.

import { useEffect, useRef, useState } from "preact/hooks";
import { href, route } from "../app/route";
import { isRailOpen } from "../app/state";
import type { ChatEntry } from "../api/chats";
import { Button, Dialog, type Entry, Icon, Menu, SearchField, TextField } from "../ui/index";
import { exportAll, exportChats, hasEntries, importChats, removeChat, renameChat, renaming } from "./history_acts";
import { entries, moreEntries, refreshEntries, refreshEntriesSoon, search } from "./list";
import { current, isAnswering, startNew } from "./state";
import { words } from "./words";

const DAY = 86_400;

export function History() {
  const say = words.value;
  const { data, next, state } = entries.value;
  const file = useRef<HTMLInputElement>(null);
  const deeds: Entry[] = [
    { label: say.import_chats, icon: "upload", run: () => file.current?.click() },
    { label: say.export_all, icon: "download", disabled: !hasEntries(), run: () => void exportAll() },
  ];
  return (
    <section class="history" aria-label={say.history}>
      <div class="history-head">
        <Button
          class="new-chat"
          icon="plus"
          onClick={() => {
            isRailOpen.value = false;
            startNew();
          }}
        >
          {say.new_chat}
        </Button>
        <Menu icon="more" side="end" label={say.history_deeds} entries={deeds} />
        <input
          ref={file}
          type="file"
          accept="application/json,.json"
          hidden
          onChange={(event) => {
            const own = event.currentTarget;
            const given = own.files?.[0];
            own.value = "";
            if (given) void importChats(given);
          }}
        />
      </div>
      {(data.length > 0 || search.value !== "") && (
        <div class="history-search">
          <SearchField
            id="chat-search"
            label={say.search}
            value={search.value}
            onInput={(text) => {
              search.value = text;
              refreshEntriesSoon();
            }}
          />
        </div>
      )}
      <div class="history-list">
        {state === "failed" && (
          <div class="history-note" role="alert">
            <p>{say.history_failed}</p>
            <Button small onClick={() => void refreshEntries()}>
              {say.ended.again}
            </Button>
          </div>
        )}
        {state === "there" && data.length === 0 && (
          <p class="history-note">{search.value === "" ? say.history_empty : say.search_none}</p>
        )}
        {groups(data).map(([title, group]) => (
          <div key={title}>
            <h3>{title}</h3>
            <ul>
              {group.map((entry) => (
                <Line key={entry.id} entry={entry} />
              ))}
            </ul>
          </div>
        ))}
        {next !== null && (
          <Button kind="quiet" small onClick={() => void moreEntries()}>
            {say.older}
          </Button>
        )}
      </div>
      {renaming.value && <Rename {...renaming.value} />}
    </section>
  );
}

function groups(data: readonly ChatEntry[]): [string, ChatEntry[]][] {
  const say = words.value.when;
  const midnight = new Date().setHours(0, 0, 0, 0) / 1000;
  const bounds: [string, number][] = [
    [say.today, midnight],
    [say.yesterday, midnight - DAY],
    [say.week, midnight - 7 * DAY],
    [say.month, midnight - 30 * DAY],
    [say.before, -Infinity],
  ];
  const out = new Map<string, ChatEntry[]>();
  for (const entry of data) {
    const [title] = bounds.find(([, from]) => entry.updated_at >= from) ?? [say.before];
    out.set(title, [...(out.get(title) ?? []), entry]);
  }
  return [...out];
}

function Line({ entry: { id, title } }: { entry: ChatEntry }) {
  const say = words.value;
  const isHere = current.value?.id === id && route.value.area === "chat";
  // Looked at so that a line changes when the answer in front ends.
  void current.value?.live.value;
  return (
    <li class={isHere ? "line here" : "line"}>
      <a href={href("chat", id)} aria-current={isHere ? "page" : undefined} title={title} onClick={() => (isRailOpen.value = false)}>
        <span class="truncate" dir="auto">
          {title || say.untitled}
        </span>
        {isAnswering(id) && <Icon name="spinner" size={14} />}
      </a>
      <Menu
        small
        icon="more"
        side="end"
        label={say.deeds_of(title)}
        entries={[
          { label: say.rename, icon: "edit", run: () => (renaming.value = { id, title }) },
          { label: say.export_markdown, icon: "download", run: () => void exportChats([id], "markdown") },
          { label: say.export_json, icon: "download", run: () => void exportChats([id], "json") },
          null,
          { label: say.remove, icon: "trash", kind: "danger", run: () => void removeChat(id, title) },
        ]}
      />
    </li>
  );
}

function Rename({ id, title }: { id: string; title: string }) {
  const say = words.value;
  const [name, setName] = useState(title);
  const close = (): void => void (renaming.value = null);
  useEffect(() => setName(title), [id]);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    close();
    if (name.trim() !== "") await renameChat(id, name.trim().slice(0, 200));
  };
  return (
    <Dialog
      title={say.rename}
      closes={say.cancel}
      onClose={close}
      foot={
        <>
          <Button onClick={close}>{say.cancel}</Button>
          <Button kind="primary" disabled={name.trim() === ""} onClick={submit}>
            {say.save}
          </Button>
        </>
      }
    >
      <form onSubmit={submit}>
        <TextField label={say.title} value={name} onInput={setName} autofocus />
      </form>
    </Dialog>
  );
}

