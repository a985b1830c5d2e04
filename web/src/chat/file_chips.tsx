import { useState } from "preact/hooks";
import { short } from "../i18n/format";
import { Dialog, Icon, IconButton } from "../ui/index";
import type { TextFile } from "./tree";
import { words } from "./words";

/** Characters of a file that are shown when it is looked at. */
const MOST_SHOWN = 100_000;

/** Files of a question, each with its name and how many tokens it is; a click shows what is in it. */
export function FileChips({ files, onRemove }: { files: readonly TextFile[]; onRemove?: (at: number) => void }) {
  const [seen, setSeen] = useState<TextFile | null>(null);
  const say = words.value;
  if (files.length === 0) return null;
  return (
    <>
      <ul class="chips" aria-label={say.files}>
        {files.map((file, at) => (
          <li key={`${at}${file.name}`} class="chip">
            <button type="button" title={file.name} onClick={() => setSeen(file)}>
              <Icon name="file" size={16} />
              <span class="truncate" dir="auto">
                {file.name}
              </span>
              <small>{file.tokens === null ? say.characters(short(file.text.length)) : say.tokens(file.tokens)}</small>
            </button>
            {onRemove && <IconButton small icon="close" label={say.remove_file(file.name)} onClick={() => onRemove(at)} />}
          </li>
        ))}
      </ul>
      {seen && (
        <Dialog wide title={seen.name} closes={say.close} onClose={() => setSeen(null)}>
          <pre class="file-text" dir="auto" tabIndex={0}>
            {seen.text.slice(0, MOST_SHOWN)}
          </pre>
        </Dialog>
      )}
    </>
  );
}
