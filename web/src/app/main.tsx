import { effect } from "@preact/signals";
import { render } from "preact";
import { language } from "../i18n/index";
import "../ui/theme.css";
import "../ui/widgets.css";
import "./shell.css";
import { Boundary } from "./boundary";
import { keepForLater } from "./offline";
import { Shell } from "./shell";
import { refreshSession } from "./state";

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
if (import.meta.env.PROD) keepForLater();
