import { text as de } from "../i18n/de/text";
import { text as en } from "../i18n/en/text";
import { dictionary } from "../i18n/index";
import { text as zh } from "../i18n/zh/text";

export const words = dictionary({ en, de, zh });
