// The page where words are tried: what is on screen always is a label config and a picture.
import { Config, configOf, parsedWords } from "./config.js";
import { Refused, ask, send } from "./http.js";
import { Stage, claimsAt, difference, labelAt, readPane } from "./stage.js";

const SHOWN_SCORES = 6; // labels in the readout
const PATIENCE = 300; // milliseconds before a progress bar comes
const VIEWS = {
  scores: "The stronger the colour, the higher the label's score.",
  doubt: "The stronger the pink, the closer the decision between the two strongest.",
};
const OPACITY = "0.6"; // of masks, to begin with
const MOST_PROJECTS = 25; // pages of projects that are asked for
const LOOK_AGAIN = 700; // milliseconds between two looks at how far the model is
const SETTLE = 120; // milliseconds of quiet before a slider's value counts

const $ = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

let meta = null;
let picture = null; // { id, name, size_hw, source }
let editing = 0; // index of the side that the settings change
let comparing = false;
const sides = [newSide("Side A"), newSide("Side B")];

function newSide(title) {
  return { config: null, control: null, pane: null, good: null, wanted: 0, running: false, waiting: [], stage: new Stage(title, pointed) };
}

const side = () => sides[editing];
const active = () => (comparing ? sides : sides.slice(0, 1));

// -- pictures ---------------------------------------------------------------------------

async function openFile(file) {
  if (!file) return;
  await open(() => ask(`api/pictures?name=${encodeURIComponent(file.name || "pasted.png")}`, { method: "POST", body: file }),
    (told) => ({ kind: "kept", id: told.id, file }));
}

async function openScene(number) {
  await open(() => ask("api/pictures", { method: "POST", json: { scene: number } }),
    () => ({ kind: "scene", number }));
}

async function openTask(project, task, withConfig = true) {
  await open(() => ask("api/pictures", { method: "POST", json: { project, task } }),
    (told) => {
      if (withConfig) useConfig(told.config);
      return { kind: "task", project, task };
    });
}

async function openKept(id) {
  await open(() => ask(`api/pictures/${encodeURIComponent(id)}?about`), () => ({ kind: "kept", id }));
}

let openings = 0;
const hint = $("readout").firstElementChild;

/** Get a picture and show it; what was found on the one before is gone. The newest one wins. */
async function open(get, source) {
  const mine = ++openings;
  quiet();
  active().forEach((one) => one.stage.progress(null));
  try {
    const told = await patiently(get, () => mine === openings);
    if (mine !== openings) return;
    picture = { ...told, source: source(told) };
    pointedAt = null;
    $("readout").replaceChildren(hint);
    for (const one of sides) {
      one.pane = null;
      one.stage.setPicture(`api/pictures/${picture.id}`, picture.size_hw, picture.name);
    }
    markScene();
    remember();
    await Promise.all(active().map(refresh));
  } catch (error) {
    if (mine === openings) complain(error);
  } finally {
    if (mine === openings) active().forEach((one) => one.running || one.stage.progress(1, true));
  }
}

/** Have the service keep the picture once more. */
async function reopen() {
  const { source, name } = picture;
  const mine = openings;
  const gone = () => { throw new Refused("The picture is no longer kept by the service; drop it again.", 404); };
  const sent = {
    scene: () => ({ json: { scene: source.number } }),
    task: () => ({ json: { project: source.project, task: source.task } }),
    kept: () => (source.file ? { body: source.file } : gone()),
  }[source.kind]();
  const told = await ask(`api/pictures?name=${encodeURIComponent(name)}`, { method: "POST", ...sent });
  if (mine === openings) picture = { ...told, source };
}

// -- masks ------------------------------------------------------------------------------

