// Completions: a list of groups, and one group side by side.

// Blue above the group's mean, orange below it: the stronger the further.
function toned(node, advantage) {
  node.style.setProperty("--tone", String(Math.round(Math.min(1, Math.abs(advantage) / 2) * 100)));
  node.dataset.sign = advantage > 1e-9 ? "above" : advantage < -1e-9 ? "below" : "even";
  return node;
}

// Each token on a ground that is the stronger the less likely it was when it was drawn.
function tokenSpans(tokens) {
  return tokens.map(([text, logprob]) => {
    const span = el("span.token", {title: isNumber(logprob) ? `${percent(Math.exp(logprob))} likely (log-prob ${shown(logprob)})` : ""}, text);
    if (isNumber(logprob)) span.style.setProperty("--tone", String(Math.round(Math.min(1, -logprob / 4) * 100)));
    return span;
  });
}

function completionCard(completion, search, best, asTokens) {
  const parts = Object.entries(completion.parts || {});
  const tokens = isNumber(completion.length) ? `${completion.length} tokens` : "";
  const badges = [];
  if (!completion.terminated) badges.push(el("span.badge.cut", {}, "cut off"));
  badges.push(completion.failed ? el("span.badge.failed", {}, "✗ failed") : el("span.badge.right", {}, "✓"));
  const extra = Object.entries(completion.extra || {});
  const text = el("pre.text", {tabindex: 0, "aria-label": "Text of the completion"},
    ...(asTokens && completion.tokens ? tokenSpans(completion.tokens) : marked(completion.text, search)));
  if (completion.cut) text.append(el("span.quiet", {}, `\n… ${completion.cut.toLocaleString("en-US")} bytes in all`));
  const card = el("article.card", {"data-failed": String(completion.failed)},
    el("header", {},
      el("b.reward", {title: "reward"}, shown(completion.reward)),
      el("span.advantage", {title: "advantage: how far above or below its group"}, shownSigned(completion.advantage)),
      el("span.badges", {}, best ? el("span.badge", {}, best) : null, ...badges),
      el("span.quiet", {}, tokens)),
    parts.length ? el("ul.parts", {"aria-label": "Each reward"}, parts.map(([name, value]) =>
      el("li", {}, name, " ", el("b", {}, shown(value))))) : null,
    text,
    extra.length ? el("dl.extra", {}, extra.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])) : null);
  return toned(card, completion.advantage);
}

function promptBlock(group, search) {
  return el("div.prompt", {},
    el("div.quiet", {}, "Prompt"), el("pre.text", {tabindex: 0, "aria-label": "Text of the prompt"}, ...marked(group.prompt, search)),
    group.answer ? el("div.expected", {}, el("span.quiet", {}, "Expected answer "), el("b", {}, ...marked(group.answer, search))) : null);
}

class Groups {
  constructor(source, announce) {
    this.source = source;
    this.announce = announce;
    this.run = 0;
    this.rule = "";
    this.listed = [];
    this.selected = null;
    this.cardOrder = "drawn";
    this.onlyFailures = false;
    this.asTokens = false;
    this.asked = 0;
    this.list = byId("list");
    this.newer = byId("newer");
    this.follow = byId("follow");
    const again = later(() => this.load(), 200);
    byId("query").addEventListener("submit", (event) => event.preventDefault());
    for (const id of ["search", "from", "to"]) byId(id).addEventListener("input", () => {
      this.stopFollowing();
      again();
    });
    for (const id of ["filter", "order"]) byId(id).addEventListener("change", () => this.load());
    this.list.addEventListener("click", (event) => {
      const item = event.target.closest("li");
      if (item) this.choose(Number(item.dataset.id));
    });
    this.list.addEventListener("keydown", (event) => this.onKey(event));
    byId("more").addEventListener("click", () => this.loadMore());
    this.newer.addEventListener("click", () => this.load());
    this.follow.addEventListener("change", () => this.follow.checked && this.load());
    if (!source.live) byId("follow-label").hidden = this.newer.hidden = true;
  }

  query() {
    const number = (id) => (byId(id).value.trim() === "" ? null : Number(byId(id).value));
    return {search: byId("search").value, filter: byId("filter").value, order: byId("order").value, from: number("from"), to: number("to"), limit: 30};
  }

  stopFollowing() {
    if (this.source.live) this.follow.checked = false;
  }

  // Whether somebody has scrolled into what is shown, or selected some of it: it must not change now.
  beingRead() {
    const group = byId("group"), box = group.getBoundingClientRect();
    return this.list.scrollTop > 8 || group.scrollTop > 8 || (box.top < 60 && box.bottom > 120) || hasSelection(byId("completions"));
  }

