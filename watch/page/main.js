// The page: its head, what is said first, and what happens when a run has changed.

const source = openSource();
const panels = new Panels(byId("hero"), byId("panels"));
const groups = new Groups(source, say);
const state = {runs: [], chosen: 0, hidden: new Set(), latestGroup: null, received: 0};

function say(text) {
  byId("message").hidden = !text;
  setText(byId("message"), text);
}

// --- numbers of the run in the foreground

function recent(run, key) {
  return (run.recent[key] || [null, null]);
}

// The first of the keys that a run has.
const firstOf = (run, keys) => keys.find((key) => run.keys.includes(key));
const rightKey = (run) => firstOf(run, ["eval_accuracy"]) || run.keys.find((key) => /^rewards\/.+\/mean$/.test(key) && RIGHT_WORDS.test(key));

// Rising, falling or neither, by the difference of the first and the last tenth (three steps at least) against how
// much steps differ.
function trend(values) {
  const numbers = values.filter(isNumber);
  const n = Math.max(3, Math.floor(numbers.length / 10));
  if (numbers.length < 2 * n) return {word: "", text: "too few steps to tell"};
  const part = (list) => {
    const mean = list.reduce((a, b) => a + b, 0) / list.length;
    return {mean, variance: list.reduce((a, b) => a + (b - mean) ** 2, 0) / (list.length - 1)};
  };
  const [first, last] = [part(numbers.slice(0, n)), part(numbers.slice(-n))];
  const error = Math.sqrt((first.variance + last.variance) / n);
  const difference = last.mean - first.mean;
  const word = Math.abs(difference) <= 2 * error ? "steady" : difference > 0 ? "rising" : "falling";
  return {word, first: first.mean, last: last.mean, error, n};
}

function verdictOf(run) {
  const curves = view.curves[state.chosen];
  if (!run.rows) return run.state === "waiting" ? "The run has not begun: nothing is written yet." : "No step is done yet.";
  const key = firstOf(run, ["reward", "loss"]);
  const curve = key && curves && curves.curves[key];
  if (!curve) return "";
  const t = trend(curve.mean);
  if (!t.word) return `${key === "reward" ? "Reward" : "Loss"} ${shown(recent(run, key)[1])}: ${t.text}.`;
  const what = key === "reward" ? "Reward" : "Loss";
  const range = `${shown(t.first)} at first, ${shown(t.last)} ${run.state === "running" ? "now" : "at the end"}`;
  if (t.word === "steady") return `${what} shows no clear change: ${range}.`;
  const word = run.state === "running" ? `is ${t.word}` : t.word === "rising" ? "rose" : "fell";
  return `${what} ${word}: ${range}.`;
}

function notesOf(run) {
  const notes = [...run.troubles];
  const now = (key) => recent(run, key)[1];
  if (now("frac_reward_zero_std") > 0.5)
    notes.push(`${percent(now("frac_reward_zero_std"))} of the completions are in groups that were rewarded all the same: they teach nothing.`);
  if (now("completions/clipped_ratio") > 0.3)
    notes.push(`${percent(now("completions/clipped_ratio"))} of the completions are cut off at their longest: --max-completion-length may be too short.`);
  if (now("skipped_steps") > 0) notes.push(`${shown(now("skipped_steps"))} steps updated nothing: loss or gradient was not finite.`);
  if (run.bytes > run.bytes_read + 1e6) notes.push(`Reading completions.jsonl: ${percent(run.bytes_read / run.bytes)}.`);
  return notes;
}

function tilesOf(run) {
  const tile = (title, value, detail, change) => ({title, value, detail, change});
  const out = [];
  const change = (key, title, format) => {
    const [first, last] = recent(run, key);
    if (!isNumber(last)) return;
    out.push(tile(title, format(last), `from ${format(first)}`, last - first));
  };
  change("reward", "Reward", shown);
  const right = rightKey(run);
  if (right === "eval_accuracy") change(right, "Held-out accuracy", percent);
  else if (right) change(right, right.slice("rewards/".length, -"/mean".length), shown);
  if (!run.keys.includes("reward")) change("loss", "Loss", shown);
  change("mean_token_accuracy", "Token accuracy", percent);
  change("completions/mean_length", "Length", (v) => `${shown(v)} tokens`);
  change("kl", "KL", shown);
  change("entropy", "Entropy", shown);
  const speed = recent(run, "tokens_per_second")[1];
  if (isNumber(speed)) out.push(tile("Tokens a second", shown(speed), `${duration(run.step_seconds)} a step`, null));
  out.push(tile("Time so far", duration(run.seconds), run.started ? `since ${shownTime(run.started)}` : "", null));
  return out.slice(0, 8);
}

