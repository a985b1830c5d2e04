import { useState } from "preact/hooks";
import { pullModel } from "../api/models";
import { Button, Dialog, Fold, TextField } from "../ui/index";
import { watchJob } from "./jobs";
import { reason } from "./parts";
import { words } from "./words";

const NAME = /^[\w][\w.-]*(\/[\w][\w.-]*)?$/;

/** Asks what to fetch. What is under way is shown in the list. */
export function PullDialog({ onClose }: { onClose: () => void }) {
  const say = words.value;
  const [name, setName] = useState("");
  const [revision, setRevision] = useState("");
  const [files, setFiles] = useState("");
  const [fault, setFault] = useState<string>();
  const [isBusy, setBusy] = useState(false);
  const start = async (): Promise<void> => {
    // People copy the whole address.
    const plain = name.trim().replace(/^https?:\/\/[^/]+\//, "").replace(/\/+$/, "");
    if (!NAME.test(plain)) return setFault(say.pull_wrong);
    setBusy(true);
    try {
      const id = await pullModel({ name: plain, revision: revision.trim(), files: files.trim() });
      watchJob(id, "pull", plain);
      onClose();
    } catch (error) {
      setFault(reason(error, say.failed));
      setBusy(false);
    }
  };
  return (
    <Dialog
      title={say.pull_title}
      closes={say.close}
      onClose={onClose}
      foot={
        <>
          <Button onClick={onClose}>{say.cancel}</Button>
          <Button kind="primary" icon="download" disabled={isBusy || name.trim() === ""} onClick={() => void start()}>
            {say.pull_go}
          </Button>
        </>
      }
    >
      <form
        class="pull"
        onSubmit={(event) => {
          event.preventDefault();
          void start();
        }}
      >
        <TextField
          label={say.pull_name}
          hint={say.pull_hint}
          fault={fault}
          value={name}
          placeholder="deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
          autofocus
          onInput={(value) => {
            setName(value);
            setFault(undefined);
          }}
        />
        <Fold head={say.pull_more}>
          <div class="pull inner">
            <TextField label={say.pull_revision} hint={say.pull_revision_hint} value={revision} placeholder="main" onInput={setRevision} />
            <TextField label={say.pull_file} hint={say.pull_file_hint} value={files} onInput={setFiles} />
          </div>
        </Fold>
        <p class="fine muted">{say.pull_words}</p>
        {/* Enter in a field sends; the button that is seen stands in the foot. */}
        <button type="submit" hidden />
      </form>
    </Dialog>
  );
}
