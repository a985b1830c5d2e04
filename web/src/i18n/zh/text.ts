import type { TextWords } from "../en/text";
import { isolated, number } from "../format";

export const text: TextWords = {
  code: "代码",
  copy_code: "复制代码",
  copied: "已复制",
  table: "表格",
  task: "任务",
  more_rows: (hidden) => `另有 ${number(hidden)} 行`,
  picture: (about) => `图片（未加载）：${isolated(about)}`,
};
