// Where the page's data comes from: the program that serves it, or the page itself where it was exported.

class ServedSource {
  constructor() {
    this.live = true;
    this.key = new URLSearchParams(location.search).get("key");
  }
  query() {
    return new URLSearchParams(this.key ? {key: this.key} : {});
  }
  async ask(path, values) {
    const query = this.query();
    for (const [key, value] of Object.entries(values || {}))
      if (value !== null && value !== undefined && value !== "") query.set(key, value);
    const answer = await fetch(`api/${path}?${query}`, {cache: "no-store"});
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${(await answer.text()).slice(0, 200)}`);
    return answer.json();
  }
  curves(run, range, entries) {
    return this.ask("curves", {run, from: range && range[0], to: range && range[1], entries});
  }
  groups(run, query) {
    return this.ask("groups", {run, ...query});
  }
  group(run, id) {
    return this.ask("group", {run, id});
  }
  pair(run) {
    return this.ask("before-after", {run});
  }
  details(run) {
    return this.ask("details", {run});
  }
  // Calls onRuns with all runs whenever one has changed, onState with "open" or "lost".
  listen(onRuns, onState) {
    const events = new EventSource(`api/events?${this.query()}`);
    events.onmessage = (event) => {
      onState("open");
      onRuns(JSON.parse(event.data).runs);
    };
    events.onerror = () => onState("lost");
  }
}

class EmbeddedSource {
  constructor(data) {
    this.live = false;
    this.data = data;
  }
  listen(onRuns) {
    onRuns(this.data.runs.map((run) => run.overview));
  }
  async curves(run, range) {
    const all = this.data.runs[run].curves;
    if (!range) return all;
    const keep = all.steps.map((step) => step >= range[0] && step <= range[1]);
    const part = (values) => values && values.filter((_, i) => keep[i]);
    const curves = {};
    for (const [key, curve] of Object.entries(all.curves)) {
      curves[key] = {mean: part(curve.mean)};
      if (curve.least) Object.assign(curves[key], {least: part(curve.least), largest: part(curve.largest)});
    }
    return {...all, steps: part(all.steps), hours: part(all.hours), last: part(all.last), curves};
  }
  async group(run, id) {
    return this.data.runs[run].groups.find((group) => group.id === id) || null;
  }
  async pair(run) {
    return this.data.runs[run].pair;
  }
  async details(run) {
    return this.data.runs[run].details;
  }
  async groups(run, query) {
    const low = (text) => text.replace(/[A-Z]/g, (c) => c.toLowerCase());
    const search = low(query.search || "");
    const passes = (group) => {
      if (isNumber(query.from) && group.step < query.from) return false;
      if (isNumber(query.to) && group.step > query.to) return false;
      if (query.filter === "failed") return group.completions.some((c) => c.failed);
      if (query.filter === "right") return group.completions.some((c) => !c.failed);
      if (query.filter === "cut") return group.completions.some((c) => !c.terminated);
      return true;
    };
    const mean = (group) => group.completions.reduce((sum, c) => sum + c.reward, 0) / group.completions.length;
    const spread = (group) => {
      const rewards = group.completions.map((c) => c.reward);
      return Math.max(...rewards) - Math.min(...rewards);
    };
    const matches = (group) => {
      const everywhere = low(group.prompt).includes(search) || low(group.answer).includes(search);
      return group.completions.flatMap((c, i) => (everywhere || low(c.text).includes(search) ? [i] : []));
    };
    const found = this.data.runs[run].groups.filter(passes).reverse();
    const by = {
      oldest: (g) => g.id, lowest: mean, highest: (g) => -mean(g), spread: (g) => -spread(g),
    }[query.order];
    if (by) found.sort((a, b) => by(a) - by(b));
    const listed = found.map((group) => ({
      id: group.id, step: group.step, prompt: group.prompt.slice(0, 200), mean: mean(group),
      failed: group.completions.map((c) => c.failed), rewards: group.completions.map((c) => c.reward),
      advantages: group.completions.map((c) => c.advantage),
      cut: group.completions.filter((c) => !c.terminated).length, matches: search ? matches(group) : [],
    })).filter((group) => !search || group.matches.length);
    const skip = query.skip || 0;
    const groups = listed.slice(skip, skip + (query.limit || 30));
    return {groups, among: 0, skip: skip + groups.length, candidates: listed.length};
  }
}

function openSource() {
  const embedded = byId("embedded-run");
  return embedded ? new EmbeddedSource(JSON.parse(embedded.textContent)) : new ServedSource();
}
