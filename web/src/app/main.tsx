import { effect } from "@preact/signals";
import { render } from "preact";
import { language } from "../i18n/index";
import "../ui/theme.css";
import "../ui/widgets.css";
import "./shell.css";
import { Boundary } from "./boundary";
import { keepForLater } from "./offline";
import { Shell } from "./shell";
import { hear, refreshSession } from "./state";

effect(() => {
  document.documentElement.lang = language.value === "zh" ? "zh-Hans" : language.value;
});

const root = document.getElementById("root");
if (root)
  render(
    <Boundary of="page">
      <Shell />
    </Boundary>,
    root,
  );
void refreshSession();
addEventListener("online", () => void refreshSession());
// Who signs in or out does so in every window: they share one cookie.
addEventListener("storage", hear);
if (import.meta.env.PROD) keepForLater();
