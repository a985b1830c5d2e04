import { bytes, seconds } from "../i18n/format";
import { IconButton, Meter, say as tell } from "../ui/index";
import { callOff, jobs, type Watched } from "./jobs";
import { reason } from "./parts";
import { words } from "./words";

/** What is being fetched and checked, with how far it is. */
export function Jobs() {
  const say = words.value;
  if (jobs.value.length === 0) return null;
  return (
    <section class="jobs" aria-label={say.jobs}>
      {jobs.value.map((job) => (
        <OneJob key={job.id} job={job} />
      ))}
    </section>
  );
}

function OneJob({ job }: { job: Watched }) {
  const say = words.value;
  const { state, done_bytes: done, total_bytes: total } = job;
  const isPull = job.kind === "pull";
  const hasFailed = state === "failed";
  const failed = isPull ? say.job_failed : say.verify_failed;
  const title = hasFailed ? failed(job.name) : (isPull ? say.job_pull : say.job_verify)(job.name);
  const share = state === "waiting" || hasFailed ? 0 : total === null ? null : total === 0 ? 1 : done / total;
  const cancel = async (): Promise<void> => {
    try {
      await callOff(job);
    } catch (fault) {
      tell(reason(fault, say.failed), "bad");
    }
  };
  return (
    <div class={hasFailed ? "card job failed" : "card job"}>
      <div class="job-head">
        <strong class="truncate" title={title}>{title}</strong>
        <IconButton small icon="close" label={hasFailed ? say.close : say.job_cancel} onClick={() => void cancel()} />
      </div>
      {!hasFailed && <Meter label={title} value={share} words={progress(job)} />}
      <p class="fine">{hasFailed || job.message !== null ? reason(job.message ?? "", "") : progress(job)}</p>
    </div>
  );
}

function progress(job: Watched): string {
  const say = words.value;
  if (job.state === "waiting") return say.job_waits;
  const { done_bytes: done, total_bytes: total, rate } = job;
  const parts = [total === null ? bytes(done) : say.job_of(bytes(done), bytes(total))];
  if (rate !== null && rate > 0) {
    parts.push(`${bytes(rate)}/s`);
    if (total !== null) parts.push(say.job_left(seconds((total - done) / rate)));
  }
  if (job.file !== null) parts.push(job.file);
  return parts.join(" · ");
}
