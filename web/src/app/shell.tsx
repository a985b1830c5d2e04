// The frame: a rail at the left (a drawer on phones), the view beside it, and what lies over all.

import { useEffect } from "preact/hooks";
import { Questions } from "../ui/dialog";
import { Button, Drawer, Empty, Icon, IconButton, type IconName, LinkButton, Menu } from "../ui/index";
import { say as toast, Toasts } from "../ui/toast";
import { type Language, language, LANGUAGES, speak } from "../i18n/index";
import { ApiError } from "../api/http";
import { Boundary } from "./boundary";
import { LazyView } from "./lazy";
import { type Area, href, route } from "./route";
import { SignIn } from "./signin";
import { isRailHidden, isRailOpen, leave, railContent, refreshSession, session, silence } from "./state";
import { choose, type Scheme, scheme } from "./theme";
import { words } from "./words";

const AREAS: readonly (readonly [Area, IconName])[] = [
  ["chat", "chat"],
  ["models", "cube"],
  ["runs", "chart"],
];

/** The mark: a fork that is also an F, as in the icon. */
function Mark() {
  return (
    <svg class="mark" width="26" height="26" viewBox="0 0 64 64" aria-hidden="true">
      <rect class="mark-ground" width="64" height="64" rx="15" />
      <path class="mark-line" d="M22 49V18.5A3.5 3.5 0 0 1 25.5 15H43M22 32h15" />
      <circle class="mark-dot" cx="43" cy="47" r="4" />
    </svg>
  );
}

function Areas() {
  const here = route.value.area;
  return (
    <nav aria-label={words.value.nav}>
      <ul class="areas">
        {AREAS.map(([area, icon]) => (
          <li key={area}>
            <a
              href={href(area)}
              aria-current={here === area ? "page" : undefined}
              onClick={() => (isRailOpen.value = false)}
            >
              <Icon name={icon} />
              {words.value[area]}
            </a>
          </li>
        ))}
      </ul>
    </nav>
  );
}

function Preferences() {
  const say = words.value;
  const schemes: [Scheme, string, IconName][] = [
    ["system", say.theme_system, "monitor"],
    ["light", say.theme_light, "sun"],
    ["dark", say.theme_dark, "moon"],
  ];
  const languages = Object.entries(LANGUAGES) as [Language, string][];
  const who = session.value;
  return (
    <Menu
      label={say.preferences}
      icon="settings"
      face={<span aria-hidden="true">{say.preferences}</span>}
      entries={[
        { title: say.theme },
        ...schemes.map(([name, label, icon]) => ({
          label,
          icon,
          chosen: scheme.value === name,
          run: () => choose(name),
        })),
        null,
        { title: say.language },
        ...languages.map(([name, label]) => ({ label, chosen: language.value === name, run: () => speak(name) })),
        ...(who?.keyed && who.name !== null
          ? [null, { label: say.sign_out, about: say.signed_in(who.name), icon: "signout" as const, run: () => void signOut() }]
          : []),
      ]}
    />
  );
}

async function signOut(): Promise<void> {
  try {
    await leave();
  } catch {
    toast(words.value.sign_out_failed, "bad");
  }
}

function Rail({ inDrawer }: { inDrawer: boolean }) {
  const Content = railContent.value;
  return (
    <div class="rail-inside">
      {!inDrawer && (
        <div class="rail-head">
          <a class="brand" href={href("chat")}>
            <Mark />
            {words.value.brand}
          </a>
          <IconButton icon="sidebar" label={words.value.hide_rail} onClick={() => (isRailHidden.value = true)} />
        </div>
      )}
      <Areas />
      <div class="rail-content">
        <Boundary of={Content}>{Content && <Content />}</Boundary>
      </div>
      <div class="rail-foot">
        <Preferences />
      </div>
    </div>
  );
}

function Main() {
  const { area, id } = route.value;
  if (area === null)
    return (
      <Empty
        icon="search"
        title={words.value.not_here}
        actions={<LinkButton href={href("chat")}>{words.value.to_chat}</LinkButton>}
      />
    );
  if (session.value === null && silence.value !== null) return <NoSession why={silence.value} />;
  // Until the server has said who asks, views would ask for what they may not have.
  if (session.value === null) return <div class="loading" />;
  if (session.value.keyed && session.value.name === null) return <SignIn />;
  return (
    <Boundary look="view" of={`${area} ${id}`}>
      <LazyView key={area} area={area} id={id} />
    </Boundary>
  );
}

/** The server says nothing of itself, or that it cannot. */
function NoSession({ why }: { why: unknown }) {
  const say = words.value;
  const fault = why instanceof ApiError ? why : null;
  return (
    <Empty
      icon="unplug"
      title={fault ? say.server_fault(fault.status) : say.no_connection}
      actions={<Button onClick={() => void refreshSession()}>{say.again}</Button>}
    >
      {fault ? fault.message : say.no_connection_words}
    </Empty>
  );
}

export function Shell() {
  const area = route.value.area;
  useEffect(() => {
    document.title = area === null || area === "chat" ? words.value.brand : `${words.value[area]} – ${words.value.brand}`;
  }, [area, words.value]);
  return (
    <div class={isRailHidden.value ? "shell rail-hidden" : "shell"}>
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          // The address belongs to the routes.
          event.preventDefault();
          document.getElementById("main")?.focus();
        }}
      >
        {words.value.skip}
      </a>
      <aside class="rail">
        <Rail inDrawer={false} />
      </aside>
      {isRailOpen.value && (
        <Drawer
          side="left"
          title={words.value.brand}
          closes={words.value.close}
          onClose={() => (isRailOpen.value = false)}
        >
          <Rail inDrawer />
        </Drawer>
      )}
      <main id="main" tabIndex={-1}>
        <Main />
      </main>
      <Questions />
      <Toasts closes={words.value.close} />
    </div>
  );
}