/** Ask again for a side; what is asked while an answer is under way is asked once, after it. */
async function refresh(one) {
  if (!picture || !one.config) return;
  one.wanted++;
  if (one.running) return;
  one.running = true;
  const watch = watching(one.stage);
  for (let done = 0; done !== one.wanted;) {
    done = one.wanted;
    try {
      await askOnce(one);
      if (done === one.wanted) quiet();
    } catch (error) {
      if (done !== one.wanted) continue; // something newer was asked meanwhile
      complain(error);
      if (revert(one, error) && !one.pane) one.wanted++; // another picture still has no masks
    }
  }
  one.running = false;
  watch();
  one.waiting.splice(0).forEach((wake) => wake());
}

/** After a refusal settings change what is on screen again; whether there is anything. */
function revert(one, error) {
  const refused = error.status >= 400;
  if (!refused || !one.good || one.config.toString() === one.good.config) return false;
  one.config = new Config(one.good.config);
  one.control = one.good.control;
  if (one.pane && one === side()) fill(one);
  return true;
}

/** Wait until everything that was asked for is on screen. */
async function settled(one) {
  for (const flush of [...pending]) flush();
  if (one.running) await new Promise((wake) => one.waiting.push(wake));
}

async function askOnce(one, again = true) {
  const asked = { picture: picture.id, config: one.config.toString(), control: one.control };
  try {
    const told = await patiently(() => ask("api/panes", { method: "POST", json: asked }));
    const pane = await readPane(told);
    if (!picture || picture.id !== asked.picture) return;
    one.pane = pane;
    if (one.control === asked.control) one.control = pane.control; // else somebody chose another
    one.good = { config: asked.config, control: pane.control };
    show(one);
    remember();
  } catch (error) {
    if (error.status !== 404 || !again) throw error;
    await reopen();
    await askOnce(one, false);
  }
}

/** Wait for a model that is still on its way, as long as `stillWanted`. */
async function patiently(get, stillWanted = () => true) {
  for (let lastTime = false; ;) {
    try {
      return await get();
    } catch (error) {
      if (error.status !== 503 || lastTime || !stillWanted()) throw error;
      const told = await tellModel();
      lastTime = !told?.loading; // it is there by now, or it failed: the next answer says why
      await new Promise((wake) => setTimeout(wake, LOOK_AGAIN));
    }
  }
}

async function tellModel() {
  try {
    const told = await ask("api/status");
    const far = told.progress === null ? "" : ` ${Math.round(told.progress)} %`;
    const ready = told.loading ? "Another model is loading" : "";
    $("model").textContent = told.state === "ready" ? ready : `Model: ${told.state}${far}${told.reason ? `, ${told.reason}` : ""}`;
    return told;
  } catch {
    return null;
  }
}

/** A bar while a side is busy; gives what ends it. */
function watching(stage) {
  const begun = performance.now();
  const timer = setInterval(async () => {
    if (performance.now() - begun < PATIENCE) return;
    const told = await tellModel();
    if (ended) return;
    const passed = (performance.now() - begun) / 1000;
    const known = told && told.state === "ready" && told.look_seconds;
    stage.progress(known ? Math.min(passed / known, 0.95) : null);
  }, PATIENCE);
  let ended = false;
  return () => {
    ended = true;
    clearInterval(timer);
    stage.progress(1, true);
  };
}

/** Show what a side's pane says. */
function show(one) {
  const { pane, stage } = one;
  stage.setPane(pane);
  const found = pane.labels.filter((label) => label.area).length;
  stage.summary.textContent = [
    `${found} of ${pane.labels.length} labels`,
    `${pane.regions} region${pane.regions === 1 ? "" : "s"}`,
    `${pane.seconds < 0.095 ? `${Math.round(1000 * pane.seconds)} ms` : `${pane.seconds.toFixed(2)} s`}${pane.looked ? "" : ", seen before"}`,
    `${pane.method} · ${pane.profile}`,
    pane.refinable ? (pane.refined ? "refined" : "coarse") : "not refined",
  ].join(" · ");
  if (one === side()) fill(one);
  compareSides();
  if (pointedAt) tellPlace(pointedAt, false);
}

