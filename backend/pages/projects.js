/**
 * The projects page: a list at `projects`, one project at `projects#12`.
 *
 * A project is asked for as a whole when it is opened and whenever a job of it ends; while one runs
 * and somebody looks, its jobs alone are asked for every two seconds. What is on screen is changed
 * in place.
 */

import { ask } from "./http.js";
import { allow, keep, make, onPress, part, say } from "./projects_dom.js";
import {
  controlWords, failuresOf, gain, isOpen, labelWords, learningWords, megabytes, moment, number,
  plural, points, saidBy, sentence, shareOf, stateOf, versionState, whatJob,
} from "./projects_words.js";

const EVERY = 2000; // milliseconds between two questions about jobs
const AFTER_TROUBLE = 10000; // the same, where the service did not answer
const TOLD = 6000; // milliseconds for which good news stays

const at = (id) => document.getElementById(id);

const shown = {
  page: 1, // of the list
  list: null, // what the service said of it
  project: null, // number of the project on screen; null: the list is
  view: null, // what the service said of it
  undoing: new Map(), // model version -> the job that counts what an undo would remove
  leaving: new AbortController(), // ends questions whose answers nobody wants any more
  timer: null,
  news: null, // the timer that ends good news
};

// -- where we are ----------------------------------------------------------------------------

function go() {
  shown.leaving.abort();
  shown.leaving = new AbortController();
  clearTimeout(shown.timer);
  const found = /^#(\d{1,9})$/.exec(location.hash);
  shown.project = found ? Number(found[1]) : null;
  shown.view = null;
  shown.undoing.clear();
  tell("");
  at("list-view").hidden = shown.project !== null;
  at("project-view").hidden = shown.project === null;
  if (shown.project === null) openList();
  else openProject();
}

/** Ask, on behalf of what is on screen now; null where something else is by then. */
async function asked(path, options = {}) {
  const { signal } = shown.leaving;
  try {
    const told = await ask(path, { signal, ...options });
    return signal.aborted ? null : told;
  } catch (error) {
    if (signal.aborted) return null;
    throw error;
  }
}

/** Say how something went, to everybody. What went wrong stays until something else is done. */
function tell(words, { bad = false } = {}) {
  clearTimeout(shown.news);
  if (!bad && words !== "") shown.news = setTimeout(() => tell(""), TOLD);
  const told = at("told");
  told.className = bad ? "notice bad" : "notice";
  say(told, words);
}

/** Something that a button starts: once at a time, and what goes wrong is said. */
async function act(button, step) {
  if (button.getAttribute("aria-disabled") === "true") return;
  allow(button, false);
  tell("");
  try {
    await step();
  } catch (error) {
    tell(error.message, { bad: true });
  } finally {
    allow(button, true);
  }
}

function mark(badge, words, kind) {
  badge.className = kind ? `badge ${kind}` : "badge";
  say(badge, words);
}

// -- the list --------------------------------------------------------------------------------

async function openList() {
  document.title = "Projects · CLIPer";
  mark(at("connection-badge"), "asking", "");
  say(at("connection-words"), "Label Studio is asked.");
  say(at("connection-remedy"), "");
  let told;
  try {
    told = await asked(`api/projects?page=${shown.page}`);
  } catch (error) {
    mark(at("connection-badge"), "not known", "bad");
    say(at("connection-words"), error.message);
    at("list").hidden = true;
    return;
  }
  if (told === null) return;
  shown.list = told;
  showConnection(told.connection);
  showList(told);
  await askForModels(told.projects);
}

function showConnection(connection) {
  const { answers, url, release, user, trouble, remedy } = connection;
  mark(at("connection-badge"), answers ? "connected" : "not connected", answers ? "good" : "bad");
  const name = release === null ? "Label Studio" : `Label Studio ${release}`;
  say(at("connection-words"), answers ? `${name} at ${url}, as ${user}.` : sentence(trouble));
  say(at("connection-remedy"), remedy === null ? "" : `What to do: ${sentence(remedy)}`);
}