  // What the run has, told after each change of it. The list stays as it is under the reader's eyes, unless it
  // follows the newest.
  update(run, overview) {
    const other = run !== this.run || overview.generation !== this.generation;
    const grown = overview.groups - (this.among || 0);
    this.run = run;
    this.rule = overview.failure_rule;
    this.all = overview.groups;
    this.generation = overview.generation;
    if (other) {
      this.selected = null;
      this.load();
    } else if (grown > 0 && this.follow.checked && this.source.live && !this.beingRead()) {
      this.load();
    } else if (this.source.live) {
      this.newer.disabled = grown <= 0;
      setText(this.newer, grown > 0 ? `Show ${grown.toLocaleString("en-US")} newer` : "Nothing newer");
    }
    if (!overview.groups) setText(byId("list-state"), "No completions yet.");
  }

  async load() {
    const asked = ++this.asked;
    this.listed = [];
    this.next = {skip: 0};
    await this.fetchMore(asked, true);
    if (asked !== this.asked) return;
    const newest = this.follow.checked && this.source.live && byId("order").value === "newest";
    const there = this.listed.some((group) => group.id === this.selected);
    if (!this.listed.length) byId("group").replaceChildren();
    else if (newest || !there) await this.choose(this.listed[0].id, true);
    else if (this.group) this.showGroup();  // what is searched for is marked in it
  }

  async loadMore() {
    await this.fetchMore(this.asked, false);
  }

  // A search goes on until a page of groups is full: each answer reads a bounded part of the file.
  async fetchMore(asked, fresh) {
    const query = this.query();
    const found = [];
    let answer;
    do {
      try {
        answer = await this.source.groups(this.run, {...query, ...this.next, limit: query.limit - found.length});
      } catch (error) {
        if (asked === this.asked) setText(byId("list-state"), `The completions could not be read: ${error.message}`);
        return;
      }
      if (asked !== this.asked) return;
      found.push(...answer.groups);
      this.next = {skip: answer.skip, among: answer.among};
      if (query.search && answer.skip < answer.candidates)
        setText(byId("list-state"), `Searched ${percent(answer.skip / answer.candidates)} of the groups …`);
    } while (query.search && found.length < query.limit && answer.skip < answer.candidates);
    this.among = answer.among;
    this.newer.disabled = true;
    setText(this.newer, "Nothing newer");
    if (fresh) this.list.replaceChildren();
    this.listed.push(...found);
    this.list.append(...found.map((group) => this.item(group)));
    byId("more").hidden = answer.skip >= answer.candidates;
    const all = this.source.live || answer.candidates >= this.all ? "" : ` of the run's ${this.all.toLocaleString("en-US")}: this page has a part`;
    const total = query.search ? `${this.listed.length}${answer.skip < answer.candidates ? " or more" : ""} groups have the text` : `${answer.candidates.toLocaleString("en-US")} groups${all}`;
    setText(byId("list-state"), answer.candidates || query.search ? total : "No group is like that.");
    this.mark();
  }

  item(group) {
    const strip = el("span.strip", {"aria-hidden": "true", title: "A completion each: blue above the group's mean, orange below it; round: failed"}, group.rewards.slice(0, 32).map((_, i) => {
      const box = toned(el("i"), group.advantages[i]);
      if (group.failed[i]) box.classList.add("failed");
      return box;
    }));
    const failures = group.failed.filter(Boolean).length;
    return el("li", {role: "option", id: `group-${group.id}`, "data-id": group.id, "aria-selected": "false"},
      el("span.item-head", {}, el("b", {}, `step ${group.step.toLocaleString("en-US")}`), strip, el("span.mean", {}, shown(group.mean))),
      el("span.item-prompt", {}, group.prompt),
      el("span.hidden", {}, `mean reward ${shown(group.mean)}, ${failures} of ${group.failed.length} failed`));
  }

  onKey(event) {
    const at = this.listed.findIndex((group) => group.id === this.selected);
    const last = this.listed.length - 1;
    const to = {ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: last, PageDown: at + 8, PageUp: at - 8}[event.key];
    if (to === undefined || !this.listed.length) return;
    event.preventDefault();
    if (to > last && !byId("more").hidden) this.loadMore();
    this.choose(this.listed[Math.max(0, Math.min(last, to))].id);
  }

  mark() {
    for (const item of this.list.children) {
      const chosen = Number(item.dataset.id) === this.selected;
      item.setAttribute("aria-selected", String(chosen));
      if (chosen) this.list.setAttribute("aria-activedescendant", item.id);
    }
  }

