import { shell as de } from "../i18n/de/shell";
import { shell as en } from "../i18n/en/shell";
import { dictionary } from "../i18n/index";
import { shell as zh } from "../i18n/zh/shell";

export const words = dictionary({ en, de, zh });