function showList(told) {
  at("list").hidden = !told.connection.answers;
  const none = told.projects.length === 0;
  at("list-table").hidden = none;
  say(
    at("list-empty"),
    !none ? "" : told.page > 1 ? "No more projects." : "There is no project yet: create one in Label Studio.",
  );
  keep(at("list-rows"), told.projects, {
    key: (project) => project.id,
    create: () =>
      make(
        "tr", {},
        make("th", { scope: "row" }, make("a", { "data-part": "link" })),
        make("td", { className: "figure", "data-part": "tasks" }),
        make("td", { className: "figure", "data-part": "annotated" }),
        make("td", {}, make("span", { className: "badge", "data-part": "model" }, "asking")),
      ),
    update: (row, project) => {
      part(row, "link").href = `#${project.id}`;
      say(part(row, "link"), project.title || `Project ${project.id}`);
      say(part(row, "tasks"), number(project.tasks));
      say(part(row, "annotated"), number(project.annotated));
    },
  });
  at("list-pages").hidden = told.page === 1 && told.next === null;
  say(at("list-page"), `Page ${told.page}, ${plural(told.total, "project")} in all`);
  allow(at("list-before"), told.page > 1);
  allow(at("list-next"), told.next !== null);
}

/** One project after the other: Label Studio asks every model of each how it is. */
async function askForModels(projects) {
  for (const project of projects) {
    let words = "not known";
    let kind = "";
    try {
      const told = await asked(`api/projects/${project.id}/models`);
      if (told === null) return;
      [words, kind] = modelWords(told);
    } catch (error) {
      kind = "warn";
    }
    const row = at("list-rows").querySelector(`[data-key="${project.id}"]`);
    if (row !== null) mark(part(row, "model"), words, kind);
  }
}

function modelWords(told) {
  if (told.connected) return ["connected", "good"];
  return told.models.some((one) => one.ours) ? ["connected, not working", "bad"] : ["not connected", ""];
}

function turn(by) {
  shown.page += by;
  shown.leaving.abort();
  shown.leaving = new AbortController();
  openList();
}

// -- one project -----------------------------------------------------------------------------

async function openProject() {
  const title = at("project-title");
  say(title, `Project ${shown.project}`);
  title.focus();
  for (const name of ["project-counts", "project-model", "project-model-words", "project-trouble"]) {
    say(at(name), "");
  }
  for (const name of ["predictions", "jobs", "lessons", "versions"]) at(name).replaceChildren();
  at("project-address").hidden = true;
  await refresh();
  await showModel();
}

/** Everything anew. */
async function refresh() {
  clearTimeout(shown.timer);
  try {
    const view = await asked(`api/projects/${shown.project}`);
    if (view === null) return;
    shown.view = view;
    showProject();
  } catch (error) {
    tell(error.message, { bad: true });
  }
  later(EVERY);
}

function showProject() {
  const { view } = shown;
  const title = view.title || `Project ${view.id}`;
  document.title = `${title} · CLIPer`;
  say(at("project-title"), title);
  at("project-address").href = view.address;
  at("project-address").hidden = false;
  const { counts, trouble } = view;
  say(
    at("project-counts"),
    counts === null ? "" : `${plural(counts.tasks, "task")}, ${number(counts.annotated)} annotated`,
  );
  say(
    at("project-trouble"),
    trouble === null ? "" : `${sentence(trouble.trouble)} What to do: ${sentence(trouble.remedy)}`,
  );
  showJobs();
  showPredictions();
  showLearning();
  showVersions();
  showReport();
}

async function showModel() {
  try {
    const told = await asked(`api/projects/${shown.project}/models`);
    if (told === null) return;
    const [words, kind] = modelWords(told);
    mark(at("project-model"), `model ${words}`, kind);
    say(
      at("project-model-words"),
      told.trouble === null ? "" : `${sentence(told.trouble)} What to do: ${sentence(told.remedy)}`,
    );
  } catch (error) {
    mark(at("project-model"), "model not known", "warn");
  }
}

// -- jobs ------------------------------------------------------------------------------------

