// Learning curves, coloured by a swept key; runs that did not finish end in a cross.
(() => {
  const section = document.getElementById("curves"), names = Object.keys(data.curves);
  if (!names.length) { section.querySelector(".body").replaceChildren(el("p", {class: "muted"}, "No run has logged a history yet.")); return; }
  const wanted = data.metric.replace(/^test\//, "val/");
  let metric = names.includes(wanted) ? wanted : names[0], axis = "epoch", key = defaultKey();
  choose(section, "Metric", names.map(m => [m, m]), metric, v => { metric = v; again(); });
  choose(section, "Over", [["epoch", "epoch"], ["step", "step"]], axis, v => { axis = v; again(); });
  if (keyOptions().length) choose(section, "Colour by", keyOptions(), key, v => { key = v; again(); });
  const again = draws(section, (body, width) => {
    const colour = colours(key), column = axis === "step" ? 0 : 1;
    const series = data.curves[metric].map(({run, points}) => ({run: data.runs[run], points: points.filter(p => p[column] != null).map(p => [p[column], p[2]])})).filter(s => s.points.length);
    if (!series.length) { body.append(el("p", {class: "muted"}, `${metric} was logged without ${axis}.`)); return; }
    const flat = series.flatMap(s => s.points), f = frame(width, Math.min(430, Math.max(300, width * .4)), flat.map(p => p[0]), flat.map(p => p[1]), axis, metric, false);
    const teacher = metric.startsWith("val/") ? teacherValues(metric) : [];
    for (const s of [...series].sort((a, b) => b.run.baseline - a.run.baseline)) {
      const stroke = s.run.baseline ? token("--base") : colour(s.run.values[key]);
      s.line = el("polyline", {class: "line", points: s.points.map(p => f.X(p[0]).toFixed(1) + "," + f.Y(p[1]).toFixed(1)).join(" "), stroke, "stroke-dasharray": s.run.baseline ? "6 4" : null});
      f.svg.append(s.line);
      const [x, y] = s.points.at(-1).map((v, i) => i ? f.Y(v) : f.X(v));
      if (s.run.state !== "finished") f.svg.append(el("path", {d: `M${x - 5} ${y - 5}l10 10m0-10l-10 10`, stroke: token(s.run.state === "running" ? "--accent" : "--bad"), "stroke-width": 2.2}));
      else if (s.points.length === 1) f.svg.append(el("circle", {cx: x, cy: y, r: 3, fill: stroke}));
    }
    for (const t of teacher) if (f.Y(t.metrics[metric]) > f.top) f.svg.append(el("line", {x1: f.left, x2: f.right, y1: f.Y(t.metrics[metric]), y2: f.Y(t.metrics[metric]), stroke: token("--teacher")}));
    const dot = el("circle", {r: 4.5, fill: token("--text"), visibility: "hidden"});
    f.svg.append(dot);
    const off = () => { hush(); dot.setAttribute("visibility", "hidden"); series.forEach(s => s.line.classList.remove("on", "off")); };
    const seek = event => {
      const box = f.svg.getBoundingClientRect(), [mx, my] = [event.clientX - box.left, event.clientY - box.top];
      let near = null, least = 60 ** 2;
      for (const s of series) for (const p of s.points) { const d = (f.X(p[0]) - mx) ** 2 + (f.Y(p[1]) - my) ** 2; if (d < least) { least = d; near = [s, p]; } }
      if (!near) return off();
      const [s, p] = near;
      series.forEach(o => { o.line.classList.toggle("on", o === s); o.line.classList.toggle("off", o !== s); });
      dot.setAttribute("cx", f.X(p[0])); dot.setAttribute("cy", f.Y(p[1])); dot.setAttribute("visibility", "visible");
      tell(event, [describe(s.run) + ` seed=${show(s.run.seed)}`, `${metric}: ${figure(p[1], metric)} at ${axis} ${show(+p[0].toFixed(3))}`, s.run.state === "finished" ? "" : s.run.state].filter(Boolean).join("\n"));
    };
    f.svg.addEventListener("pointermove", seek); f.svg.addEventListener("pointerdown", seek); f.svg.addEventListener("pointerleave", off);
    const dash = el("i", {class: "mark", style: `border-color:${token("--base")}`}), open = series.filter(s => s.run.state !== "finished").length;
    body.append(f.svg, legend(key, [...(series.some(s => s.run.baseline) ? [[dash, "no teacher"]] : []), ...(open ? [[el("b", {class: "cross"}, "×"), `${open} not finished, drawn as far as they came`]] : [])]));
    section.querySelector(".note").textContent = `${series.length} runs, one line each` + (data.thinned > 1 ? `; every ${data.thinned}th logged point is drawn.` : "; every logged point is drawn.");
  });
})();