function compareSides() {
  const on = comparing && $("difference").checked && sides.every((one) => one.pane);
  const found = on ? difference(sides[0].pane, sides[1].pane) : null;
  sides[1].stage.different = found;
  sides[1].stage.draw();
  $("difference-told").hidden = !on;
  if (on) $("difference-told").textContent = `${percent(found.share)} of the picture differs between A and B: pink on side B.`;
}

// -- words and config -------------------------------------------------------------------

/** Of the words that pages begin with. */
const colours = () => Object.fromEntries(meta.words);

function useConfig(text) {
  const config = new Config(text);
  side().config = config;
  side().control = null;
}

function submitWords(event) {
  event?.preventDefault();
  const words = parsedWords($("words").value);
  if (!words.length) {
    complain(new Error("Type at least one word, such as sky, house."));
    return;
  }
  const one = side();
  if (one.config && one.control && $("words").value === one.config.words(one.control)) {
    refresh(one); // as it stands: a name may hold what separates words
    return;
  }
  if (one.config && one.control && one.config.tag(one.control)?.querySelector("Label")) {
    one.config.replaceLabels(one.control, words);
  } else {
    one.config = configOf(words, colours());
    one.control = null;
  }
  refresh(one);
}

function submitConfig(event) {
  event.preventDefault();
  try {
    useConfig($("config").value);
    refresh(side());
  } catch (error) {
    complain(error);
  }
}

function showForm(byWords) {
  $("words-form").hidden = !byWords;
  $("config-form").hidden = byWords;
  $("by-words").setAttribute("aria-pressed", String(byWords));
  $("by-config").setAttribute("aria-pressed", String(!byWords));
}

// -- settings ---------------------------------------------------------------------------

const busyWith = (element) => document.activeElement === element;

/** Fill the fields with what a side's config says, but for the one somebody is at. */
function fill(one) {
  const { config, pane } = one;
  const tag = config.tag(one.control);
  const set = (id, value) => busyWith($(id)) || ($(id).value = value);
  set("words", config.words(one.control));
  set("config", config.toString());
  $("control-field").hidden = pane.controls.length < 2;
  options($("control"), pane.controls.map((name) => [name, name]), one.control);
  const { model_background: words } = pane.options;
  const whole = words.value !== null && words.value.length === 0;
  $("whole").checked = whole;
  $("whole").disabled = whole && words.source !== "tag";
  set("background", Config.get(tag, "model_background") ?? (words.value ?? []).join(", "));
  $("background").disabled = whole;
  const usual = pane.labels.find((label) => !label.rest && label.threshold_from !== "label");
  slider("threshold", pane.options.model_score_threshold, usual?.needed ?? 0.5, (v) => v.toFixed(2));
  slider("mask-threshold", pane.options.model_mask_threshold, usual?.mask_threshold ?? 0, (v) => v.toFixed(2));
  slider("min-area", pane.options.model_min_area, 0, (v) => `${(100 * v).toFixed(2)} %`);
  slider("smooth", pane.options.model_smooth, 0, (v) => `${v} px`);
  $("refine").checked = pane.options.model_refine.value;
  const read = pane.background.length;
  const some = (words) => words.slice(0, 8).join(", ") + (words.length > 8 ? " …" : "");
  $("background-told").textContent = `${read} background words are read${read ? `: ${some(pane.background)}` : ""}.`
    + (pane.dropped.length ? ` Left out, too close to a label: ${some(pane.dropped)}.` : "");
  $("refine").disabled = !pane.refinable;
  $("instances").checked = pane.options.model_instances.value;
  $("overlap").checked = pane.options.model_overlap.value;
  $("method").value = Config.get(tag, "model_method") ?? "";
  $("profile").value = Config.get(tag, "model_profile") ?? "";
  $("warnings").replaceChildren(...pane.warnings.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  $("warnings").hidden = !pane.warnings.length;
  options($("score-of"), pane.labels.filter((label) => !label.rest).map((label) => [label.name, label.shown]), one.stage.shown.label ?? pane.labels[0]?.name);
  fillLabels(one);
}

/** A slider at what holds, and who says so; a value of null is the preset's, `otherwise`. */
function slider(id, { value, source }, otherwise, told) {
  const shown = value ?? otherwise;
  if (!busyWith($(id))) $(id).value = shown;
  $(`${id}-told`).textContent = source === "tag" ? told(shown) : `${told(shown)} (${source})`;
}

function options(select, pairs, chosen) {
  const wanted = JSON.stringify(pairs);
  if (select.dataset.pairs !== wanted) {
    select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value)));
    select.dataset.pairs = wanted;
  }
  select.value = chosen ?? "";
}