function later(milliseconds) {
  clearTimeout(shown.timer);
  if (document.hidden || shown.view === null || !shown.view.jobs.some(isOpen)) return;
  shown.timer = setTimeout(look, milliseconds);
}

/** How far jobs are. Where one has ended, other things have changed, too. */
async function look() {
  if (shown.view === null) return;
  let told;
  try {
    told = await asked(`api/projects/${shown.project}/jobs`);
  } catch (error) {
    tell(error.message, { bad: true });
    return later(AFTER_TROUBLE);
  }
  if (told === null) return;
  const over = new Set(shown.view.jobs.filter((job) => !isOpen(job)).map((job) => job.id));
  const ended = told.jobs.filter((job) => !isOpen(job) && !over.has(job.id));
  shown.view.jobs = told.jobs;
  for (const job of ended) {
    say(at("jobs-news"), `${whatJob(job)}: ${stateOf(job)[0]}. ${saidBy(job)}`);
  }
  if (ended.length > 0) return refresh();
  showJobs();
  showPredictions();
  later(EVERY);
}

/** Ask for a job; what is on screen changes at once. */
async function place(json, words) {
  const job = await asked(`api/projects/${shown.project}/jobs`, { method: "POST", json });
  if (job === null) return null;
  if (words) tell(words);
  await look();
  later(EVERY);
  return job;
}

async function change(path, method, words) {
  const options = method === "POST" ? { method, json: {} } : { method };
  if ((await asked(path, options)) === null) return;
  tell(words);
  await look();
  later(EVERY);
}

function showJobs() {
  const { jobs } = shown.view;
  at("jobs-none").hidden = jobs.length > 0;
  keep(at("jobs"), jobs, { key: (job) => job.id, create: newJob, update: showJob });
}

function newJob(job) {
  const made = make(
    "li", { className: "job" },
    make(
      "div", { className: "row" },
      make("strong", { "data-part": "what" }),
      make("span", { className: "badge", "data-part": "state" }),
      make("span", { className: "muted", "data-part": "when" }),
    ),
    make("progress", { className: "bar", "data-part": "bar", max: 1 }),
    make("p", { "data-part": "said" }),
    make(
      "details", { "data-part": "failures", hidden: true },
      make("summary", {}, "Why tasks failed"),
      make("ul", { "data-part": "reasons" }),
    ),
    make(
      "div", { className: "row" },
      make("button", { type: "button", className: "button small", "data-part": "stop" }, "Stop"),
      make("button", { type: "button", className: "button small", "data-part": "resume" }, "Go on"),
    ),
  );
  const path = `api/jobs/${encodeURIComponent(job.id)}`;
  const [stop, resume] = [part(made, "stop"), part(made, "resume")];
  onPress(stop, () => act(stop, () => change(path, "DELETE", "It stops at its next pause.")));
  onPress(resume, () => act(resume, () => change(`${path}/resume`, "POST", "It goes on.")));
  return made;
}

function showJob(element, job) {
  const what = whatJob(job);
  say(part(element, "what"), job.params.version ? `${what}, ${job.params.version}` : what);
  const [words, kind] = stateOf(job);
  mark(part(element, "state"), words, kind);
  say(part(element, "when"), moment(job.created));
  const bar = part(element, "bar");
  const share = shareOf(job);
  bar.hidden = !isOpen(job);
  bar.setAttribute("aria-label", `${what}: progress`);
  if (share === null || job.state === "queued") bar.removeAttribute("value");
  else [bar.max, bar.value] = [share[1], share[0]];
  say(part(element, "said"), saidBy(job));
  const failures = failuresOf(job);
  part(element, "failures").hidden = failures.length === 0;
  keep(part(element, "reasons"), failures, {
    key: (reason) => reason,
    create: (reason) => make("li", {}, reason),
    update: () => {},
  });
  const stop = part(element, "stop");
  const resume = part(element, "resume");
  const can = { stop: isOpen(job) && !job.cancelling, resume: job.state === "failed" || job.state === "cancelled" };
  const held = document.activeElement;
  stop.hidden = !can.stop;
  resume.hidden = !can.resume;
  if (held === stop && !can.stop && can.resume) resume.focus();
  if (held === resume && !can.resume && can.stop) stop.focus();
  stop.setAttribute("aria-label", `Stop: ${what}`);
  resume.setAttribute("aria-label", `Go on: ${what}`);
}

