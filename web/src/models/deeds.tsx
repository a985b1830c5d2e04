// What can be done with a model: asked, loaded, checked, removed; most of it by those who may.

import { useState } from "preact/hooks";
import { go } from "../app/route";
import { loadModel, type Model, removeModel, unloadModel, verifyModel } from "../api/models";
import { bytes } from "../i18n/format";
import { Button, confirm, type Entry, Menu, say as tell } from "../ui/index";
import { isUnderWay, watchJob } from "./jobs";
import { reason } from "./parts";
import { words } from "./words";

/** Does something and says that it was done, or why not. While it is being done there is `isBusy`. */
export function useDeed(changed: () => Promise<void>) {
  const [isBusy, setBusy] = useState(false);
  const act = async (deed: () => Promise<unknown>, done?: string): Promise<void> => {
    setBusy(true);
    try {
      await deed();
      if (done !== undefined) tell(done, "good");
      await changed();
    } catch (error) {
      tell(reason(error, words.value.failed), "bad");
    } finally {
      setBusy(false);
    }
  };
  return { isBusy, act };
}

export function Deeds({ model, manages, changed }: { model: Model; manages: boolean; changed: () => Promise<void> }) {
  const say = words.value;
  const { name, loaded, served, stored } = model;
  const { isBusy, act } = useDeed(changed);
  const isChecked = isUnderWay(name);
  const remove = async (): Promise<void> => {
    const answer = await confirm({
      title: say.remove_title(name),
      words: say.remove_words(bytes(model.bytes)),
      yes: say.remove,
      no: say.cancel,
      isDanger: true,
    });
    if (!answer) return;
    try {
      await removeModel(name);
      tell(say.removed(name), "good");
      go("models");
    } catch (error) {
      tell(reason(error, say.failed), "bad");
    }
  };
  const verify = async (): Promise<void> => watchJob(await verifyModel(name), "verify", name);
  if (!manages) return served ? <ChatButton name={name} /> : null;
  const entries: Entry[] = [
    { label: say.verify, icon: "shield", disabled: isChecked, run: () => void act(verify) },
    null,
    {
      label: say.remove,
      about: loaded ? say.unload_first : undefined,
      icon: "trash",
      kind: "danger",
      disabled: loaded || isChecked,
      run: () => void remove(),
    },
  ];
  return (
    <>
      {served && <ChatButton name={name} />}
      {served && !loaded && (
        <Button kind="primary" icon={isBusy ? "spinner" : "bolt"} disabled={isBusy} onClick={() => void act(() => loadModel(name), say.is_loaded(name))}>
          {isBusy ? say.loading : say.load}
        </Button>
      )}
      {loaded && (
        <Button disabled={isBusy} onClick={() => void act(() => unloadModel(name), say.is_unloaded(name))}>
          {say.unload}
        </Button>
      )}
      {stored && <Menu label={say.more} icon="more" side="end" entries={entries} />}
    </>
  );
}

/** Begins a chat with this model. */
function ChatButton({ name }: { name: string }) {
  const start = async (): Promise<void> => {
    const { startWith } = await import("../chat/state");
    startWith(name);
  };
  return (
    <Button icon="chat" onClick={() => void start()}>
      {words.value.chat}
    </Button>
  );
}
