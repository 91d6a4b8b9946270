// Two swept keys against each other; every other swept key becomes a facet, so that no cell mixes settings.
(() => {
  const section = document.getElementById("heat"), inside = data.runs.filter(run => run.map);
  const keys = data.keys.map(k => ({...k, values: k.values.filter(v => inside.some(run => run.values[k.key] === v))})).filter(k => k.values.length > 1);
  const ranked = [...keys].sort((a, b) => b.numeric - a.numeric || b.values.length - a.values.length);
  const pick = (name, but) => (ranked.find(k => k.key === name && k.key !== but) || ranked.find(k => k.key !== but) || {key: ""}).key;
  let columns = pick("loss.temperature"), rows = pick("loss.alpha", columns), metric = data.metric;
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
    const rest = keys.filter(k => k !== across && k !== down);
    const placed = inside.filter(run => run.values[columns] != null && (!down || run.values[rows] != null));
    const cells = new Map([...groups(placed, run => JSON.stringify([rest.map(k => run.values[k.key] ?? null), run.values[rows] ?? null, run.values[columns]]))].map(([name, runs]) => {
      const values = runs.filter(r => r.state === "finished" && r.metrics[metric] != null);
      return [name, {runs, values, ...(values.length ? stats(values.map(r => r.metrics[metric])) : {n: 0})}];
    }));
    const means = [...cells.values()].filter(c => c.n).map(c => c.mean), low = Math.min(...means), high = Math.max(...means);
    if (!means.length) { body.append(el("p", {class: "muted"}, `No finished run has ${metric}.`)); return; }
    const less = data.less.includes(metric), best = less ? low : high;
    const part = v => { const p = high > low ? (v - low) / (high - low) : .6; return less ? 1 - p : p; };
    const facets = [...groups(placed, run => JSON.stringify(rest.map(k => run.values[k.key] ?? null)))];
    body.append(bar(width, low, high, part), el("div", {class: "facets"}, ...facets.slice(0, 24).map(([name]) => table(JSON.parse(name)))));
    if (facets.length > 24) body.append(el("p", {class: "muted"}, `${facets.length - 24} more combinations are not drawn; the tables have them.`));
    const out = inside.filter(run => run.state === "finished").length - placed.filter(run => run.state === "finished").length;
    if (out) body.append(el("p", {class: "muted"}, `${out} finished runs do not set both keys and are not drawn.`));

    function table(facet) {
      const head = el("tr", {}, el("th", {}, ""), ...across.values.map(v => el("th", {scope: "col"}, `${across.name} ${show(v)}`)));
      const lines = (down ? down.values : [null]).map(r => el("tr", {}, el("th", {scope: "row"}, down ? `${down.name} ${show(r)}` : ""), ...across.values.map(c => cell(cells.get(JSON.stringify([facet, r, c]))))));
      const title = rest.map((k, i) => `${k.name} ${show(facet[i])}`).join(", ");
      return el("div", {class: "facet"}, title ? el("h3", {}, title) : null, el("div", {}, el("table", {class: "heat"}, el("thead", {}, head), el("tbody", {}, ...lines))));
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
    const marks = [...teacherValues(metric).map(t => ["teacher", t.metrics[metric], "--teacher", true]), ...(baselineValue(metric) ? [["no teacher", baselineValue(metric).mean, "--base", false]] : [])];
    const ends = [low, high, ...marks.map(m => m[1])], a = Math.min(...ends), b = Math.max(...ends), wide = Math.min(width, 560);
    const X = v => 34 + (b > a ? (v - a) / (b - a) : .5) * (wide - 68);
    const svg = el("svg", {width: wide, height: 66, style: "margin-bottom:12px", role: "img", "aria-label": "colour scale"});
    svg.append(el("line", {x1: 34, x2: wide - 34, y1: 33, y2: 33, class: "grid"}));
    const slices = 48, span = X(high) - X(low);
    for (let i = 0; i < slices; i++) svg.append(el("rect", {x: X(low) + span * i / slices, y: 26, width: span / slices + .6, height: 14, fill: css(viridis(part(low + (high - low) * (i + .5) / slices)))}));
    for (const [v, anchor] of high > low ? [[low, "start"], [high, "end"]] : [[low, "middle"]]) svg.append(el("text", {x: X(v), y: 21, "text-anchor": X(v) < 60 ? "start" : X(v) > wide - 60 ? "end" : anchor}, figure(v, metric)));
    for (const [told, v, colour, above] of marks) {
      const anchor = X(v) < 110 ? "start" : X(v) > wide - 110 ? "end" : "middle";
      svg.append(el("line", {x1: X(v), x2: X(v), y1: 22, y2: 46, stroke: token(colour), "stroke-width": 2.5}), el("text", {x: X(v), y: 60, "text-anchor": anchor, style: `fill:${token(colour)};font-weight:600`}, `${told} ${figure(v, metric)}`));
    }
    return svg;
  }
})();
