// Two swept keys against each other; every other swept key becomes a facet, so that no cell mixes settings.
(() => {
  const section = document.getElementById("heat"), inside = data.runs.filter(run => run.map);
  const keys = data.keys.map(k => ({...k, values: k.values.filter(v => inside.some(run => run.values[k.key] === v))})).filter(k => k.values.length > 1);
  const ranked = [...keys].sort((a, b) => b.numeric - a.numeric || b.values.length - a.values.length);
  const pick = (name, but) => (ranked.find(k => k.key === name && k.key !== but) || ranked.find(k => k.key !== but) || {key: ""}).key;
  let columns = pick("loss.temperature"), rows = pick("loss.alpha", columns), metric = data.metric;
  const facetsOf = (across, down) => {  // runs by the values of all other keys, and which of these maps are half full or more
    const rest = keys.filter(k => k !== across && k !== down);
    const placed = inside.filter(run => run.values[across.key] != null && (!down || run.values[down.key] != null));
    const facets = [...groups(placed, run => JSON.stringify(rest.map(k => run.values[k.key] ?? null)))];
    const whole = across.values.length * (down ? down.values.length : 1);
    const dense = facets.filter(([, runs]) => 2 * new Set(runs.map(run => JSON.stringify([run.values[across.key], down && run.values[down.key]]))).size >= whole);
    return {rest, placed, facets: dense, sparse: facets.length - dense.length, covered: dense.reduce((sum, [, runs]) => sum + runs.length, 0)};
  };
  const byKey = name => keys.find(k => k.key === name);
  if (columns && 2 * facetsOf(byKey(columns), byKey(rows)).covered < inside.length) {  // another pair of keys fills its maps better
    const tried = keys.flatMap(a => [...keys.filter(b => b !== a), ...(keys.length > 1 ? [] : [undefined])].map(b => [a, b, facetsOf(a, b).covered]));
    const [a, b, covered] = tried.reduce((x, y) => y[2] > x[2] ? y : x);
    if (2 * covered < inside.length) { section.remove(); return; }  // mostly "not run": the tables say it better
    columns = a.key; rows = b ? b.key : "";
  }
  const empty = told => { section.querySelector(".body").replaceChildren(el("p", {class: "muted"}, told)); section.querySelector(".note").textContent = ""; };
  if (!columns) return empty("Nothing was swept: these runs differ in no setting, or in one that only the baseline has.");
  if (!finished.length) return empty("No run has finished yet.");
  const options = keys.map(k => [k.key, k.name]);
  choose(section, "Metric", data.qualities.map(m => [m, m]), metric, v => { metric = v; again(); });
  choose(section, "Columns", options, columns, v => { if (v === rows) rows = columns; columns = v; sync(); });
  if (keys.length > 1) choose(section, "Rows", options, rows, v => { if (v === columns) columns = rows; rows = v; sync(); });
  function sync() {
    for (const [name, value] of [["columns", columns], ["rows", rows]]) { const s = section.querySelector(`select[name=${name}]`); if (s) s.value = value; }
    again();
  }
  const again = draws(section, (body, width) => {
    const across = keys.find(k => k.key === columns), down = keys.find(k => k.key === rows);
    const {rest, placed, facets, sparse} = facetsOf(across, down);
    const cells = new Map([...groups(placed, run => JSON.stringify([rest.map(k => run.values[k.key] ?? null), run.values[rows] ?? null, run.values[columns]]))].map(([name, runs]) => {
      const values = runs.filter(r => r.state === "finished" && r.metrics[metric] != null);
      return [name, {runs, values, ...(values.length ? stats(values.map(r => r.metrics[metric])) : {n: 0})}];
    }));
    const means = [...cells.values()].filter(c => c.n).map(c => c.mean), low = Math.min(...means), high = Math.max(...means);
    if (!means.length) { body.append(el("p", {class: "muted"}, `No finished run has ${metric}.`)); return; }
    const less = data.less.includes(metric), best = less ? low : high;
    const part = v => { const p = high > low ? (v - low) / (high - low) : .6; return less ? 1 - p : p; };
    body.append(bar(width, low, high, part), el("div", {class: "facets"}, ...facets.slice(0, 24).map(([name]) => table(JSON.parse(name)))));
    if (facets.length > 24) body.append(el("p", {class: "muted"}, `${facets.length - 24} more combinations are not drawn; the tables have them.`));
    if (sparse) body.append(el("p", {class: "muted"}, `${sparse} combinations of the other settings are mostly not run and not drawn; the tables have them.`));
    const out = inside.filter(run => run.state === "finished").length - placed.filter(run => run.state === "finished").length;
    if (out) body.append(el("p", {class: "muted"}, `${out} finished runs do not set both keys and are not drawn.`));

    function table(facet) {
      const over = el("tr", {}, el("th", {}), el("th", {colspan: across.values.length}, across.name));
      const head = el("tr", {}, el("th", {}, down ? down.name : ""), ...across.values.map(v => el("th", {scope: "col"}, show(v))));
      const lines = (down ? down.values : [null]).map(r => el("tr", {}, el("th", {scope: "row"}, down ? show(r) : ""), ...across.values.map(c => cell(cells.get(JSON.stringify([facet, r, c]))))));
      const title = rest.map((k, i) => `${k.name} ${show(facet[i])}`).join(", ");
      return el("div", {class: "facet"}, title ? el("h3", {}, title) : null, el("div", {}, el("table", {class: "heat"}, el("thead", {}, over, head), el("tbody", {}, ...lines))));
    }
    function cell(found) {
      if (!found) return tipped(el("td", {class: "none"}, el("b", {}, "–"), el("small", {}, "not run")), "No run has these settings.");
      const left = found.runs.filter(r => r.state !== "finished").map(r => `seed ${r.seed}: ${r.state}`);
      if (!found.n) return tipped(el("td", {class: "none"}, el("b", {}, "–"), el("small", {}, "none finished")), left.join("\n") || `No value of ${metric}.`);
      const colour = viridis(part(found.mean)), told = [describe(found.runs[0]), `${metric}: mean ${figure(found.mean, metric)}`, found.sd == null ? "one seed: no standard deviation" : `sd ${figure(found.sd)} over n = ${found.n}`, ...found.values.map(r => `seed ${r.seed}: ${figure(r.metrics[metric], metric)}`), ...left];
      return tipped(el("td", {style: `background:${css(colour)};color:${light(colour) ? "#10141a" : "#fff"}`},
        el("b", {}, figure(found.mean, metric) + (found.mean === best && means.length > 1 ? " ★" : "")), el("small", {}, (found.sd == null ? "" : `± ${found.sd.toFixed(4)} `) + `n=${found.n}` + (left.length ? "*" : ""))), told.join("\n"));
    }
  });
  function bar(width, low, high, part) {  // colours cover the cells' range; teacher and baseline stand where they are on the same axis
    const marks = references(metric), ends = [low, high, ...marks.map(m => m.value)], a = Math.min(...ends), b = Math.max(...ends), wide = Math.min(width, 560);
    const X = v => 8 + (b > a ? (v - a) / (b - a) : .5) * (wide - 16);
    const anchor = v => X(v) < 120 ? "start" : X(v) > wide - 120 ? "end" : "middle";
    const svg = el("svg", {width: wide, height: 72, style: "margin-bottom:12px", role: "img", "aria-label": "colour scale"});
    svg.append(el("line", {x1: 8, x2: wide - 8, y1: 27, y2: 27, class: "grid"}));
    const slices = 48, span = X(high) - X(low);
    for (let i = 0; i < slices; i++) svg.append(el("rect", {x: X(low) + span * i / slices, y: 20, width: span / slices + .6, height: 14, fill: css(viridis(part(low + (high - low) * (i + .5) / slices)))}));
    for (const [v, side] of high > low && span > 90 ? [[low, "start"], [high, "end"]] : [[high, anchor(high)]]) svg.append(el("text", {x: X(v), y: 48, "text-anchor": side}, figure(v, metric)));
    for (const {value, kind, name, told, colour} of marks) {
      const above = kind === "teacher", x = X(value);
      svg.append(tipped(el("rect", {x: x - 1.5, y: above ? 15 : 20, width: 3, height: above ? 19 : 34, fill: token(colour)}), `${told}\n${metric}: ${figure(value, metric)}`));
      if (name) svg.append(el("text", {x, y: above ? 11 : 67, "text-anchor": anchor(value), style: `fill:${token(colour)};font-weight:600`}, `${name} ${figure(value, metric)}`));
    }
    return svg;
  }
})();