// Day and time, where the reader is.
function shownTime(text) {
  const time = new Date(text);
  return `${time.toLocaleDateString("en-GB", {day: "numeric", month: "short"})} ${time.toLocaleTimeString("en-GB", {hour: "2-digit", minute: "2-digit"})}`;
}

function showTiles(run) {
  const place = byId("tiles");
  const tiles = tilesOf(run);
  const names = tiles.map((tile) => tile.title).join("|");
  if (place.dataset.names !== names) {
    place.dataset.names = names;
    place.replaceChildren(...tiles.map((tile) => el("div.tile", {}, el("span.quiet", {}, tile.title), el("b", {}), el("span.detail", {}))));
  }
  tiles.forEach((tile, i) => {
    const [, value, detail] = place.children[i].children;
    setText(value, tile.value);
    const arrow = isNumber(tile.change) ? (tile.change > 0 ? "↗ " : tile.change < 0 ? "↘ " : "→ ") : "";
    setText(detail, arrow + tile.detail);
  });
}

// --- the head

const STATES = {
  waiting: "waiting", running: "running", silent: "silent", finished: "finished", interrupted: "interrupted", failed: "failed", killed: "killed",
};
const STATE_TEXTS = {
  silent: "Says that it runs, but has written nothing for long.",
  killed: "Its process ended without a word: it was killed. --resume goes on from its last checkpoint.",
  interrupted: "Ended by a signal, with a checkpoint. --resume goes on from there.",
};

function showHead() {
  const run = state.runs[state.chosen];
  const badge = byId("state");
  badge.dataset.state = run.state;
  setText(badge, source.live || run.state !== "running" ? STATES[run.state] : "was running");
  badge.title = STATE_TEXTS[run.state] || "";
  setText(byId("name"), run.name);
  setText(byId("model"), run.model ? run.model.split("/").filter(Boolean).slice(-1)[0] : "");
  document.title = `${run.step}${run.max_steps ? `/${run.max_steps}` : ""} ${run.name} – qgrpo watch`;
  byId("progress").max = Math.max(run.max_steps, run.step, 1);
  byId("progress").value = run.step;
  const of = run.max_steps ? ` of ${run.max_steps.toLocaleString("en-US")}` : "";
  setText(byId("steps"), run.rows ? `step ${run.step.toLocaleString("en-US")}${of}` : "no steps yet");
  showLeft();
  setText(byId("verdict"), verdictOf(run));
  const notes = notesOf(run);
  const place = byId("notes");
  if (place.dataset.now !== JSON.stringify(notes)) {
    place.dataset.now = JSON.stringify(notes);
    place.replaceChildren(...notes.map((note) => el("li", {}, note)));
  }
  showTiles(run);
}

function showLeft() {
  const run = state.runs[state.chosen];
  if (!run) return;
  const left = isNumber(run.seconds_left) ? Math.max(0, run.seconds_left - (source.live ? (performance.now() - state.received) / 1000 : 0)) : null;
  setText(byId("left"), run.state === "running" && source.live && left !== null ? `${duration(left)} left` : STATE_TEXTS[run.state] ? "" : run.rows ? `took ${duration(run.seconds)}` : "");
}

const DASHES = ["none", "7 3", "2 3"];

