// Elements and how values are written. Whatever comes from a run is set as text, never as HTML.

// el("p.quiet", {title: ".."}, "text", child, [more]): an element with class, attributes and children.
function el(name, attributes, ...children) {
  const [tag, ...classes] = name.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(name, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const byId = (id) => document.getElementById(id);

// Sets a text only where it differs: a selection in it stays.
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

// 12.3, 0.0012, 1.2e-7, 12,345: what a reader compares, not what a computer stores.
function shown(value) {
  if (!isNumber(value)) return "–";
  if (value < 0) return `−${shown(-value)}`;
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e7) return value.toExponential(2).replace("e+", "e");
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  if (size >= 100) return value.toFixed(1).replace(/\.0$/, "");
  return String(Number(value.toPrecision(3)));
}

function shownSigned(value) {
  if (!isNumber(value)) return "–";
  return (value > 0 ? "+" : value < 0 ? "−" : "±") + shown(Math.abs(value));
}

const percent = (value) => (isNumber(value) ? `${Number((100 * value).toPrecision(2))} %` : "–");

function duration(seconds) {
  if (!isNumber(seconds)) return "–";
  if (seconds < 1) return `${Number(seconds.toPrecision(2))} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  const hours = Math.floor(seconds / 3600);
  if (hours < 48) return `${hours} h ${Math.round((seconds - 3600 * hours) / 60)} min`;
  return `${(seconds / 86400).toFixed(1)} days`;
}

// The text with every place of `search` marked, letters a to z in either case.
function marked(text, search) {
  if (!search) return [text];
  const low = (s) => s.replace(/[A-Z]/g, (c) => c.toLowerCase());
  const where = low(text), what = low(search);
  const parts = [];
  let begin = 0;
  for (let at = where.indexOf(what); at >= 0; at = where.indexOf(what, begin)) {
    parts.push(text.slice(begin, at), el("mark", {}, text.slice(at, at + what.length)));
    begin = at + what.length;
  }
  parts.push(text.slice(begin));
  return parts;
}

// Whether the reader has marked some text in it.
function hasSelection(node) {
  const selection = getSelection();
  return Boolean(selection && !selection.isCollapsed && selection.anchorNode && node.contains(selection.anchorNode));
}

function later(call, milliseconds) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...values), milliseconds);
  };
}

// Calls once a frame, however often it is asked.
function oncePerFrame(call) {
  let waits = false;
  return () => {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => {
      waits = false;
      call();
    });
  };
}