// -- pre-labelling, and taking it back -------------------------------------------------------

function wanted() {
  const limit = at("prelabel-limit").value.trim();
  const json = { kind: "prelabel", replace: at("prelabel-replace").checked };
  return limit === "" ? json : { ...json, limit: Number(limit) };
}

function showPredictions() {
  const predictions = (shown.view.counts?.predictions ?? []).filter((one) => one.count > 0);
  at("predictions-none").hidden = predictions.length > 0 || shown.view.counts === null;
  keep(at("predictions"), predictions, {
    key: (one) => one.version,
    create: newPredictions,
    update: showPredictionsOf,
  });
}

function newPredictions(one) {
  const made = make(
    "li", { className: "version" },
    make(
      "div", { className: "row" },
      make("span", { className: "code" }, one.version),
      make("span", { className: "muted", "data-part": "count" }),
      make("button", { type: "button", className: "button small", "data-part": "undo" }, "Undo…"),
    ),
    make("p", { "data-part": "asked", "aria-live": "polite", hidden: true }),
    make(
      "div", { className: "row" },
      make("button", { type: "button", className: "button danger", "data-part": "remove", hidden: true }),
      make("button", { type: "button", className: "button", "data-part": "leave", hidden: true }, "Keep them"),
    ),
  );
  const { version } = one;
  const [undo, remove, leave] = ["undo", "remove", "leave"].map((name) => part(made, name));
  undo.setAttribute("aria-label", `Undo the predictions of ${version}`);
  leave.setAttribute("aria-label", `Keep the predictions of ${version}`);
  onPress(undo, async () => {
    await act(undo, () => countUndo(version));
    if (shown.view !== null) showPredictions();
  });
  onPress(remove, () => act(remove, () => removeAll(version)));
  onPress(leave, () => {
    shown.undoing.delete(version);
    showPredictions();
    undo.focus();
  });
  return made;
}

/** First only count: nothing is removed before somebody has seen how much it would be. */
async function countUndo(version) {
  const job = await place({ kind: "undo", version, dry_run: true });
  if (job !== null) shown.undoing.set(version, job.id);
}

async function removeAll(version) {
  shown.undoing.delete(version);
  await place({ kind: "undo", version }, `Removing predictions of ${version} was asked for; see the jobs.`);
  showPredictions();
}

function showPredictionsOf(element, one) {
  say(part(element, "count"), plural(one.count, "prediction"));
  const [undo, remove, leave] = ["undo", "remove", "leave"].map((name) => part(element, name));
  const counting = shown.view.jobs.find((job) => job.id === shown.undoing.get(one.version));
  const removing = shown.view.jobs.some(
    (job) => isOpen(job) && job.kind === "undo" && !job.params.dry_run && job.params.version === one.version,
  );
  const counted = counting !== undefined && counting.state === "done" ? counting.result : null;
  let words = "";
  if (removing) words = "They are being removed; see the jobs.";
  else if (counted !== null && counted.removed === 0) {
    words = `None can be removed: annotations or drafts rest on all ${number(counted.kept)}.`;
  } else if (counted !== null) {
    const kept = counted.kept > 0 ? ` ${number(counted.kept)} stay: annotations or drafts rest on them.` : "";
    words = `This would remove ${plural(counted.removed, "prediction")} from Label Studio.${kept}`;
  } else if (counting !== undefined && isOpen(counting)) {
    words = counting.state === "queued" ? "Counted as soon as the job before is done." : "Counting what would be removed.";
  } else if (counting !== undefined) words = `It could not be counted. ${saidBy(counting)}`;
  say(part(element, "asked"), words);
  const held = document.activeElement;
  say(remove, counted !== null && counted.removed > 0 ? `Remove ${plural(counted.removed, "prediction")}` : "");
  leave.hidden = counted === null;
  undo.hidden = !one.ours || counted !== null || removing;
  allow(undo, counting === undefined || !isOpen(counting));
  if (held === undo && counted !== null) leave.focus(); // the harmless one
}

