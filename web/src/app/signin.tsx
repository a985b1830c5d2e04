import { useRef, useState } from "preact/hooks";
import { ApiError } from "../api/http";
import { Button, Icon, TextField } from "../ui/index";
import { enter } from "./state";
import { words } from "./words";

/** Asks for a key. The server keeps it from then on in a cookie that no script can read. */
export function SignIn() {
  const [key, setKey] = useState("");
  const [fault, setFault] = useState<string | undefined>(undefined);
  const [isBusy, setBusy] = useState(false);
  const form = useRef<HTMLFormElement>(null);
  const say = words.value;
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setFault(undefined);
    try {
      await enter(key.trim());
    } catch (error) {
      const isWrong = error instanceof ApiError && (error.status === 401 || error.status === 403);
      setFault(isWrong ? say.key_wrong : error instanceof ApiError ? error.message : say.no_connection);
      setBusy(false);
      // Back to the field from the button; what is wrong is read out as it appears.
      form.current?.querySelector("input")?.focus();
    }
  };
  return (
    <form ref={form} class="signin" onSubmit={submit}>
      <Icon name="lock" size={28} />
      <h1>{say.sign_in}</h1>
      <p class="muted">{say.sign_in_words}</p>
      <TextField label={say.key} type="password" value={key} onInput={setKey} fault={fault} autofocus placeholder="fr-…" />
      <Button kind="primary" type="submit" disabled={isBusy || key.trim() === ""}>
        {isBusy ? say.checking : say.sign_in}
      </Button>
    </form>
  );
}
