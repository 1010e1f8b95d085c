/** What figures of jobs and of learning mean, in words. Pure functions over the service's JSON. */

const figures = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const ENDED = new Set(["done", "failed", "cancelled"]);

export const number = (value) => figures.format(value);

export function plural(count, word) {
  return `${number(count)} ${word}${count === 1 ? "" : "s"}`;
}

export function moment(when) {
  return new Date(when).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

export function megabytes(bytes) {
  return bytes < 1e6 ? `${number(Math.ceil(bytes / 1e3))} kB` : `${number(bytes / 1e6)} MB`;
}

function duration(seconds) {
  if (seconds < 90) return `${number(Math.max(Math.round(seconds), 1))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${number(minutes)} min` : `${number(minutes / 60)} h`;
}

// -- jobs ------------------------------------------------------------------------------------

export const isOpen = (job) => !ENDED.has(job.state);

export function whatJob(job) {
  const counts = job.params.dry_run === true;
  const names = {
    prelabel: counts ? "Count what to pre-label" : "Pre-label",
    undo: counts ? "Count what an undo would remove" : "Undo pre-labelling",
    learn: "Learn from corrections",
    report: "Report",
  };
  return names[job.kind] ?? job.kind;
}

/** The state of a job: a word, and the kind of badge it gets. */
export function stateOf(job) {
  if (job.cancelling) return ["stopping", "warn"];
  return {
    queued: ["waiting for its turn", ""],
    running: ["running", ""],
    waiting: ["will be tried again", "warn"],
    done: ["done", "good"],
    failed: ["failed", "bad"],
    cancelled: ["stopped", "warn"],
  }[job.state] ?? [job.state, ""];
}

/** How far a job is: done of total, or null while nobody can say. */
export function shareOf(job) {
  const told = job.progress;
  if (job.kind === "prelabel") return told.total > 0 ? [told.total - told.left, told.total] : null;
  if (job.kind === "undo") {
    return told.total > 0 ? [(told.removed ?? 0) + (told.kept ?? 0), told.total] : null;
  }
  return told.tasks > 0 && told.done !== undefined ? [told.done, told.tasks] : null;
}

/** What a job has to say, in one or two sentences. */
export function saidBy(job) {
  if (job.state === "done") return resultOf(job);
  if (job.state === "failed" || job.state === "waiting") return sentence(job.reason ?? "");
  const told = job.progress;
  const parts = [];
  if (told.phase) parts.push(sentence(told.phase));
  const share = shareOf(job);
  if (share !== null) parts.push(`${number(share[0])} of ${number(share[1])}.`);
  if (job.kind === "prelabel" && told.written > 0) {
    parts.push(`${plural(told.written, "prediction")} written.`);
    if (told.per_second > 0) parts.push(`${number(told.per_second)} per second.`);
    if (told.eta_seconds) parts.push(`About ${duration(told.eta_seconds)} to go.`);
  }
  if (told.failed > 0) parts.push(`${plural(told.failed, "task")} failed.`);
  if (told.waits_for) parts.push(sentence(`waits for ${told.waits_for}`));
  return parts.join(" ");
}

function resultOf(job) {
  const told = job.result ?? {};
  if (job.kind === "undo") {
    const would = job.params.dry_run === true ? "Would remove" : "Removed";
    return `${would} ${plural(told.removed, "prediction")}, keep ${number(told.kept)} that people's work rests on.`;
  }
  if (job.kind === "prelabel") {
    if (job.params.dry_run === true) return `${plural(told.left, "task")} to pre-label.`;
    const failed = told.failed > 0 ? ` ${plural(told.failed, "task")} failed.` : "";
    const already = told.already > 0 ? ` ${plural(told.already, "task")} had one already.` : "";
    return `${plural(told.written, "prediction")} written as ${told.model_version}.${already}${failed}`;
  }
  if (job.kind === "report") return (told.headline ?? []).join(" ");
  if (told.phase !== "done") return sentence(told.phase ?? "");
  if (!told.version) return "Nothing learnt is in use: either too little was corrected so far, or a version below says why.";
  return `Version ${told.version} is in use.`;
}

/** Why tasks failed: a sentence each, the most frequent first. */
export function failuresOf(job) {
  const told = (job.result ?? job.progress).failures ?? job.progress.failures ?? {};
  return Object.values(told)
    .slice(0, 10)
    .map((one) => {
      const examples = one.tasks.length > 0 ? `, such as task ${one.tasks[0]}` : "";
      return `${plural(one.count, "task")}${examples}: ${one.reason}`;
    });
}

export function sentence(words) {
  if (words === "") return "";
  const first = words[0].toUpperCase() + words.slice(1);
  return /[.!?…]$/.test(first) ? first : `${first}.`;
}

// -- learning --------------------------------------------------------------------------------

export function learningWords(learning) {
  const said = [];
  if (learning.version === null) said.push("Nothing learnt is in use.");
  else {
    const tasks = plural(learning.learnt_from, "corrected task");
    said.push(`Version ${learning.version} is in use, learnt from ${tasks}.`);
  }
  if (learning.pinned === "") said.push("You asked for none, whatever is learnt.");
  else if (learning.pinned !== null) said.push("You asked for this one, whatever is learnt.");
  said.push(`${plural(learning.corrected, "corrected task")} known.`);
  if (learning.corrected < learning.fewest) {
    said.push(`Nothing is learnt before ${number(learning.fewest)}.`);
  }
  if (learning.unsettled) said.push("Something may have changed and is not settled yet.");
  return said.join(" ");
}

export function versionState(version) {
  return {
    active: ["in use", "good"],
    retired: ["was in use", ""],
    candidate: ["never in use", ""],
  }[version.state] ?? [version.state, ""];
}

/** Why a version is or is not in use for one control. */
export function controlWords(control) {
  const judged = control.before !== null && control.after !== null;
  const points = judged
    ? ` On held-out tasks ${control.before.toFixed(1)} became ${control.after.toFixed(1)} mIoU.`
    : "";
  return sentence(control.reason) + points;
}

/** What was learnt of one label. */
export function labelWords(label) {
  const said = [];
  if (label.learnt) said.push("how it looks");
  if (label.threshold !== null) said.push(`needs a presence of ${label.threshold.toFixed(2)}`);
  if (label.words.length > 0) said.push(`says less: ${label.words.join(", ")}`);
  if (label.unpainted) said.push("asked for, never painted");
  return said.length > 0 ? said.join("; ") : "nothing: its words alone";
}

export const points = (value) => (value === null ? "–" : value.toFixed(1));

export function gain(label) {
  if (label.before === null || label.after === null) return "–";
  const gained = label.after - label.before;
  return `${gained > 0 ? "+" : ""}${gained.toFixed(1)}`;
}