function showRuns() {
  const place = byId("runs");
  place.hidden = state.runs.length < 2;
  if (place.hidden) return;
  const focus = document.activeElement && document.activeElement.dataset.focus;
  place.replaceChildren(...state.runs.map((run, i) => {
    const shownBox = el("input", {type: "checkbox", "aria-label": `Draw ${run.name}`, "data-focus": `draw-${i}`, onchange: (event) => {
      if (event.target.checked) state.hidden.delete(i);
      else state.hidden.add(i);
      refresh();
    }});
    shownBox.checked = !state.hidden.has(i);
    const choice = el("button", {type: "button", "aria-pressed": String(i === state.chosen), "data-focus": `choose-${i}`, onclick: () => chooseRun(i)}, run.name);
    const of = run.max_steps ? `/${run.max_steps}` : "";
    return el("li", {"data-chosen": String(i === state.chosen)}, shownBox, swatch(`var(--c${i % 8})`, DASHES[Math.floor(i / 8) % 3]), choice,
      el("span.quiet", {}, `${run.state}, ${run.step}${of}, reward ${shown(recent(run, "reward")[1])}`));
  }));
  if (focus) {
    const again = place.querySelector(`[data-focus="${focus}"]`);
    if (again) again.focus({preventScroll: true});
  }
}

// --- what it writes now

async function showLatest() {
  const run = state.runs[state.chosen];
  const place = byId("latest");
  const title = run.state === "running" || run.state === "waiting" ? "What it writes now" : "What it wrote last";
  if (!run.groups) {
    place.replaceChildren(el("h2", {}, title), el("p.quiet", {}, "No completions yet."));
    return;
  }
  const key = `${state.chosen}/${run.generation}/${run.groups}/${run.state}`;
  const read = hasSelection(place) || [...place.querySelectorAll(".text")].some((text) => text.scrollTop > 0);
  if (state.latestGroup === key || (read && state.latestGroup && state.latestGroup.startsWith(`${state.chosen}/`))) return;
  state.latestGroup = key;
  let group = null;
  try {
    const newest = await source.groups(state.chosen, {order: "newest", filter: "all", limit: 1, skip: 0});
    if (newest.groups.length) group = await source.group(state.chosen, newest.groups[0].id);
  } catch (error) {
    say(error.message);
  }
  if (!group || state.latestGroup !== key) return;
  const sorted = [...group.completions].sort((a, b) => b.reward - a.reward);
  const cards = sorted.length > 1 && sorted[0].reward !== sorted[sorted.length - 1].reward
    ? [completionCard(sorted[0], "", "best"), completionCard(sorted[sorted.length - 1], "", "worst")] : [completionCard(sorted[0], "")];
  const open = el("button", {type: "button", onclick: () => {
    byId("completions").scrollIntoView({block: "start"});
    groups.choose(group.id);
  }}, `All ${group.completions.length}`);
  place.replaceChildren(
    el("div.latest-head", {}, el("h2", {}, title), el("span.quiet", {}, `step ${group.step.toLocaleString("en-US")}`), open),
    el("p.latest-prompt", {title: group.prompt}, group.prompt),
    el("div.cards", {}, cards));
}

// --- settings

function table(rows, head) {
  return el("div.table", {}, el("table", {}, head ? el("thead", {}, el("tr", {}, head.map((text) => el("th", {scope: "col"}, text)))) : null,
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, i) => (i === 0 ? el("th", {scope: "row"}, cell) : el("td", {}, cell))))))));
}

function bytes(value) {
  return value >= 1e9 ? `${(value / 1e9).toFixed(2)} GB` : `${(value / 1e6).toFixed(1)} MB`;
}

async function showDetails() {
  const place = byId("details");
  let details;
  try {
    details = await source.details(state.chosen);
  } catch (error) {
    say(error.message);
    return;
  }
  const now = JSON.stringify(details);
  if (place.dataset.now === now) return;
  place.dataset.now = now;
  const open = new Set([...place.querySelectorAll("details[open]")].map((node) => node.dataset.part));
  const part = (name, title, ...content) => el("details", {"data-part": name, open: open.has(name)}, el("summary", {}, title), ...content);
  const starts = details.starts.map((start) => [start.time.replace("T", " ").replace("Z", ""), start.status, `${start.first_step}–${start.last_step || "…"}`, start.device, start.version]);
  const memory = details.memory;
  const options = details.options.filter(([, value]) => value !== "");
  place.replaceChildren(
    table(starts, ["Started (UTC)", "Ended", "Steps", "Device", "Version"]),
    memory ? part("memory", `Memory plan: ${bytes(memory.total)}`, table(memory.regions.map((region) => [region.name, bytes(region.bytes), region.note || ""]), ["Part", "Size", ""])) : "",
    part("options", `Options (${options.length})`, table(options)),
    details.config_toml ? part("config", "config.toml", el("pre.text", {tabindex: 0}, details.config_toml)) : "");
}

