// What can be done with a run: held against others, stopped, gone on with.

import { go } from "../app/route";
import { session } from "../app/state";
import { ApiError } from "../api/http";
import { resumeRun, stopRun, type Whole } from "../api/runs";
import { Button, confirm, Menu, say as toast } from "../ui/index";
import { useList } from "./list";
import type { Live } from "./live";
import { words } from "./words";

async function deed(what: "stop" | "resume", id: string, done: () => void): Promise<void> {
  const say = words.value;
  const yes = await confirm({
    title: what === "stop" ? say.stop_title : say.resume_title,
    words: what === "stop" ? say.stop_words : say.resume_words,
    yes: what === "stop" ? say.stop : say.resume,
    no: say.cancel,
    isDanger: what === "stop",
  });
  if (!yes) return;
  try {
    await (what === "stop" ? stopRun(id) : resumeRun(id));
    toast(what === "stop" ? say.stop_asked : say.resume_asked, "good");
    done();
  } catch (error) {
    const words = error instanceof ApiError ? error.message : "";
    toast(say.deed_failed + words, "bad");
  }
}

export function Deeds({ whole, live }: { whole: Whole; live: Live }) {
  const say = words.value;
  const { list } = useList();
  const others = (list?.data ?? []).filter((run) => run.id !== whole.id);
  const standing = live.data.standing.value ?? whole;
  const may = session.value?.may_manage ?? false;
  return (
    <>
      {others.length > 0 && (
        <Menu
          label={say.compare_with}
          icon="compare"
          face={say.compare}
          entries={[
            { title: say.compare_with },
            ...others.slice(0, 12).map((run) => ({
              label: run.name,
              about: run.recipe !== run.name ? run.recipe : (say.state[run.state] ?? ""),
              run: () => go("runs", `${whole.id},${run.id}`),
            })),
          ]}
        />
      )}
      {may && standing.state === "running" && (
        <Button
          kind="danger"
          icon="stop"
          disabled={standing.stopping}
          onClick={() => void deed("stop", whole.id, live.refresh)}
        >
          {standing.stopping ? say.stopping : say.stop}
        </Button>
      )}
      {may && (standing.state === "stopped" || standing.state === "failed") && (
        <Button kind="primary" icon="play" onClick={() => void deed("resume", whole.id, live.refresh)}>
          {say.resume}
        </Button>
      )}
    </>
  );
}
