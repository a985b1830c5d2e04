// What a model said, in the form of thought and answer.

import { Badge } from "../ui/index";
import { attempts, said } from "./said";
import { words } from "./words";

/** The grader's verdict in a word. */
export const verdict = (right: boolean | null): string =>
  right === null ? words.value.unjudged : right ? words.value.right : words.value.wrong;

export function Verdict({ right }: { right: boolean | null }) {
  if (right === null) return <Badge>{verdict(right)}</Badge>;
  return (
    <Badge tone={right ? "good" : "bad"} icon={right ? "check" : "close"}>
      {verdict(right)}
    </Badge>
  );
}

/** A thought, a line for each attempt; what checks itself is marked. */
export function Thought({ text, checks }: { text: string; checks: readonly string[] }) {
  return (
    <div class="attempts">
      {attempts(text, checks).map((line, at) => (
        <span key={at} class="attempt">
          {line.map((piece, index) => (piece.isCheck ? <mark key={index}>{piece.text}</mark> : piece.text))}
        </span>
      ))}
    </div>
  );
}

/** The answer, or that there is none. */
export function Answer({ text }: { text: string }) {
  const { answer, hasEnded } = said(text);
  return (
    <span class="answer-text">
      {answer === "" ? <em class="muted">{words.value.no_answer}</em> : answer}
      {!hasEnded && <small class="muted"> ({words.value.cut_off})</small>}
    </span>
  );
}
