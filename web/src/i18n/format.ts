// Numbers, sizes, times and dates as the chosen language writes them.

import { language } from "./index";

type Options = Intl.NumberFormatOptions;
const formats = new Map<string, Intl.NumberFormat>();

/** A number. Formats are kept: making one costs more than using it. */
export function number(value: number, options: Options = {}): string {
  const key = `${language.value}${JSON.stringify(options)}`;
  let format = formats.get(key);
  if (!format) formats.set(key, (format = new Intl.NumberFormat(language.value, options)));
  return format.format(value);
}

/** A number in few places: 1,234 or 1.2M. */
export function short(value: number): string {
  if (Math.abs(value) < 10_000) return number(value, { maximumFractionDigits: 0 });
  return number(value, { notation: "compact", maximumFractionDigits: 1 });
}

/** To so many places that count, whatever its size. */
export const significant = (value: number, digits = 2): string =>
  number(value, { maximumSignificantDigits: digits });

/** A share as per cent. */
export const percent = (share: number, digits = 0): string =>
  number(share, { style: "percent", maximumFractionDigits: digits });

const prefixed = (value: number, base: number, units: readonly string[]): string => {
  let [rest, at] = [value, 0];
  while (Math.abs(rest) >= base && at < units.length - 1) {
    rest /= base;
    at += 1;
  }
  const digits = at === 0 || rest >= 100 ? 0 : rest >= 10 ? 1 : 2;
  return `${number(rest, { maximumFractionDigits: digits })} ${units[at]}`;
};

/** Marks that turn the direction of what follows them. */
const TURNS = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Words of others within a sentence of ours: whatever direction they have, the sentence keeps its own. */
export const isolated = (text: string): string => `\u2068${text.replace(TURNS, "")}\u2069`;

/** Bytes, in thousands: 1.5 GB. */
export const bytes = (value: number): string => prefixed(value, 1000, ["B", "kB", "MB", "GB", "TB"]);

/** Parameters or anything counted in billions: 1.5 B. */
export const count = (value: number): string => number(value, { notation: "compact", maximumSignificantDigits: 3 });

/** Operations on numbers. */
export const flops = (value: number): string =>
  prefixed(value, 1000, ["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"]);

/** A length of time: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min. */
export function seconds(value: number): string {
  if (value < 0.001) return `${number(value * 1000, { maximumSignificantDigits: 2 })} ms`;
  if (value < 1) return `${number(value * 1000, { maximumFractionDigits: 0 })} ms`;
  if (value < 9.95) return `${number(value, { minimumFractionDigits: 1, maximumFractionDigits: 1 })} s`;
  if (value < 59.5) return `${number(value, { maximumFractionDigits: 0 })} s`;
  const whole = Math.round(value);
  const two = (part: number): string => String(part).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  const minutes = Math.round(value / 60);
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
  return `${number(value / 86_400, { maximumFractionDigits: 1 })} d`;
}

/** Energy. Joules up to thousands, then watt hours. */
export function energy(joules: number): string {
  if (joules < 3600) return joules < 1 ? `${significant(joules * 1000)} mJ` : `${significant(joules, 3)} J`;
  return prefixed(joules / 3600, 1000, ["Wh", "kWh", "MWh"]);
}

/** Money, with as many places as a small sum needs. */
export function money(value: number, currency: string): string {
  if (!/^[A-Z]{3}$/.test(currency)) return significant(value);
  const small = value !== 0 && Math.abs(value) < 0.01;
  const digits: Options = small ? { maximumSignificantDigits: 2 } : { maximumFractionDigits: 2 };
  return number(value, { style: "currency", currency, currencyDisplay: "narrowSymbol", ...digits });
}

/** A day and its time. */
export function date(unix: number, options: Intl.DateTimeFormatOptions = { dateStyle: "medium", timeStyle: "short" }): string {
  return new Intl.DateTimeFormat(language.value, options).format(unix * 1000);
}

/** How long ago: 5 minutes ago, yesterday. */
export function ago(unix: number, now = Date.now() / 1000): string {
  const relative = new Intl.RelativeTimeFormat(language.value, { numeric: "auto" });
  const past = unix - now;
  const steps = [
    ["day", 86_400],
    ["hour", 3600],
    ["minute", 60],
  ] as const;
  if (past < -30 * 86_400) return date(unix, { dateStyle: "medium" });
  for (const [unit, length] of steps) {
    if (Math.abs(past) >= length) return relative.format(Math.round(past / length), unit);
  }
  return relative.format(0, "minute");
}
