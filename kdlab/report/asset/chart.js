"use strict";
// What every drawing shares: data, colours, axes, tooltips, controls. Text enters the page through textContent only.
const data = JSON.parse(document.getElementById("data").textContent);
const finished = data.runs.filter(run => run.state === "finished");
const dark = matchMedia("(prefers-color-scheme: dark)");
const VIRIDIS = ["#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725"];
const HUES = ["#3f74d8", "#dd7a2c", "#2a9d76", "#b8489a", "#977638", "#4aa3c4", "#c4443a", "#7d6be0"];
const redraws = [];

const rgb = hex => [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16));
function viridis(part) {
  const at = Math.max(0, Math.min(1, part)) * (VIRIDIS.length - 1), low = Math.min(VIRIDIS.length - 2, Math.floor(at));
  const [a, b] = [rgb(VIRIDIS[low]), rgb(VIRIDIS[low + 1])];
  return a.map((v, i) => Math.round(v + (b[i] - v) * (at - low)));
}
const css = parts => `rgb(${parts.join(",")})`;
const light = parts => {  // whether dark text reads better on it: WCAG's relative luminance
  const [r, g, b] = parts.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b > .19;
};
const token = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function figure(value, name = "") {
  if (value == null) return "–";
  const last = name.split("/").pop(), size = Math.abs(value);
  if (/(parameters|macs)$/.test(last)) for (const [unit, told] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]]) if (size >= unit) return +(value / unit).toPrecision(3) + told;
  if (last === "seconds") return size < 120 ? value.toFixed(1) + " s" : size < 7200 ? (value / 60).toFixed(1) + " min" : (value / 3600).toFixed(1) + " h";
  if (last === "latency_ms") return +value.toPrecision(3) + " ms";
  if (last === "size_mb") return +value.toPrecision(3) + " MB";
  return (size >= 1e-4 && size < 10) || size === 0 ? value.toFixed(4) : String(+value.toPrecision(4));
}
const show = value => value == null ? "not set" : typeof value === "number" ? String(+value.toPrecision(6)) : String(value);
const ofTeacher = key => /^(choice\.)?(loss|teacher)(\.|$)/.test(key);
const describe = run => [run.baseline ? "no teacher" : "", ...data.keys.filter(k => run.values[k.key] != null && !(run.baseline && ofTeacher(k.key))).map(k => `${k.name}=${show(run.values[k.key])}`)].filter(Boolean).join(" ");
function stats(values) {
  const n = values.length, mean = values.reduce((a, b) => a + b, 0) / n;
  return {n, mean, sd: n > 1 ? Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / (n - 1)) : null};
}
function groups(items, name) {
  const found = new Map();
  for (const item of items) { const key = name(item); found.has(key) ? found.get(key).push(item) : found.set(key, [item]); }
  return found;
}
const teacherValues = metric => data.teachers.filter(t => t.metrics[metric] != null);
function references(metric) {  // teachers and baselines, each setting on its own; the best of each kind carries the name
  const sign = data.less.includes(metric) ? -1 : 1, order = list => list.sort((a, b) => sign * (b.value - a.value));
  const bases = [...groups(finished.filter(run => run.baseline && run.metrics[metric] != null), describe)].map(([told, runs]) => ({told, value: stats(runs.map(r => r.metrics[metric])).mean}));
  const named = (list, kind, colour) => order(list).slice(0, 8).map((one, i) => ({...one, kind, colour, name: i ? "" : list.length > 1 ? `${kind} (best of ${list.length})` : kind}));
  return [...named(teacherValues(metric).map(t => ({told: `teacher: ${t.name}`, value: t.metrics[metric]})), "teacher", "--teacher"), ...named(bases, "no teacher", "--base")];
}

function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "line", "path", "circle", "rect", "text", "polyline", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) if (value != null) node.setAttribute(key, value);
  node.append(...children.filter(child => child != null));
  return node;
}
const tip = document.getElementById("tip");
function tell(event, text) {
  tip.textContent = text; tip.hidden = false;
  const {width, height} = tip.getBoundingClientRect();
  tip.style.left = Math.max(6, Math.min(event.clientX + 14, innerWidth - width - 6)) + "px";
  tip.style.top = (event.clientY + height + 24 > innerHeight ? Math.max(6, event.clientY - height - 14) : event.clientY + 16) + "px";
}
const hush = () => { tip.hidden = true; };
function tipped(node, text) {
  node.addEventListener("pointermove", event => tell(event, text));
  node.addEventListener("pointerdown", event => tell(event, text));
  node.addEventListener("pointerleave", hush);
  return node;
}
addEventListener("scroll", hush, {passive: true});