  async choose(id, following) {
    if (!following) this.stopFollowing();
    this.selected = id;
    this.mark();
    const item = byId(`group-${id}`);
    if (item && !following) {
      const box = this.list.getBoundingClientRect(), own = item.getBoundingClientRect();
      if (own.top < box.top) this.list.scrollTop += own.top - box.top;
      if (own.bottom > box.bottom) this.list.scrollTop += own.bottom - box.bottom;
    }
    let group = null;
    try {
      group = await this.source.group(this.run, id);
    } catch (error) {
      this.announce(error.message);
    }
    if (this.selected !== id) return;
    this.group = group;
    this.showGroup();
  }

  // The completions of a step: from a plot.
  async showStep(run, step, width) {
    byId("from").value = width > 1 ? Math.max(0, step - width + 1) : step;
    byId("to").value = step;
    byId("search").value = "";
    byId("filter").value = "all";
    this.stopFollowing();
    this.selected = null;
    byId("completions").scrollIntoView({block: "start"});
    await this.load();
    this.list.focus({preventScroll: true});
  }

  showGroup() {
    const place = byId("group");
    const group = this.group;
    if (!group) {
      place.replaceChildren(el("p.quiet", {}, "The file has this group no more."));
      return;
    }
    const search = byId("search").value;
    let cards = group.completions.map((completion, i) => ({completion, i}));
    const failures = cards.filter(({completion}) => completion.failed).length;
    if (this.onlyFailures) cards = cards.filter(({completion}) => completion.failed);
    if (this.cardOrder === "reward") cards.sort((a, b) => b.completion.reward - a.completion.reward);
    const order = el("select", {"aria-label": "Order of the completions", onchange: (event) => {
      this.cardOrder = event.target.value;
      this.showGroup();
    }}, el("option", {value: "drawn"}, "as drawn"), el("option", {value: "reward"}, "by reward"));
    order.value = this.cardOrder;
    const only = el("input", {type: "checkbox", onchange: (event) => {
      this.onlyFailures = event.target.checked;
      this.showGroup();
    }});
    only.checked = this.onlyFailures;
    const sure = el("input", {type: "checkbox", onchange: (event) => {
      this.asTokens = event.target.checked;
      this.showGroup();
    }});
    sure.checked = this.asTokens;
    sure.dataset.focus = "sure";
    only.dataset.focus = "only";
    order.dataset.focus = "order";
    const tokens = group.completions.some((completion) => completion.tokens);
    const focused = place.contains(document.activeElement) && document.activeElement.dataset.focus;
    place.replaceChildren(
      el("div.group-head", {},
        el("h3", {}, `Step ${group.step.toLocaleString("en-US")}`),
        el("span.quiet", {title: `failed: ${this.rule}`}, `${group.completions.length} completions, ${failures} failed (${this.rule})`),
        el("span.tools", {}, tokens ? el("label", {title: "The stronger its ground, the less likely a token was when it was drawn"}, sure, " how likely") : null,
          el("label", {}, only, " only failures"), order)),
      promptBlock(group, search),
      cards.length ? el("div.cards", {}, cards.map(({completion}) => completionCard(completion, search, null, this.asTokens)))
        : el("p.quiet", {}, "None of them failed."));
    const again = focused && place.querySelector(`[data-focus="${focused}"]`);
    if (again) again.focus({preventScroll: true});
  }

  // The first and the last answers to one prompt.
  async showPair() {
    const place = byId("pair");
    let pair = null, groups = [];
    try {
      pair = await this.source.pair(this.run);
      if (pair) groups = await Promise.all([pair.before, pair.after].map((id) => this.source.group(this.run, id)));
    } catch (error) {
      this.announce(error.message);
    }
    if (!pair || groups.includes(null)) {
      place.replaceChildren(el("p.quiet", {}, "There is only one step so far."));
      return;
    }
    const mean = (group) => group.completions.reduce((sum, c) => sum + c.reward, 0) / group.completions.length;
    place.replaceChildren(
      el("p.quiet", {}, pair.same_prompt ? "The first completion that was drawn for a prompt, and the first of the same prompt later on."
        : "No prompt came twice so far: the first completion of the first step, and of the newest."),
      el("div.columns", {}, groups.map((group) => el("div", {},
        el("h4", {}, `Step ${group.step.toLocaleString("en-US")}`, el("span.quiet", {}, ` group's mean reward ${shown(mean(group))}`)),
        promptBlock(group, ""), completionCard(group.completions[0], "")))));
  }
}
