// One model: where it came from, how fast it is here, what it is, what it cost, what its makers say.

import { useEffect, useState } from "preact/hooks";
import { href } from "../app/route";
import { session } from "../app/state";
import { ViewHead } from "../app/view_head";
import { ApiError, isAborted } from "../api/http";
import { type Model, oneModel } from "../api/models";
import { Button, Empty, LinkButton, Loading } from "../ui/index";
import { Deeds } from "./deeds";
import { findJobs } from "./jobs";
import { Jobs } from "./jobs_strip";
import { Name, reason, State } from "./parts";
import { About, Card, CostSheet, Descent, Speed } from "./sheets";
import { words } from "./words";

export function One({ name }: { name: string }) {
  const say = words.value;
  const [model, setModel] = useState<Model | null>(null);
  const [fault, setFault] = useState<unknown>(null);
  const manages = session.value?.may_manage ?? false;
  const refresh = async (signal?: AbortSignal): Promise<void> => {
    try {
      setModel(await oneModel(name, signal));
      setFault(null);
    } catch (error) {
      if (!isAborted(error)) setFault(error);
    }
  };
  useEffect(() => {
    const control = new AbortController();
    void refresh(control.signal);
    return () => control.abort();
  }, [name]);
  useEffect(() => {
    if (manages) void findJobs().catch(() => undefined);
  }, [manages]);
  return (
    <>
      <ViewHead title={<Name name={name} />} whole={name} back={["models", say.back]} state={model !== null && <State model={model} />}>
        {model !== null && <Deeds model={model} manages={manages} changed={refresh} />}
      </ViewHead>
      <div class="view-page">
        <div class="inside">
          {manages && <Jobs />}
          {model === null && fault === null && <Loading label={say.loading} />}
          {fault !== null && <Fault fault={fault} again={() => void refresh()} />}
          {model !== null && fault === null && (
            <div class="sheets">
              <Descent model={model} />
              <div class="stack">
                <Speed model={model} changed={refresh} />
                <CostSheet model={model} />
              </div>
              <About model={model} />
              <Card model={model} />
            </div>
          )}
        </div>
      </div>
    </>
  );
}

function Fault({ fault, again }: { fault: unknown; again: () => void }) {
  const say = words.value;
  const isGone = fault instanceof ApiError && fault.status === 404;
  return (
    <Empty
      icon="cube"
      title={isGone ? say.gone : say.failed}
      actions={
        <>
          <LinkButton href={href("models")}>{say.back}</LinkButton>
          {!isGone && <Button onClick={again}>{say.again}</Button>}
        </>
      }
    >
      {isGone ? say.gone_about : reason(fault, "")}
    </Empty>
  );
}