const rows = new Map(); // name of a label -> its row

function fillLabels(one) {
  const labels = [...one.pane.labels].sort((a, b) => (a.area === 0) - (b.area === 0)); // found first
  const names = labels.map((label) => label.name);
  for (const [name, row] of rows) {
    if (!names.includes(name)) {
      row.item.remove();
      rows.delete(name);
    }
  }
  const atWork = $("labels").contains(document.activeElement); // a row does not move under a hand
  labels.forEach((label, index) => {
    const row = rows.get(label.name) ?? newRow(label.name);
    rows.set(label.name, row);
    const stays = atWork && row.item.parentNode;
    if (!stays && $("labels").children[index] !== row.item) $("labels").insertBefore(row.item, $("labels").children[index] ?? null);
    fillRow(row, label, one);
  });
}

function newRow(name) {
  const make = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const row = {
    item: make("li", "label"),
    details: make("details", ""),
    summary: document.createElement("summary"),
    swatch: make("span", "swatch"),
    name: make("span", "name"),
    area: make("span", "area muted"),
    presence: make("span", "badge"),
    eye: make("button", "button quiet icon eye", "◉"),
    words: make("input", ""),
    threshold: make("input", ""),
    told: make("output", ""),
    own: make("button", "button quiet small", "As the tag"),
    colour: make("input", ""),
  };
  row.eye.type = row.own.type = "button";
  row.summary.append(row.swatch, row.name, row.area, row.presence);
  Object.assign(row.threshold, { type: "range", min: 0, max: 1, step: 0.01 });
  row.words.autocomplete = "off";
  row.colour.type = "color";
  const field = (text, ...inside) => {
    const label = make("label", "field slider", text);
    label.append(...inside);
    return label;
  };
  const body = make("div", "stack");
  const line = make("div", "row");
  line.append(field("Colour ", row.colour), row.own);
  body.append(field("Synonyms, with commas", row.words), field("Presence it needs ", row.told, row.threshold), line);
  row.details.append(row.summary, body);
  row.item.append(row.details, row.eye);

  const element = () => side().config.label(side().control, name);
  row.eye.addEventListener("click", () => {
    const { hidden } = side().stage.shown;
    const show = hidden.has(name);
    for (const one of sides) one.stage.shown.hidden[show ? "delete" : "add"](name);
    for (const one of sides) one.stage.draw();
    fillLabels(side());
    remember();
  });
  row.words.addEventListener("change", () => {
    Config.set(element(), "predicted_values", row.words.value.replaceAll("|", ",").trim() || null);
    refresh(side());
  });
  row.threshold.addEventListener("input", () => {
    Config.set(element(), "model_score_threshold", row.threshold.value);
    soon(side());
  });
  row.own.addEventListener("click", () => {
    Config.set(element(), "model_score_threshold", null);
    refresh(side());
  });
  row.colour.addEventListener("change", () => {
    Config.set(element(), "background", row.colour.value);
    refresh(side());
  });
  return row;
}