function choose(section, caption, options, chosen, changed) {
  const select = el("select", {name: caption.toLowerCase().replace(/ /g, "-")}, ...options.map(([value, told]) => el("option", {value}, told)));
  select.value = chosen;
  select.addEventListener("change", () => changed(select.value));
  section.querySelector(".controls").append(el("label", {}, caption, select));
}
function draws(section, paint) {  // paints now, on a new width and on a new colour scheme
  const body = section.querySelector(".body");
  let width = 0;
  const again = () => { hush(); body.replaceChildren(); paint(body, Math.max(240, body.clientWidth)); };
  redraws.push(again);
  new ResizeObserver(() => { if (body.clientWidth !== width) { width = body.clientWidth; again(); } }).observe(body);
  return again;
}
dark.addEventListener("change", () => redraws.forEach(again => again()));

function ticks(low, high, count, log) {
  if (log) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
      for (const digit of [1, 2, 5]) { const v = digit * 10 ** power; if (v >= low && v <= high) found.push(v); }
    return found.length > 8 ? found.filter(v => /^1/.test(v.toExponential())) : found;
  }
  const raw = (high - low) / count, unit = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 2.5, 5, 10].find(s => s * unit >= raw) * unit;
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) found.push(+v.toPrecision(12));
  return found;
}
function frame(width, height, xs, ys, xname, yname, log) {
  const left = 58, right = 16, top = 26, bottom = 44;
  const grow = ([a, b], part) => a === b ? [a - Math.abs(a || 1) * .05, b + Math.abs(b || 1) * .05] : [a - (b - a) * part, b + (b - a) * part];
  const range = values => values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
  const [x0, x1] = log ? grow(range(xs.map(Math.log10)), .07) : grow(range(xs), .05), [y0, y1] = grow(range(ys), .08);
  const X = v => left + ((log ? Math.log10(v) : v) - x0) / (x1 - x0) * (width - left - right);
  const Y = v => height - bottom - (v - y0) / (y1 - y0) * (height - top - bottom);
  const svg = el("svg", {width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${yname} against ${xname}`});
  const marks = ticks(y0, y1, 7), gap = marks.length > 1 ? marks[1] - marks[0] : 1, digits = Math.max(0, Math.min(6, -Math.floor(Math.log10(gap) + 1e-9) + (/^[25]\.5|2\.5/.test(gap.toExponential()) ? 1 : 0)));
  for (const v of marks) svg.append(el("line", {x1: left, x2: width - right, y1: Y(v), y2: Y(v), class: "grid"}), el("text", {x: left - 8, y: Y(v) + 4, "text-anchor": "end"}, v.toFixed(digits)));
  for (const v of ticks(log ? 10 ** x0 : x0, log ? 10 ** x1 : x1, Math.max(2, width / 130), log)) svg.append(el("text", {x: X(v), y: height - bottom + 18, "text-anchor": "middle"}, figure(v, xname).replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, "")));
  svg.append(el("text", {x: left, y: 14, class: "strong"}, yname), el("text", {x: width - right, y: height - 6, "text-anchor": "end", class: "strong"}, xname));
  return {svg, X, Y, left, right: width - right, top, bottom: height - bottom};
}
// A colour for each value of a swept key: a scale for numbers, hues for names, grey where the key is not set.
function colours(key) {
  const found = data.keys.find(k => k.key === key), values = found ? found.values : [];
  const [from, to] = dark.matches ? [.28, 1] : [0, .82];
  const at = value => values.findIndex(v => v === value);
  return value => {
    const index = at(value);
    if (index < 0) return token("--base");
    return found.numeric ? css(viridis(values.length > 1 ? from + (to - from) * index / (values.length - 1) : (from + to) / 2)) : HUES[index % HUES.length];
  };
}
function legend(key, extra = []) {
  const found = data.keys.find(k => k.key === key), colour = colours(key), box = el("div", {class: "legend"});
  if (found) {
    box.append(el("span", {}, found.name));
    const values = found.values.length > 10 ? found.values.filter((_, i) => i % Math.ceil(found.values.length / 8) === 0) : found.values;
    for (const value of values) box.append(el("span", {}, el("i", {style: `background:${colour(value)}`}), show(value)));
  }
  for (const [mark, told] of extra) box.append(el("span", {}, mark, told));
  return box;
}
const defaultKey = () => (data.keys.find(k => k.key === "loss.temperature") || data.keys.find(k => k.numeric && k.values.length > 1) || data.keys.find(k => k.values.length > 1) || {key: ""}).key;
const keyOptions = () => data.keys.filter(k => k.values.length > 1).map(k => [k.key, k.name]);
