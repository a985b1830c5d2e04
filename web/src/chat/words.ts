import { chat as de } from "../i18n/de/chat";
import { chat as en } from "../i18n/en/chat";
import { dictionary } from "../i18n/index";
import { chat as zh } from "../i18n/zh/chat";

export const words = dictionary({ en, de, zh });
