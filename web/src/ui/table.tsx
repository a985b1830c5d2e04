// Rows under heads, some of which sort.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { Icon } from "./icon";

/** A column: its head, what stands in it, and what it is sorted by, if it can be. */
export type Column<T> = {
  head: string;
  cell: (row: T) => ComponentChildren;
  /** The row's name; a number; or what needs room, such as a bar. */
  as?: "name" | "number" | "wide";
  sort?: (row: T) => number | string;
};

type Order = { at: number; down: boolean };

function sorted<T>(rows: readonly T[], columns: readonly Column<T>[], by: Order | null): readonly T[] {
  const key = by === null ? undefined : columns[by.at]?.sort;
  if (key === undefined) return rows;
  return [...rows].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
    return by?.down ? -order : order;
  });
}

function Head<T>({ columns, by, setBy }: { columns: readonly Column<T>[]; by: Order | null; setBy: (by: Order) => void }) {
  return (
    <tr>
      {columns.map(({ head, as, sort }, at) => {
        const own = by?.at === at ? by : null;
        const order = own === null ? "none" : own.down ? "descending" : "ascending";
        return (
          <th key={at} scope="col" class={as} aria-sort={sort ? order : undefined}>
            {sort ? (
              <button type="button" onClick={() => setBy({ at, down: own !== null && !own.down })}>
                {head}
                {own && <Icon name={own.down ? "arrow_down" : "arrow_up"} size={12} />}
              </button>
            ) : (
              head
            )}
          </th>
        );
      })}
    </tr>
  );
}

/**
 * A table that scrolls sideways where it is wide. `foot` is the row that sums up. With `onOpen` a row is
 * a link, by its first cell's own link or by a click.
 */
export function Table<T>({
  label,
  hasCaption = false,
  rows,
  columns,
  id,
  foot,
  onOpen,
}: {
  label: string;
  /** Whether the label is also seen. */
  hasCaption?: boolean;
  rows: readonly T[];
  columns: readonly Column<T>[];
  id: (row: T) => string | number;
  foot?: T;
  onOpen?: (row: T) => void;
}) {
  const [by, setBy] = useState<Order | null>(null);
  const cells = (row: T) =>
    columns.map(({ cell, as }, at) =>
      as === "name" ? (
        <th key={at} scope="row">
          {cell(row)}
        </th>
      ) : (
        <td key={at} class={as}>
          {cell(row)}
        </td>
      ),
    );
  const open = (event: MouseEvent, row: T): void => {
    // A click on a control inside is that control's.
    if (!(event.target as Element).closest("a, button, input")) onOpen?.(row);
  };
  return (
    <div class="table-frame" tabIndex={0} role="region" aria-label={label}>
      <table class="table">
        {hasCaption && <caption>{label}</caption>}
        <thead>
          <Head columns={columns} by={by} setBy={setBy} />
        </thead>
        <tbody>
          {sorted(rows, columns, by).map((row) => (
            <tr key={id(row)} class={onOpen && "link"} onClick={(event) => open(event, row)}>
              {cells(row)}
            </tr>
          ))}
        </tbody>
        {foot !== undefined && (
          <tfoot>
            <tr>{cells(foot)}</tr>
          </tfoot>
        )}
      </table>
    </div>
  );
}
