// Which plots there are, and in which order. A key that a run does not have leaves no plot; keys that no line
// here names come at the end.

const RIGHT_WORDS = /correct|accura|exact|right|solved|pass@|equal/i;

function panelsOf(keys) {
  const has = new Set(keys);
  const used = new Set();
  const one = (title, key, more) => ({title, keys: [{key, label: "", ...more}], ...(more || {})});
  const wanted = [];
  const group = (heading, specs) => {
    const there = specs.filter((spec) => spec.keys.some((key) => has.has(key.key)));
    for (const spec of specs)
      for (const key of spec.keys)
        for (const name of [key.key, key.low, key.high, key.deviation]) used.add(name);
    if (there.length) wanted.push({heading, specs: there});
  };
  const functions = keys.filter((key) => /^rewards\/.+\/mean$/.test(key));
  const reward = one("Reward", "reward", {deviation: "reward_std", tall: true, note: "mean of the step's completions; the band is their standard deviation"});
  const right = functions.filter((key) => RIGHT_WORDS.test(key));
  const entropy = one("Entropy", "entropy", {unit: "nats", zero: true});
  const accuracy = {title: "Held-out accuracy", unit: "part of the questions", zero: true, keys: [{key: "eval_accuracy", label: ""}]};
  const name = (key) => key.slice("rewards/".length, -"/mean".length);
  group("Rewards", [accuracy, one("Held-out reward", "eval_reward", {}),
    ...[...right, ...functions.filter((key) => !right.includes(key))]
      .map((key) => one(name(key), key, {deviation: key.replace(/mean$/, "std"), unit: "reward"})),
    one("Groups without a signal", "frac_reward_zero_std", {unit: "part", zero: true, note: "the part of the completions whose group was rewarded all the same"})]);
  group("Completions", [
    one("Length", "completions/mean_length", {low: "completions/min_length", high: "completions/max_length", unit: "tokens", zero: true, note: "the band is the shortest and the longest"}),
    one("Cut off", "completions/clipped_ratio", {unit: "part", zero: true, note: "completions that did not end by themselves"}),
    ...(has.has("reward") ? [entropy] : []),
  ]);
  group("The update", [
    one("KL to the reference", "kl", {unit: "nats", zero: true}),
    ...(has.has("reward") ? [one("Loss", "loss", {})] : [entropy]),
    one("Token accuracy", "mean_token_accuracy", {unit: "part"}),
    one("Gradient norm", "grad_norm", {zero: true, note: "before clipping"}),
    one("Learning rate", "learning_rate", {zero: true}),
    {title: "Clipped tokens", unit: "part", zero: true, note: "tokens on which the ratio's clip was active", keys: [
      {key: "clip_ratio/low_mean", label: "low"}, {key: "clip_ratio/high_mean", label: "high"}, {key: "clip_ratio/region_mean", label: "both"}]},
    {title: "Sampled against trained", unit: "nats", zero: true, note: "absolute difference of a token's log-prob when it was sampled and in training", keys: [
      {key: "sampling/sampling_logp_difference/mean", label: "mean"}, {key: "sampling/sampling_logp_difference/max", label: "max"}]},
    {title: "Importance ratio", note: "sampling's log-probs against training's", keys: [
      {key: "sampling/importance_sampling_ratio/mean", label: "mean", low: "sampling/importance_sampling_ratio/min", high: "sampling/importance_sampling_ratio/max"}]},
  ]);
  group("Speed", [
    {title: "Tokens a second", unit: "tokens/s", zero: true, keys: [
      {key: "tokens_per_second", label: "step"}, {key: "tokens_per_second/sampling", label: "sampling"}, {key: "tokens_per_second/training", label: "training"}]},
    {title: "Time of a step", unit: "s", zero: true, keys: [
      {key: "step_time", label: "step"}, {key: "step_time/sampling", label: "sampling"}, {key: "step_time/training", label: "training"}]},
    {title: "Of the device's peak", unit: "part", zero: true, keys: [
      {key: "speed_of_light", label: "step"}, {key: "speed_of_light/sampling", label: "sampling"}, {key: "speed_of_light/training", label: "training"}]},
  ]);
  for (const key of ["reward", "reward_std", "loss", "num_tokens", "eval_accuracy_interval", "eval_samples", "eval_runtime"]) used.add(key);
  const rest = keys.filter((key) => !used.has(key));
  group("More", rest.map((key) => one(key, key, {})));
  const hero = has.has("reward") ? reward
    : has.has("loss") ? one("Loss", "loss", {tall: true})
    : one("Reward", "reward", {tall: true});
  return {hero, groups: wanted};
}

// The plots of the page: made anew only where a run brings keys that were not there.
class Panels {
  constructor(heroPlace, place) {
    this.heroPlace = heroPlace;
    this.place = place;
    this.known = null;
    this.plots = [];
    this.moreIsOpen = false;
  }

  show(keys) {
    const now = JSON.stringify(keys);
    if (now !== this.known) {
      this.known = now;
      this.build(panelsOf(keys));
    }
    this.draw();
  }

  build({hero, groups}) {
    for (const plot of this.plots) plot.resized.disconnect();
    const focused = document.activeElement && document.activeElement.closest(".plot");
    const title = focused && focused.dataset.title;
    this.hero = new Plot(hero);
    this.plots = [this.hero];
    this.heroPlace.replaceChildren(this.hero.root);
    this.place.replaceChildren(...groups.map(({heading, specs}) => {
      const grid = el("div.grid");
      for (const spec of specs) {
        const plot = new Plot(spec);
        this.plots.push(plot);
        grid.append(plot.root);
      }
      if (heading !== "More") return el("div.panel-group", {}, el("h3", {}, heading), grid);
      return el("details.panel-group", {open: this.moreIsOpen, ontoggle: (event) => (this.moreIsOpen = event.target.open)},
        el("summary", {}, `More (${specs.length})`), grid);
    }));
    const again = title && this.plots.find((plot) => plot.spec.title === title);
    if (again) again.svg.focus({preventScroll: true});
  }

  draw() {
    for (const plot of this.plots) plot.draw();
  }

  drawCursor() {
    for (const plot of this.plots) plot.drawCursor();
  }
}