// --- what happens

function chooseRun(index) {
  if (state.chosen === index) return;
  state.chosen = index;
  state.hidden.delete(index);
  refresh();
}

function visibleRuns() {
  const out = state.runs.map((run, index) => ({index, name: run.name, color: `var(--c${index % 8})`, hue: index % 8, dash: DASHES[Math.floor(index / 8) % 3]}))
    .filter((run) => !state.hidden.has(run.index));
  // The chosen one last: over the others.
  return out.sort((a, b) => (a.index === state.chosen) - (b.index === state.chosen));
}

let fetching = false, again = false, spent = 0;
async function refreshCurves() {
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  const begin = performance.now();
  try {
    const wanted = visibleRuns();
    const answers = await Promise.all(wanted.map((run) => source.curves(run.index, view.range, 300)));
    view.visible = wanted;
    wanted.forEach((run, i) => (view.curves[run.index] = answers[i]));
    panels.show([...new Set(wanted.flatMap((run) => state.runs[run.index].keys))].sort());
    document.body.dataset.drawn = String(Number(document.body.dataset.drawn || 0) + 1);
    showHead();
  } catch (error) {
    say(`The numbers could not be read: ${error.message}`);
  }
  spent = performance.now() - begin;
  // A busy page rests as long as it worked, and a second.
  setTimeout(() => {
    fetching = false;
    if (again) {
      again = false;
      refreshCurves();
    }
  }, source.live ? Math.max(1000, 2 * spent) : 0);
}

function refresh() {
  const run = state.runs[state.chosen];
  if (!run || (document.hidden && state.received && document.body.dataset.drawn)) return;
  // A supervised run writes none.
  document.body.dataset.completions = run.trainer === "sft" && !run.groups ? "none" : "some";
  showHead();
  showRuns();
  refreshCurves();
  showLatest();
  groups.update(state.chosen, run);
  showDetails();
  const pair = `${state.chosen}/${run.generation}/${run.state}/${Math.floor(Math.log2(run.groups + 1))}`;
  if (state.pair !== pair) {
    state.pair = pair;
    groups.showPair();
  }
}

view.onCursor = (() => {
  const draw = oncePerFrame(() => panels.drawCursor());
  return (step) => {
    if (view.cursor === step) return;
    view.cursor = step;
    draw();
  };
})();
view.onRange = (range) => {
  view.range = range;
  byId("whole").disabled = !range;
  refreshCurves();
};
view.onStep = (run, step, width) => {
  chooseRun(run);
  groups.showStep(run, step, width);
};

function remembered(key, value) {
  try {
    if (value === undefined) return localStorage.getItem(`qgrpo-watch-${key}`);
    localStorage.setItem(`qgrpo-watch-${key}`, value);
  } catch (error) {
    // A page from a file may have no memory: it works without.
  }
  return null;
}

const redraw = oncePerFrame(() => panels.draw());
function showSmoothing() {
  view.smoothing = Number(byId("smoothing").value);
  setText(byId("smoothing-value"), view.smoothing.toFixed(2));
}
if (remembered("smoothing") !== null) byId("smoothing").value = remembered("smoothing");
showSmoothing();
byId("smoothing").addEventListener("input", () => {
  showSmoothing();
  remembered("smoothing", view.smoothing);
  redraw();
});
byId("axis").addEventListener("change", (event) => {
  view.axis = event.target.value;
  redraw();
});
byId("whole").addEventListener("click", () => view.onRange(null));
document.addEventListener("visibilitychange", refresh);
setInterval(showLeft, 1000);

source.listen((runs) => {
  state.runs = runs;
  state.received = performance.now();
  refresh();
}, (connection) => {
  document.body.dataset.connection = connection;
  say(connection === "lost" ? "The connection to qgrpo watch is lost. This is how the run stood; it goes on by itself when the program is there again." : "");
});