// -- learning --------------------------------------------------------------------------------

function showLearning() {
  const { learning, versions } = shown.view;
  say(at("learning-words"), learningWords(learning));
  const { count, shown: named } = learning.left_out;
  at("left-out").hidden = count === 0;
  const more = count > named.length ? `, of which ${number(named.length)} are named` : "";
  say(at("left-out-words"), `${plural(count, "task")} ${count === 1 ? "teaches" : "teach"} nothing${more}`);
  keep(at("left-out-list"), named, {
    key: (one) => one.task,
    create: () => make("li"),
    update: (element, one) => say(element, `Task ${one.task}: ${one.reason}`),
  });
  const told = versions.filter((version) => version.controls.some((one) => one.labels !== null));
  at("lessons").hidden = told.length === 0;
  keep(at("lessons"), told, {
    key: (version) => version.digest ?? "none",
    create: () =>
      make(
        "div", { className: "lesson" },
        make("h3", { "data-part": "which" }),
        make("div", { "data-part": "controls" }),
      ),
    update: showLesson,
  });
}

function showLesson(element, version) {
  const name = version.digest ?? "without anything to use";
  const tasks = plural(version.tasks, "corrected task");
  say(part(element, "which"), `Version ${name}, ${versionState(version)[0]}, from ${tasks}`);
  keep(part(element, "controls"), version.controls, {
    key: (control) => control.control,
    create: () =>
      make(
        "div", {},
        make("h4", { className: "code", "data-part": "control" }),
        make("p", { "data-part": "why" }),
        make(
          "details", { "data-part": "more" },
          make("summary", {}, "Label by label"),
          make(
            "div", { className: "wide", role: "region", tabIndex: 0, "data-part": "wide" },
            make(
              "table", { className: "table" },
              make("thead", {}, heads()),
              make("tbody", { "data-part": "labels" }),
            ),
          ),
        ),
      ),
    update: (part_of, control) => {
      say(part(part_of, "control"), control.control);
      say(part(part_of, "why"), controlWords(control));
      part(part_of, "wide").setAttribute("aria-label", `Labels of ${control.control}`);
      const labels = control.labels ?? [];
      part(part_of, "more").hidden = labels.length === 0;
      keep(part(part_of, "labels"), labels, {
        key: (label) => label.label,
        create: newLabel,
        update: showLabel,
      });
    },
  });
}

function heads() {
  const row = make("tr");
  for (const [words, figure] of [
    ["Label", false], ["IoU before", true], ["after", true], ["gain", true], ["What was learnt", false],
  ]) {
    row.append(make("th", { scope: "col", className: figure ? "figure" : "" }, words));
  }
  return row;
}

function newLabel() {
  return make(
    "tr", {},
    make("th", { scope: "row", "data-part": "label" }),
    make("td", { className: "figure", "data-part": "before" }),
    make("td", { className: "figure", "data-part": "after" }),
    make("td", { className: "figure", "data-part": "gain" }),
    make("td", { "data-part": "what" }),
  );
}

function showLabel(row, label) {
  say(part(row, "label"), label.label);
  say(part(row, "before"), points(label.before));
  say(part(row, "after"), points(label.after));
  say(part(row, "gain"), gain(label));
  say(part(row, "what"), labelWords(label));
}

// -- versions --------------------------------------------------------------------------------

