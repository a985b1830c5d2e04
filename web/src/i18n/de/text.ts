import type { TextWords } from "../en/text";
import { isolated, number } from "../format";

export const text: TextWords = {
  code: "Code",
  copy_code: "Code kopieren",
  copied: "Kopiert",
  table: "Tabelle",
  task: "Aufgabe",
  more_rows: (hidden) => `${number(hidden)} weitere Zeilen`,
  picture: (about) => `Bild, nicht geladen: ${isolated(about)}`,
};