function fillRow(row, label, one) {
  const hex = `#${label.colour.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
  const hidden = one.stage.shown.hidden.has(label.name);
  row.swatch.style.background = label.area ? hex : "none";
  row.swatch.style.borderColor = label.area ? "" : hex;
  row.name.textContent = label.shown;
  row.area.textContent = label.area ? percent(label.share) : "";
  row.presence.textContent = label.rest ? "rest" : label.presence.toFixed(2);
  row.presence.className = `badge ${!label.rest && label.presence > label.needed ? "good" : ""}`;
  if (!label.rest) row.presence.title = `presence ${label.presence.toFixed(2)}, needed ${label.needed.toFixed(2)} (${label.threshold_from})`;
  row.item.classList.toggle("absent", !label.area);
  row.eye.setAttribute("aria-pressed", String(!hidden));
  row.eye.setAttribute("aria-label", `${hidden ? "Show" : "Hide"} ${label.shown}`);
  row.eye.textContent = hidden ? "○" : "◉";
  if (!busyWith(row.words)) row.words.value = label.words.join(", ");
  if (!label.rest && !busyWith(row.threshold)) row.threshold.value = label.needed;
  row.told.textContent = label.rest ? "" : label.needed.toFixed(2);
  row.threshold.disabled = row.words.disabled = label.rest;
  row.own.hidden = label.threshold_from !== "label";
  if (!busyWith(row.colour)) row.colour.value = hex;
}

const pending = new Set(); // what waits for a quiet moment, to be run at once where that matters

/** Ask again after a short quiet: sliders speak with every pixel. */
function soon(one) {
  one.flush?.cancel();
  const timer = setTimeout(() => flush(), SETTLE);
  const flush = () => {
    flush.cancel();
    refresh(one);
  };
  flush.cancel = () => {
    clearTimeout(timer);
    pending.delete(flush);
    one.flush = null;
  };
  one.flush = flush;
  pending.add(flush);
}

/** A field that writes an attribute of the tag; `read` gives null for the preset's own. */
function attribute(id, name, read, event = "input") {
  $(id).addEventListener(event, () => {
    const one = side();
    if (!one.config) return;
    Config.set(one.config.tag(one.control), name, read($(id)));
    if (event === "change") refresh(one);
    else soon(one);
  });
}

// -- pointing ---------------------------------------------------------------------------

let frame = 0;
let pointedAt = null; // the place told last

function pointed(stage, place, byKey) {
  cancelAnimationFrame(frame);
  if (place) pointedAt = place;
  frame = requestAnimationFrame(() => tellPlace(place, byKey));
}

function tellPlace(place, byKey) {
  const readout = $("readout");
  const seen = active().filter((one) => one.pane);
  if (!place || !seen.length) return;
  readout.setAttribute("aria-live", byKey ? "polite" : "off");
  const [high, wide] = picture.size_hw;
  const head = document.createElement("p");
  head.textContent = `x ${Math.floor(place[0] * wide)}, y ${Math.floor(place[1] * high)}`;
  head.title = "Scores are compared with each other at every pixel. They are no probabilities, and may pass 1.";
  readout.replaceChildren(head, ...seen.map((one) => scoresAt(one, place)));
}

function scoresAt(one, place) {
  const { pane } = one;
  const claims = claimsAt(pane, ...place);
  const winner = labelAt(pane, ...place);
  const block = document.createElement("div");
  const title = document.createElement("p");
  title.className = "winner";
  title.textContent = `${comparing ? `${one.stage.title.textContent}: ` : ""}${winner < 0 ? "no label" : pane.labels[winner].shown}`;
  const list = document.createElement("ol");
  list.className = "scores";
  const order = claims.map((_, index) => index).filter((index) => !pane.labels[index].rest).sort((a, b) => claims[b] - claims[a]).slice(0, SHOWN_SCORES);
  for (const index of order) {
    const item = document.createElement("li");
    const name = document.createElement("span");
    const bar = document.createElement("span");
    const value = document.createElement("span");
    name.textContent = pane.labels[index].shown;
    bar.className = "score";
    bar.style.setProperty("--share", Math.min(claims[index], 1));
    bar.style.setProperty("--own", `rgb(${pane.labels[index].colour.join(" ")})`);
    value.textContent = claims[index].toFixed(2);
    item.append(name, bar, value);
    list.append(item);
  }
  block.append(title, list);
  return block;
}

// -- taking away ------------------------------------------------------------------------

/** Put what `text` makes of what is on screen into the clipboard. */
async function copy(text, what) {
  const one = side();
  await settled(one);
  if (!picture || !one.good) return;
  const given = text(one);
  try {
    await navigator.clipboard.writeText(given);
    tell(`${what}${ofSide()} copied.`);
  } catch {
    $("by-hand-text").value = given;
    $("by-hand").showModal();
    $("by-hand-text").select();
  }
}

/** Whose it is, where there are two. */
const ofSide = () => (comparing ? ` of side ${"AB"[editing]}` : "");

/** A text as one word of a shell. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function command(one) {
  const { method, profile } = one.pane;
  const name = picture.name.startsWith("-") ? `./${picture.name}` : picture.name;
  const file = picture.source.kind === "kept" ? quoted(name) : "PICTURES";
  return [
    ...(picture.source.kind === "kept" ? [] : ["# PICTURES: picture files of yours, or a folder of them"]),
    `printf '%s\\n' ${quoted(one.good.config)} > config.xml`,
    `cliper segment ${file} --config config.xml --out results --profile ${profile}${method === "cliper" ? "" : ` --method ${method}`}`,
  ].join("\n");
}

async function save(kind) {
  const one = side();
  await settled(one);
  if (!picture || !one.good) return;
  tell("One moment …");
  try {
    const json = { picture: picture.id, ...one.good };
    const answer = await send(`api/exports/${kind}`, { method: "POST", json });
    const named = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") ?? "");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = named ? named[1] : kind;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    tell(`${link.download} saved${ofSide()}.`);
  } catch (error) {
    tell("");
    complain(error);
  }
}

// -- what the address remembers ---------------------------------------------------------

const STATE = ["picture", "config", "control", "b", "b-control", "difference", "view", "of", "opacity", "hidden"];

function remember() {
  const [first, second] = sides;
  if (!picture || !first.good) return;
  const { source } = picture;
  const where = { scene: `scene:${source.number}`, task: `task:${source.project}/${source.task}`, kept: `kept:${source.id}` };
  const told = new URLSearchParams({ picture: where[source.kind], ...first.good });
  if (comparing && second.good) {
    told.set("b", second.good.config);
    told.set("b-control", second.good.control);
    if ($("difference").checked) told.set("difference", "1");
  }
  if ($("view").value !== "masks") told.set("view", $("view").value);
  if ($("view").value === "scores") told.set("of", $("score-of").value);
  if ($("opacity").value !== OPACITY) told.set("opacity", $("opacity").value);
  if (first.stage.shown.hidden.size) told.set("hidden", [...first.stage.shown.hidden].join(","));
  history.replaceState(null, "", `#${told}`);
}