function showVersions() {
  const { learning, versions } = shown.view;
  const listed = versions.filter((version) => version.digest !== null);
  const none = listed.length === 0;
  const pinned = learning.pinned !== null;
  at("versions-none").hidden = !none;
  at("versions-wide").hidden = none;
  const held = document.activeElement;
  const [follow, no] = [at("versions-follow"), at("versions-no")];
  follow.hidden = !pinned;
  no.hidden = none || learning.pinned === "";
  if (held === no && no.hidden && !follow.hidden) follow.focus();
  if (held === follow && follow.hidden && !no.hidden) no.focus();
  const which = learning.pinned === "" ? "None of them is" : `Version ${learning.pinned} is`;
  say(at("versions-pinned"), pinned ? `${which} used since you asked for it, whatever is learnt meanwhile.` : "");
  keep(at("versions"), listed, {
    key: (version) => `${version.digest} ${version.when}`,
    create: newVersion,
    update: (row, version) => {
      mark(part(row, "state"), ...versionState(version));
      const use = part(row, "use");
      const in_use = version.digest === learning.version;
      if (document.activeElement === use && in_use) (follow.hidden ? no : follow).focus();
      use.hidden = in_use;
    },
  });
}

function newVersion(version) {
  const row = make(
    "tr", {},
    make("th", { scope: "row", className: "code" }, version.digest),
    make("td", {}, make("span", { className: "badge", "data-part": "state" })),
    make("td", { className: "figure" }, number(version.tasks)),
    make("td", {}, version.when === null ? "–" : moment(version.when * 1000)),
    make("td", {}, make("button", { type: "button", className: "button small", "data-part": "use" }, "Use")),
  );
  const use = part(row, "use");
  use.setAttribute("aria-label", `Use version ${version.digest}`);
  onPress(use, () => act(use, () => choose(version.digest, `Version ${version.digest} is used from now on.`)));
  return row;
}

async function choose(version, words) {
  const path = `api/projects/${shown.project}/rollback`;
  if ((await asked(path, { method: "POST", json: { version } })) === null) return;
  tell(words);
  await refresh();
}

// -- the report ------------------------------------------------------------------------------

function showReport() {
  const { report, counts, id } = shown.view;
  const link = at("report-link");
  link.hidden = report === null;
  link.href = `projects/${id}/report`;
  say(
    at("report-made"),
    report === null ? "None was made yet." : `The newest is of ${report.made} (${megabytes(report.bytes)}).`,
  );
  const versions = ["", ...(counts?.predictions ?? []).map((one) => one.version)];
  keep(at("report-version"), versions, {
    key: (version) => version,
    create: (version) => make("option", { value: version }, version || "all"),
    update: () => {},
  });
}

// -- beginning -------------------------------------------------------------------------------

function prepare() {
  onPress(at("connection-again"), () => act(at("connection-again"), openList));
  onPress(at("list-before"), () => turn(-1));
  onPress(at("list-next"), () => turn(1));
  at("back").addEventListener("click", (event) => {
    event.preventDefault();
    history.pushState(null, "", location.pathname + location.search);
    go();
    at("list-title").focus();
  });
  at("prelabel").addEventListener("submit", (event) => {
    event.preventDefault();
    act(at("prelabel-start"), () => place(wanted(), "Pre-labelling was asked for; see the jobs."));
  });
  const count = at("prelabel-count");
  onPress(count, () => {
    if (!at("prelabel").reportValidity()) return;
    act(count, () => place({ ...wanted(), dry_run: true }, "It is counted; see the jobs."));
  });
  const [now, reread] = [at("learn-now"), at("learn-reread")];
  onPress(now, () => act(now, () => place({ kind: "learn", now: true }, "Learning was asked for; see the jobs.")));
  onPress(reread, () =>
    act(reread, () => place({ kind: "learn", reread: true }, "Every annotated task is asked about; see the jobs.")),
  );
  const [follow, no] = [at("versions-follow"), at("versions-no")];
  onPress(follow, () => act(follow, () => choose(null, "What is learnt is used again; a job sees to it.")));
  onPress(no, () => act(no, () => choose("", "No version is used from now on.")));
  at("report").addEventListener("submit", (event) => {
    event.preventDefault();
    const version = at("report-version").value;
    const json = version ? { kind: "report", version } : { kind: "report" };
    act(at("report-make"), () => place(json, "The report was asked for; see the jobs."));
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(shown.timer);
    else look();
  });
  window.addEventListener("hashchange", go);
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address says which project
    at("main").tabIndex = -1;
    at("main").focus();
  });
}

prepare();
go();
