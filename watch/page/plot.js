// A line plot in SVG: axes, a band, smoothing, a cursor that all plots share, a part to look at.

// What all plots of the page have in common.
const view = {
  axis: "steps",  // or "hours"
  smoothing: 0.6,
  range: null,    // [first step, last step]: the part that is looked at
  cursor: null,   // a step
  visible: [],    // runs: {index, color, dash, name}
  curves: [],     // by run: what the source has answered
  onCursor: () => {},
  onRange: () => {},
  onStep: () => {},
};

// Exponential moving average with weights that add up to 1 from the first value on (TensorBoard's).
function smoothed(values, weight) {
  if (weight <= 0) return values;
  let sum = 0, norm = 0;
  return values.map((value) => {
    if (!isNumber(value)) return null;
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}

// About `count` round numbers from low to high.
function ticks(low, high, count) {
  const raw = (high - low) / Math.max(count, 1);
  if (!(raw > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 2.5, 5, 10].find((m) => m * power >= raw * 0.999);
  const out = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) out.push(i * step);
  return out;
}

function tickText(value, step) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  if (size >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`;
  if (size < 1e-3) return value.toExponential(1).replace(".0e", "e");
  return String(Number(value.toFixed(Math.max(0, Math.min(6, 1 - Math.floor(Math.log10(step)))))));
}

class Plot {
  // spec: {title, unit, keys: [{key, label, low, high, deviation}], tall, zero, note}
  constructor(spec) {
    this.spec = spec;
    this.height = spec.tall ? (window.innerWidth < 641 ? 200 : 278) : 150;
    this.readout = el("output.readout", {"aria-live": "off"});
    this.legend = el("span.legend");
    this.svg = svg("svg", {tabindex: 0, role: "img", height: this.height});
    this.front = svg("g", {class: "front"});
    this.selection = svg("rect", {class: "selection", y: 0, width: 0, height: 0});
    this.root = el("figure.plot", {"data-title": spec.title},
      el("figcaption", {}, el("span.plot-title", {title: spec.note || ""}, spec.title),
        spec.unit ? el("span.unit", {}, spec.unit) : null, this.legend, this.readout), this.svg);
    if (spec.tall) this.root.classList.add("tall");
    this.listenTo(this.svg);
    this.resized = new ResizeObserver(oncePerFrame(() => this.draw()));
    this.resized.observe(this.root);
  }

  listenTo(node) {
    let from = null;
    node.addEventListener("pointermove", (event) => {
      const x = event.clientX - node.getBoundingClientRect().left;
      if (from !== null) this.showSelection(from, x);
      view.onCursor(this.stepAt(x));
    });
    node.addEventListener("pointerleave", () => {
      if (document.activeElement !== node) view.onCursor(null);
    });
    node.addEventListener("pointerdown", (event) => {
      if (event.button === 0 && event.pointerType !== "touch") from = event.clientX - node.getBoundingClientRect().left;
    });
    const end = (event) => {
      if (from === null) return;
      const to = event.clientX - node.getBoundingClientRect().left;
      const [a, b] = [this.stepAt(Math.min(from, to)), this.stepAt(Math.max(from, to))];
      if (Math.abs(to - from) > 12 && b > a) view.onRange([Math.floor(a), Math.ceil(b)]);
      from = null;
      this.selection.setAttribute("width", 0);
    };
    node.addEventListener("pointerup", end);
    node.addEventListener("pointercancel", () => {
      from = null;
      this.selection.setAttribute("width", 0);
    });
    window.addEventListener("pointerup", end);
    node.addEventListener("dblclick", () => view.onRange(null));
    node.addEventListener("focus", () => {
      this.readout.setAttribute("aria-live", "polite");
      if (view.cursor === null) this.moveTo(Infinity);
    });
    node.addEventListener("blur", () => {
      this.readout.setAttribute("aria-live", "off");
      view.onCursor(null);
    });
    node.addEventListener("keydown", (event) => this.onKey(event));
  }

  onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const run = this.runs()[0];
    if (!run) return;
    const steps = run.curves.steps;
    const at = this.indexOf(run.curves, view.cursor === null ? Infinity : view.cursor);
    const page = Math.max(1, Math.round(steps.length / 10));
    const to = {
      ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - page, PageDown: at + page, Home: 0, End: steps.length - 1,
    }[event.key];
    if (to !== undefined) {
      view.onCursor(steps[Math.max(0, Math.min(steps.length - 1, to))]);
    } else if (event.key === "Enter") {
      view.onStep(run.index, run.curves.last[at], run.curves.width);
    } else if (event.key === "+" || event.key === "=") {
      const half = (steps[steps.length - 1] - steps[0]) / 4;
      if (half >= 2) view.onRange([Math.max(steps[0], Math.floor(steps[at] - half)), Math.ceil(steps[at] + half)]);
    } else if (event.key === "-" || event.key === "0" || event.key === "Escape") {
      view.onRange(null);
    } else {
      return;
    }
    event.preventDefault();
  }

  moveTo(step) {
    const run = this.runs()[0];
    if (run) view.onCursor(run.curves.steps[this.indexOf(run.curves, step)]);
  }

  runs() {
    return view.visible
      .map((run) => ({...run, curves: view.curves[run.index]}))
      .filter((run) => run.curves && run.curves.steps.length && this.keys(run.curves).length);
  }

  // Of several runs the first key alone: more lines than that nobody tells apart.
  keys(curves) {
    const keys = this.spec.keys.filter((key) => curves.curves[key.key]);
    return view.visible.length > 1 ? keys.slice(0, 1) : keys;
  }

  indexOf(curves, step) {
    const steps = curves.steps;
    let low = 0, high = steps.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (steps[middle] < step) low = middle + 1;
      else high = middle;
    }
    if (low > 0 && Math.abs(steps[low - 1] - step) <= Math.abs(steps[low] - step)) return low - 1;
    return low;
  }

  // The step of the entry that is nearest to a place, of the run that has the nearest one.
  stepAt(x) {
    if (!this.scale) return null;
    let best = null, distance = Infinity;
    for (const run of this.runs()) {
      const places = run.curves[view.axis];
      const value = this.scale.backX(x);
      let low = 0, high = places.length - 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (places[middle] < value) low = middle + 1;
        else high = middle;
      }
      for (const i of [low - 1, low]) {
        if (i < 0 || Math.abs(places[i] - value) >= distance) continue;
        distance = Math.abs(places[i] - value);
        best = run.curves.steps[i];
      }
    }
    return best;
  }

  showSelection(from, to) {
    const s = this.scale;
    if (!s) return;
    this.selection.setAttribute("x", Math.min(from, to));
    this.selection.setAttribute("y", s.top);
    this.selection.setAttribute("width", Math.abs(to - from));
    this.selection.setAttribute("height", s.bottom - s.top);
  }

  // Every line that is drawn: of each run and key.
  lines() {
    const runs = this.runs();
    const lines = [];
    for (const run of runs) {
      this.keys(run.curves).forEach((key, i) => {
        const curve = run.curves.curves[key.key];
        const line = {run, key, x: run.curves[view.axis], raw: curve.mean, y: smoothed(curve.mean, view.smoothing)};
        line.color = runs.length > 1 || view.visible.length > 1 ? run.color : `var(--c${(run.hue + i) % 8})`;
        line.dash = run.dash;
        const low = key.low && run.curves.curves[key.low], high = key.high && run.curves.curves[key.high];
        const deviation = key.deviation && run.curves.curves[key.deviation];
        if (view.visible.length > 1 || i > 0) line.band = null;
        else if (low && high) line.band = [low.least || low.mean, high.largest || high.mean];
        else if (deviation)
          line.band = [-1, 1].map((sign) => curve.mean.map((m, j) => (isNumber(m) && isNumber(deviation.mean[j]) ? m + sign * deviation.mean[j] : null)));
        else if (curve.least) line.band = [curve.least, curve.largest];
        lines.push(line);
      });
    }
    return lines;
  }

  measure(lines) {
    const width = Math.max(200, Math.floor(this.root.clientWidth));
    const box = {left: 44, right: width - 10, top: 8, bottom: this.height - 24, width};
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    const takeY = (value) => {
      if (!isNumber(value)) return;
      y0 = Math.min(y0, value);
      y1 = Math.max(y1, value);
    };
    for (const line of lines) {
      for (const x of line.x) {
        x0 = Math.min(x0, x);
        x1 = Math.max(x1, x);
      }
      line.raw.forEach(takeY);
      if (line.band) line.band.forEach((edge) => edge.forEach(takeY));
    }
    if (!(x0 <= x1)) [x0, x1] = [0, 1];
    if (!(y0 <= y1)) [y0, y1] = [0, 1];
    if (this.spec.zero || (y0 > 0 && y0 < 0.25 * y1)) y0 = Math.min(0, y0);
    if (x1 === x0) [x0, x1] = [x0 - (view.axis === "steps" ? 1 : 0.001), x1 + (view.axis === "steps" ? 1 : 0.001)];
    if (y1 - y0 <= 1e-12 * Math.max(Math.abs(y0), Math.abs(y1)) || y1 === y0) {
      const room = Math.abs(y1) * 0.1 || 1;
      [y0, y1] = [y0 === 0 ? 0 : y0 - room, y1 + room];
    }
    const margin = 0.06 * (y1 - y0);
    if (y0 !== 0) y0 -= margin;
    y1 += margin;
    box.x = (value) => box.left + ((value - x0) / (x1 - x0)) * (box.right - box.left);
    box.y = (value) => box.bottom - ((value - y0) / (y1 - y0)) * (box.bottom - box.top);
    box.backX = (place) => x0 + ((place - box.left) / (box.right - box.left)) * (x1 - x0);
    Object.assign(box, {x0, x1, y0, y1});
    return box;
  }

  draw() {
    const lines = this.lines();
    this.drawn = lines;
    const s = (this.scale = this.measure(lines));
    this.svg.setAttribute("width", s.width);
    this.svg.setAttribute("viewBox", `0 0 ${s.width} ${this.height}`);
    const back = svg("g", {class: "back"});
    const yTicks = ticks(s.y0, s.y1, this.spec.tall ? 5 : 4);
    for (const value of yTicks) {
      back.append(svg("line", {class: "grid", x1: s.left, x2: s.right, y1: s.y(value), y2: s.y(value)}));
      back.append(svg("text", {class: "tick", x: s.left - 6, y: s.y(value) + 4, "text-anchor": "end"},
        tickText(value, yTicks.length > 1 ? yTicks[1] - yTicks[0] : 1)));
    }
    this.drawAxisX(back, s);
    const content = svg("g", {});
    for (const line of lines) {
      if (line.band) content.append(svg("path", {class: "band", fill: line.color, d: this.area(line, s)}));
      if (view.smoothing > 0)
        content.append(svg("path", {class: "raw", stroke: line.color, d: this.path(line.x, line.raw, s)}));
      content.append(svg("path", {class: "line", stroke: line.color, "stroke-dasharray": line.dash || "none", d: this.path(line.x, line.y, s)}));
    }
    this.svg.replaceChildren(back, content, this.front, this.selection);
    this.svg.setAttribute("aria-label", this.description(lines));
    this.root.dataset.points = String(lines.reduce((sum, line) => sum + line.y.filter(isNumber).length, 0));
    this.legend.replaceChildren(...(lines.length > 1 && view.visible.length < 2
      ? lines.map((line) => el("span.key", {}, swatch(line.color, line.dash), line.key.label)) : []));
    this.drawCursor();
  }

  drawAxisX(back, s) {
    back.append(svg("line", {class: "axis", x1: s.left, x2: s.right, y1: s.bottom, y2: s.bottom}));
    const label = view.axis === "steps" ? "step" : this.timeUnit(s).name;
    const unit = view.axis === "steps" ? 1 : this.timeUnit(s).hours;
    const places = ticks(s.x0 / unit, s.x1 / unit, Math.max(2, Math.floor((s.right - s.left) / 80)))
      .filter((value) => view.axis !== "steps" || Number.isInteger(value));
    for (const value of places) {
      const x = s.x(value * unit);
      if (x > s.right - 46) continue;
      back.append(svg("line", {class: "axis", x1: x, x2: x, y1: s.bottom, y2: s.bottom + 4}));
      back.append(svg("text", {class: "tick", x, y: s.bottom + 17, "text-anchor": "middle"}, tickText(value, 1)));
    }
    back.append(svg("text", {class: "tick label", x: s.right, y: s.bottom + 17, "text-anchor": "end"}, label));
  }

  timeUnit(s) {
    const span = s.x1 - s.x0;
    if (span < 0.05) return {name: "seconds", hours: 1 / 3600};
    return span < 3 ? {name: "minutes", hours: 1 / 60} : {name: "hours", hours: 1};
  }

  path(xs, ys, s) {
    let d = "", pen = "M";
    for (let i = 0; i < xs.length; ++i) {
      if (!isNumber(ys[i])) continue;  // numbers of a few steps (an evaluation's) are joined
      d += `${pen}${s.x(xs[i]).toFixed(1)} ${s.y(ys[i]).toFixed(1)}`;
      pen = "L";
    }
    return d.indexOf("L") < 0 && d ? `${d}h0.01` : d;  // one point is a dot
  }

  area(line, s) {
    const [low, high] = line.band;
    const at = line.x.map((_, i) => i).filter((i) => isNumber(low[i]) && isNumber(high[i]));
    if (!at.length) return "";
    const point = (i, edge) => `${s.x(line.x[i]).toFixed(1)} ${s.y(edge[i]).toFixed(1)}`;
    return `M${at.map((i) => point(i, high)).join("L")}L${at.reverse().map((i) => point(i, low)).join("L")}Z`;
  }

  description(lines) {
    if (!lines.length) return `${this.spec.title}: no numbers yet`;
    const texts = lines.map((line) => {
      const values = line.raw.filter(isNumber);
      const what = [view.visible.length > 1 ? line.run.name : "", line.key.label || ""].filter(Boolean).join(" ");
      return `${what ? `${what}: ` : ""}from ${shown(values[0])} to ${shown(values[values.length - 1])}`;
    });
    return `${this.spec.title}${this.spec.unit ? ` in ${this.spec.unit}` : ""}. ${texts.join("; ")}`;
  }

  drawCursor() {
    const s = this.scale, lines = this.drawn || [];
    if (!s) return;
    const nodes = [], texts = [];
    const step = view.cursor;
    let where = "latest", line0 = null;
    for (const line of lines) {
      const curves = line.run.curves;
      let i = step === null ? line.y.length - 1 : this.indexOf(curves, step);
      if (step === null) while (i > 0 && !isNumber(line.raw[i])) --i;
      if (step !== null && line0 === null) {
        line0 = s.x(line.x[i]);
        where = curves.width > 1 ? `to step ${curves.last[i].toLocaleString("en-US")}` : `step ${curves.last[i].toLocaleString("en-US")}`;
      }
      if (step !== null && isNumber(line.y[i]))
        nodes.push(svg("circle", {cx: s.x(line.x[i]), cy: s.y(line.y[i]), r: 3.5, fill: line.color}));
      const text = shown(step === null || view.smoothing <= 0 ? line.raw[i] : line.y[i]);
      const own = step !== null && view.smoothing > 0 && lines.length === 1 ? ` (${shown(line.raw[i])})` : "";
      texts.push(el("span.value", {}, lines.length > 1 ? swatch(line.color, line.dash) : "", text + own));
    }
    if (line0 !== null) nodes.unshift(svg("line", {class: "cursor", x1: line0, x2: line0, y1: s.top, y2: s.bottom}));
    this.front.replaceChildren(...nodes);
    this.readout.replaceChildren(el("span.where", {}, lines.length ? where : "no numbers yet"), ...texts);
  }
}

// A bit of a line in its colour and dashes.
function swatch(color, dash) {
  const node = svg("svg", {class: "swatch", width: 16, height: 8, "aria-hidden": "true"});
  node.append(svg("line", {x1: 0, x2: 16, y1: 4, y2: 4, stroke: color, "stroke-width": 3, "stroke-dasharray": dash || "none"}));
  return node;
}