/** Show what the address says; what it does not say is as at the beginning. */
async function restore() {
  const told = new URLSearchParams(location.hash.slice(1));
  const beginning = () => configOf(meta.words.map(([word]) => [word]), colours());
  for (const one of sides) Object.assign(one, { config: null, control: null, good: null });
  $("view").value = told.get("view") ?? "masks";
  $("opacity").value = told.get("opacity") ?? OPACITY;
  $("difference").checked = told.get("difference") === "1";
  let trouble = null;
  try {
    sides[0].config = told.get("config") ? new Config(told.get("config")) : beginning();
    sides[0].control = told.get("control");
    if (told.get("b")) sides[1].config = new Config(told.get("b"));
    sides[1].control = told.get("b-control");
  } catch (error) {
    trouble = error;
    sides[0].config = beginning();
  }
  compare(Boolean(sides[1].config));
  const hidden = new Set((told.get("hidden") ?? "").split(",").filter(Boolean));
  for (const one of sides) one.stage.shown = { ...one.stage.shown, hidden: new Set(hidden), label: told.get("of") };
  $("words").value = sides[0].config.words(sides[0].control ?? "masks");
  view();
  const [kind, where] = (told.get("picture") ?? "scene:0").split(/:(.*)/s);
  if (kind === "task") await openTask(...where.split("/").map(Number), false);
  else if (kind === "kept") await openKept(where);
  else await openScene(Number(where) || 0);
  if (trouble) complain(trouble);
}

