// Quality against cost (counted quantities first, as a clock on a busy machine tells little): settings as means over seeds, runs as faint dots behind, the Pareto front of what is drawn.
(() => {
  const section = document.getElementById("scatter");
  const all = [...finished, ...data.teachers];
  const varied = name => new Set(all.map(one => one.metrics[name]).filter(v => v != null)).size;
  const costs = data.costs.filter(name => varied(name) > 0);
  if (!costs.length || !data.qualities.length) {
    section.querySelector(".body").replaceChildren(el("p", {class: "muted"}, "No finished run measured a cost: metric=[…,cost] does.")); return;
  }
  let cost = costs[0], metric = data.qualities.includes(data.metric) ? data.metric : data.qualities[0], key = defaultKey();
  choose(section, "Cost", costs.map(m => [m, m === "seconds" ? "training time" : m]), cost, v => { cost = v; again(); });
  choose(section, "Quality", data.qualities.map(m => [m, m]), metric, v => { metric = v; again(); });
  if (keyOptions().length) choose(section, "Colour by", keyOptions(), key, v => { key = v; again(); });
  let beside = true;
  if (data.teachers.some(t => costs.some(c => t.metrics[c] != null))) {
    const box = el("input", {type: "checkbox", checked: ""});
    box.addEventListener("change", () => { beside = box.checked; again(); });
    section.querySelector(".controls").append(el("label", {}, box, "teacher"));
  }
  const again = draws(section, (body, width) => {
    const colour = colours(key), known = one => one.metrics[cost] != null && one.metrics[metric] != null;
    const runs = finished.filter(known), teachers = beside ? data.teachers.filter(known) : [];
    if (!runs.length) { body.append(el("p", {class: "muted"}, `No finished run has both ${cost} and ${metric}.`)); return; }
    const means = [...groups(runs, describe)].map(([name, members]) => ({name, members, x: stats(members.map(r => r.metrics[cost])), y: stats(members.map(r => r.metrics[metric]))}));
    const xs = [...runs, ...teachers].map(one => one.metrics[cost]), ys = [...runs, ...teachers].map(one => one.metrics[metric]);
    const log = Math.min(...xs) > 0 && Math.max(...xs) / Math.min(...xs) > 4;
    const f = frame(width, Math.min(430, Math.max(320, width * .42)), xs, ys, cost === "seconds" ? "seconds" : cost, metric, log);
    const costSign = data.less.includes(cost) ? 1 : -1, sign = data.less.includes(metric) ? -1 : 1;
    const points = [...means.map(m => [m.x.mean, m.y.mean, m.members[0].problem]), ...teachers.map(t => [t.metrics[cost], t.metrics[metric], t.problem])];
    const problems = groups(points, point => point[2]);  // a front for each data set: values on different data do not compare
    for (const some of problems.values()) {
      some.sort((a, b) => costSign * (a[0] - b[0]) || sign * (b[1] - a[1]));
      let top = -Infinity; const front = some.filter(([, y]) => sign * y > top && ((top = sign * y), true));
      f.svg.append(el("path", {class: "front", d: front.map(([x, y], i) => (i ? `H${f.X(x)}V${f.Y(y)}` : `M${f.X(x)} ${f.Y(y)}`)).join("") + `H${costSign > 0 ? f.right : f.left}`}));
    }
    const standing = references(metric).filter(one => one.kind === "no teacher" && f.Y(one.value) < f.bottom);
    const bases = standing.length > 2 ? [] : standing;  // with many, the squares say it better than a grid of lines
    for (const base of bases) f.svg.append(el("line", {x1: f.left, x2: f.right, y1: f.Y(base.value), y2: f.Y(base.value), stroke: token("--base"), "stroke-dasharray": "6 5"}));
    for (const run of runs) f.svg.append(el("circle", {cx: f.X(run.metrics[cost]), cy: f.Y(run.metrics[metric]), r: 2.5, fill: run.baseline ? token("--base") : colour(run.values[key]), opacity: .4}));
    for (const {name, members, x, y} of means) {
      const fill = members[0].baseline ? token("--base") : colour(members[0].values[key]), at = {x: f.X(x.mean), y: f.Y(y.mean)};
      if (y.sd) f.svg.append(el("line", {x1: at.x, x2: at.x, y1: f.Y(y.mean - y.sd), y2: f.Y(y.mean + y.sd), stroke: fill, opacity: .5}));
      const shape = members[0].baseline ? el("rect", {x: at.x - 6, y: at.y - 6, width: 12, height: 12}) : el("circle", {cx: at.x, cy: at.y, r: 6.5});
      for (const [k, v] of Object.entries({fill, stroke: token("--card"), "stroke-width": 1.5})) shape.setAttribute(k, v);
      f.svg.append(tipped(shape, [name, `${metric}: ${figure(y.mean, metric)}` + (y.sd == null ? " (one seed)" : ` ± ${figure(y.sd)} (sd, n = ${y.n})`), `${cost}: ${figure(x.mean, cost)}`].join("\n")));
    }
    for (const t of teachers) {
      const x = f.X(t.metrics[cost]), y = f.Y(t.metrics[metric]);
      f.svg.append(tipped(el("path", {d: `M${x} ${y - 9}l9 9l-9 9l-9-9z`, fill: token("--teacher"), stroke: token("--card"), "stroke-width": 1.5}), [`teacher: ${t.name}`, `${metric}: ${figure(t.metrics[metric], metric)}`, `${cost}: ${figure(t.metrics[cost], cost)}`].join("\n")),
        el("text", {x: x + (x > width * .7 ? -14 : 14), y: y + 4, "text-anchor": x > width * .7 ? "end" : "start", style: `fill:${token("--teacher")};font-weight:600`}, "teacher"));
    }
    for (const base of bases) f.svg.append(el("text", {x: f.right - 4, y: f.Y(base.value) - 6, "text-anchor": "end", style: `fill:${token("--base")};font-weight:600`}, base.name));
    const dash = (colour, style) => el("i", {class: "mark", style: `border-color:${colour};border-top-style:${style}`});
    body.append(f.svg, legend(key, [[dash(token("--muted"), "dotted"), "Pareto front of the means" + (problems.size > 1 ? ", one for each data set" : "")], [bases.length ? dash(token("--base"), "dashed") : el("i", {style: `background:${token("--base")};border-radius:0`}), "no teacher"]]));
    const without = finished.length - runs.length;
    section.querySelector(".note").textContent = "Large: mean over seeds, with ± one standard deviation; small: each run." + (log ? " The cost axis is logarithmic." : "") + (without ? ` ${without} finished runs did not measure both.` : "");
  });
})();
