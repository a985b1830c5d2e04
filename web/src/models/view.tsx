// The view of models: all of them (`#/models`) or one (`#/models/NAME`).

import { List } from "./list";
import { One } from "./one";
import "./models.css";

export function View({ id }: { id: string | null }) {
  return id === null ? <List /> : <One key={id} name={id} />;
}
