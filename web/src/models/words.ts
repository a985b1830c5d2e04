import { models as de } from "../i18n/de/models";
import { models as en } from "../i18n/en/models";
import { dictionary } from "../i18n/index";
import { models as zh } from "../i18n/zh/models";

export const words = dictionary({ en, de, zh });
