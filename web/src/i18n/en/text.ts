import { isolated, number } from "../format";

export const text = {
  code: "Code",
  copy_code: "Copy the code",
  copied: "Copied",
  table: "Table",
  task: "Task",
  more_rows: (hidden: number) => `${number(hidden)} more rows`,
  picture: (about: string) => `Picture, not loaded: ${isolated(about)}`,
};

export type TextWords = typeof text;