/** Only an address that says something is a state; others lead to parts of the page. */
function isState() {
  const told = new URLSearchParams(location.hash.slice(1));
  return location.hash.length < 2 || STATE.some((name) => told.has(name));
}

// -- the rest ---------------------------------------------------------------------------

function complain(error) {
  if (error.name === "AbortError") return;
  $("trouble").textContent = error.message;
  $("trouble-box").hidden = false;
}

function quiet() {
  $("trouble-box").hidden = true;
}

function tell(sentence) {
  $("told").textContent = sentence;
}

function markScene() {
  const number = picture?.source.kind === "scene" ? picture.source.number : -1;
  [...$("scenes").children].forEach((one, index) => one.setAttribute("aria-pressed", String(index === number)));
}

function compare(on) {
  comparing = on;
  $("compare").setAttribute("aria-pressed", String(on));
  $("which").hidden = !on;
  edit(on ? editing : 0);
  if (on && !sides[1].config) {
    sides[1].config = sides[0].config.copy();
    sides[1].control = sides[0].control;
  }
  $("stages").replaceChildren(...active().map((one) => one.stage.figure));
  $("stages").classList.toggle("two-sides", on);
  sides[0].stage.rename(on ? "Side A" : "");
}

function edit(index) {
  editing = index;
  for (const [id, text] of [["h-words", "Words"], ["h-labels", "Labels"], ["h-settings", "Settings"], ["h-take", "Take away"]]) {
    $(id).textContent = `${text}${ofSide()}`;
  }
  $("side-a").setAttribute("aria-pressed", String(index === 0));
  $("side-b").setAttribute("aria-pressed", String(index === 1));
  if (side().pane) fill(side());
}

function view() {
  const chosen = $("view").value;
  $("score-of-field").hidden = chosen !== "scores";
  $("view-told").hidden = !VIEWS[chosen];
  $("view-told").textContent = VIEWS[chosen] ?? "";
  for (const one of sides) {
    one.stage.shown.view = chosen;
    one.stage.shown.opacity = Number($("opacity").value);
    if ($("score-of").value) one.stage.shown.label = $("score-of").value;
    one.stage.draw();
  }
}

let after = null; // number of the last task listed

async function listProjects() {
  try {
    const projects = [];
    for (let page = 1, asked = 0; page && asked < MOST_PROJECTS; asked++) {
      const told = await ask(`api/projects?page=${page}`);
      const { trouble, remedy } = told.connection;
      if (trouble) throw new Error(`${trouble}. What to do: ${remedy}.`);
      projects.push(...told.projects);
      page = told.next;
    }
    options($("project"), projects.map((one) => [one.id, one.title || `project ${one.id}`]), projects[0]?.id);
    if (projects.length) await listTasks(true);
  } catch (error) {
    complain(error);
  }
}

async function listTasks(anew) {
  const told = await ask(`api/projects/${$("project").value}/tasks${anew || after === null ? "" : `?page=${after}`}`);
  const entries = told.tasks.map((task) => new Option(task.name || `task ${task.id}`, task.id));
  if (anew) $("task").replaceChildren(...entries);
  else $("task").append(...entries);
  after = told.next;
  $("more-tasks").hidden = after === null;
}

