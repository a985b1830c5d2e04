// The head of the chat: who answers, how full the conversation is, and what can be set.

import { go, href } from "../app/route";
import { RailButton } from "../app/rail_button";
import { bytes, count, money, number, seconds } from "../i18n/format";
import { Badge, type Entry, Icon, IconButton, LinkButton, Menu, Popover } from "../ui/index";
import { type Conversation, shownTitle } from "./conversation";
import { exportChats, removeChat, renaming } from "./history_acts";
import { ContextMeter } from "./meter";
import { cards, models, rememberModel } from "./served";
import { changed, USUAL } from "./settings";
import { isHelpOpen, isSettingsOpen, whose } from "./sheets";
import { startNew } from "./state";
import type { Document } from "./tree";
import { words } from "./words";

export function ChatHead({ conversation }: { conversation: Conversation }) {
  const say = words.value;
  const document = conversation.document.value;
  const { rival } = document;
  const set = (part: Partial<Document>): void => conversation.change({ ...document, ...part });
  const many = changed(document.settings) + (document.system.trim() === "" ? 0 : 1);
  const openSettings = (of: "own" | "rival"): void => {
    whose.value = of;
    isSettingsOpen.value = true;
  };
  const toggleRival = (): void => {
    const other = (models.value ?? []).find((model) => model.id !== document.model)?.id ?? document.model;
    set({ rival: rival ? null : { model: other, settings: { ...USUAL } } });
  };
  return (
    <header class={rival ? "view-head chat-head comparing" : "view-head chat-head"}>
      <RailButton />
      <h1 class="hidden-text">{shownTitle(conversation) || say.new_chat}</h1>
      <div class="answerers">
        <ModelPicker
          label={say.model}
          value={document.model}
          onChange={(model) => {
            rememberModel(model);
            set({ model });
          }}
        />
        {rival ? (
          <>
            <span class="muted">{say.against}</span>
            <ModelPicker label={say.second_model} value={rival.model} onChange={(model) => set({ rival: { ...rival, model } })} />
            <IconButton small icon="sliders" label={say.second_settings} onClick={() => openSettings("rival")} />
            <IconButton small icon="close" label={say.compare_end} onClick={toggleRival} />
          </>
        ) : (
          <span class="only-wide">
            <CardButton name={document.model} />
          </span>
        )}
      </div>
      <span class="space" />
      <ContextMeter conversation={conversation} />
      <IconButton class="only-wide" icon="compare" label={rival ? say.compare_end : say.compare} aria-pressed={rival !== null} onClick={toggleRival} />
      <span class="with-count">
        <IconButton icon="sliders" label={many > 0 ? `${say.settings} (${number(many)})` : say.settings} onClick={() => openSettings("own")} />
        {many > 0 && <i class="dot" />}
      </span>
      <IconButton class="only-narrow" icon="plus" label={say.new_chat} onClick={startNew} />
      <More conversation={conversation} toggleRival={toggleRival} />
    </header>
  );
}

function More({ conversation, toggleRival }: { conversation: Conversation; toggleRival: () => void }) {
  const say = words.value;
  const { id } = conversation;
  const { model } = conversation.document.value;
  const kept = conversation.isKept;
  const entries: Entry[] = [
    { label: conversation.document.value.rival ? say.compare_end : say.compare, icon: "compare", run: toggleRival },
    ...(model === null ? [] : [{ label: say.about_model(model), icon: "info" as const, run: () => go("models", model) }]),
    { label: say.shortcuts, icon: "help", run: () => (isHelpOpen.value = true) },
    null,
    { label: say.rename, icon: "edit", disabled: !kept, run: () => (renaming.value = { id, title: shownTitle(conversation) }) },
    { label: say.export_markdown, icon: "download", disabled: !kept, run: () => void exportChats([id], "markdown") },
    { label: say.export_json, icon: "download", disabled: !kept, run: () => void exportChats([id], "json") },
    { label: say.remove, icon: "trash", kind: "danger", disabled: !kept, run: () => void removeChat(id, shownTitle(conversation)) },
  ];
  return <Menu icon="more" side="end" label={say.more_deeds} entries={entries} />;
}

function ModelPicker({ label, value, onChange }: { label: string; value: string | null; onChange: (name: string) => void }) {
  const say = words.value;
  const all = models.value ?? [];
  const entries: Entry[] = all.map((model) => ({
    label: model.id,
    about: aboutIn(model.id),
    chosen: model.id === value,
    run: () => onChange(model.id),
  }));
  // One that the server has no more is still what answered here.
  if (value !== null && !all.some((model) => model.id === value) && all.length > 0) entries.push({ label: value, about: say.not_served, chosen: true, run: () => undefined });
  return (
    <Menu
      label={label}
      disabled={entries.length === 0}
      face={
        <>
          <span class="model-name truncate">{value ?? say.no_model}</span>
          <Icon name="chevron_down" size={14} />
        </>
      }
      entries={entries}
    />
  );
}

/** A model in a line: parameters, form, size, licence, as far as they are known. */
function aboutIn(name: string): string | undefined {
  const card = cards.value.get(name);
  const served = models.value?.find((model) => model.id === name);
  const parameters = card?.parameters ?? served?.about?.parameters;
  const size = card?.bytes ?? served?.bytes;
  const parts = [
    parameters ? count(parameters) : null,
    card?.quantization ?? null,
    size ? bytes(size) : null,
    card?.licence ?? served?.about?.licence ?? null,
  ].filter((part): part is string => !!part);
  return parts.length > 0 ? parts.join(" · ") : undefined;
}

/** What is known of the model, one click away. */
function CardButton({ name }: { name: string | null }) {
  const say = words.value;
  if (name === null) return null;
  return (
    <Popover small icon="info" label={say.about_model(name)}>
      {(close) => <Card name={name} close={close} />}
    </Popover>
  );
}

function Card({ name, close }: { name: string; close: () => void }) {
  const say = words.value.card;
  const card = cards.value.get(name);
  const served = models.value?.find((model) => model.id === name);
  const about = served?.about;
  const cost = card?.cost;
  const spent = cost && [
    cost.core_seconds ? say.core_time(seconds(cost.core_seconds)) : null,
    cost.money && cost.currency ? money(cost.money, cost.currency) : null,
  ].filter(Boolean).join(" · ");
  const parameters = card?.parameters ?? about?.parameters;
  const context = card?.context ?? served?.max_model_len;
  const size = card?.bytes ?? served?.bytes;
  const rows: [string, string | null | undefined][] = [
    [say.base, card?.base_models?.join(", ")],
    [say.parameters, parameters ? count(parameters) : null],
    [say.architecture, card?.architecture ?? about?.architecture],
    [say.form, card?.quantization],
    [say.size, size ? bytes(size) : null],
    [say.context, context ? words.value.tokens(context) : null],
    [say.method, card?.method],
    [say.licence, card?.licence ?? about?.licence],
    [say.cost, spent],
  ];
  return (
    <div class="model-card">
      <div class="model-card-head">
        <strong class="mono truncate">{name}</strong>
        {card?.loaded && <Badge tone="good">{say.loaded}</Badge>}
      </div>
      <dl class="bill">
        {rows.map(([head, value]) => (
          <div key={head}>
            <dt>{head}</dt>
            <dd class={value ? undefined : "muted"}>{value || say.unknown}</dd>
          </div>
        ))}
      </dl>
      <div onClick={close}>
        <LinkButton small icon="cube" href={href("models", name)}>
          {say.open}
        </LinkButton>
      </div>
    </div>
  );
}

