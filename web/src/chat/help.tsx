import { Dialog, Keys } from "../ui/index";
import { isHelpOpen } from "./sheets";
import { words } from "./words";

const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
/** The key that commands are given with. */
export const COMMAND = isMac ? "⌘" : "Ctrl";

/** What the keyboard does. */
export function Help() {
  const say = words.value;
  const { keys } = say;
  const rows: [string[], string][] = [
    [["Enter"], keys.send],
    [["⇧", "Enter"], keys.line],
    [["Esc"], keys.stop],
    [[COMMAND, "."], keys.answer_now],
    [["↑"], keys.edit],
    [[COMMAND, "⇧", "O"], keys.new_chat],
    [[COMMAND, "K"], keys.search],
    [[COMMAND, ","], keys.settings],
    [[COMMAND, "⇧", "C"], keys.copy],
    [["/"], keys.write],
    [["?"], keys.help],
  ];
  return (
    <Dialog title={say.shortcuts} closes={say.close} onClose={() => (isHelpOpen.value = false)}>
      <dl class="shortcuts">
        {rows.map(([combination, about]) => (
          <div key={about}>
            <dt>{about}</dt>
            <dd>
              <Keys keys={combination} />
            </dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
