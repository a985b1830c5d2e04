import { runs as de } from "../i18n/de/runs";
import { runs as en } from "../i18n/en/runs";
import { dictionary } from "../i18n/index";
import { runs as zh } from "../i18n/zh/runs";

export const words = dictionary({ en, de, zh });