function listen() {
  $("file").addEventListener("change", () => openFile($("file").files[0]));
  const drop = $("drop");
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  for (const name of ["dragleave", "drop"]) document.addEventListener(name, () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    openFile(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) openFile(event.clipboardData.files[0]);
  });
  $("words-form").addEventListener("submit", submitWords);
  $("config-form").addEventListener("submit", submitConfig);
  $("by-words").addEventListener("click", () => showForm(true));
  $("by-config").addEventListener("click", () => showForm(false));
  $("control").addEventListener("change", () => {
    side().control = $("control").value;
    refresh(side());
  });

  const number = (element) => element.value;
  attribute("threshold", "model_score_threshold", number);
  attribute("mask-threshold", "model_mask_threshold", number);
  attribute("min-area", "model_min_area", number);
  attribute("smooth", "model_smooth", number);
  attribute("background", "model_background", (one) => side().background = one.value.trim() || null, "change");
  attribute("whole", "model_background", (one) => (one.checked ? "" : (side().background ?? null)), "change");
  for (const name of ["refine", "instances", "overlap"]) {
    attribute(name, `model_${name}`, (one) => String(one.checked), "change");
  }
  attribute("method", "model_method", (one) => one.value || null, "change");
  attribute("profile", "model_profile", (one) => one.value || null, "change");
  $("reset").addEventListener("click", () => {
    const one = side();
    for (const element of [one.config.tag(one.control), ...one.config.root.querySelectorAll("Label")]) {
      for (const { name } of [...(element?.attributes ?? [])]) {
        if (name.startsWith("model_") && name !== "model_skip" && name !== "model_fill") element.removeAttribute(name);
      }
    }
    refresh(one);
  });

  for (const id of ["view", "opacity", "score-of"]) $(id).addEventListener("input", view);
  for (const id of ["view", "opacity", "score-of"]) $(id).addEventListener("change", remember);
  $("zoom-in").addEventListener("click", () => sides.forEach((one) => one.stage.zoomBy(1.25)));
  $("zoom-out").addEventListener("click", () => sides.forEach((one) => one.stage.zoomBy(0.8)));
  $("zoom-fit").addEventListener("click", () => sides.forEach((one) => one.stage.fit()));
  $("compare").addEventListener("click", () => {
    compare(!comparing);
    if (comparing) edit(1);
    active().forEach(refresh);
    compareSides();
  });
  $("side-a").addEventListener("click", () => edit(0));
  $("side-b").addEventListener("click", () => edit(1));
  $("difference").addEventListener("change", () => {
    compareSides();
    remember();
  });

  $("copy-config").addEventListener("click", () => copy((one) => one.good.config, "Label config"));
  $("copy-link").addEventListener("click", () => copy(() => {
    remember();
    return location.href;
  }, "Link"));
  $("copy-command").addEventListener("click", () => copy(command, picture?.project
    ? "The command, without what was learnt for the project and its connection's parameters, is"
    : "Command"));
  $("save-overlay").addEventListener("click", () => save("overlay"));
  $("save-labels").addEventListener("click", () => save("labels"));
  $("save-coco").addEventListener("click", () => save("coco"));

  $("of-project").addEventListener("toggle", () => $("of-project").open && !$("project").options.length && listProjects());
  $("project").addEventListener("change", () => listTasks(true).catch(complain));
  $("more-tasks").addEventListener("click", () => listTasks(false).catch(complain));
  $("open-task").addEventListener("click", () => openTask(Number($("project").value), Number($("task").value)));
  $("trouble-over").addEventListener("click", quiet);
  window.addEventListener("hashchange", () => isState() && restore());
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address is the state
    sides[0].stage.viewport.focus();
  });
}

async function begin() {
  try {
    meta = await ask("api/meta");
  } catch (error) {
    complain(error);
    return;
  }
  for (let number = 0; number < meta.scenes; number++) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "thumb" });
    button.setAttribute("aria-pressed", "false");
    const shown = Object.assign(document.createElement("img"), { src: `api/scenes/${number}.png`, alt: `Drawn scene ${number + 1}`, loading: "lazy", width: 64, height: 64 });
    button.append(shown);
    button.addEventListener("click", () => openScene(number));
    $("scenes").append(button);
  }
  options($("method"), [["", "as the service"], ...meta.methods.map((name) => [name, name])], "");
  options($("profile"), [["", "as the service"], ...meta.profiles.map(([name, here]) => [name, here ? name : `${name}: not downloaded`])], "");
  for (const [name, here] of meta.profiles) $("profile").querySelector(`[value="${name}"]`).disabled = !here;
  $("of-project").hidden = $("to-projects").hidden = !meta.projects;
  compare(false);
  listen();
  tellModel();
  await restore();
}

begin();
