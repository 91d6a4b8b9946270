// Sort by a click on a heading, filter by words and states. Empty cells stay last in either direction.
(() => {
  const value = (row, column) => { const cell = row.cells[column]; return cell.dataset.v ?? cell.textContent.trim(); };
  for (const table of document.querySelectorAll("table")) for (const button of table.querySelectorAll("thead button")) button.addEventListener("click", () => {
    const th = button.parentElement, column = th.cellIndex, rows = [...table.tBodies[0].rows];
    const filled = rows.filter(row => value(row, column) !== ""), empty = rows.filter(row => value(row, column) === "");
    const numeric = filled.every(row => Number.isFinite(+value(row, column)));
    const order = th.getAttribute("aria-sort") ? (th.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending") : numeric ? "descending" : "ascending";
    const sign = order === "ascending" ? 1 : -1;
    filled.sort((a, b) => sign * (numeric ? value(a, column) - value(b, column) : value(a, column).localeCompare(value(b, column))));
    table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
    th.setAttribute("aria-sort", order);
    table.tBodies[0].append(...filled, ...empty);
  });
  for (const table of document.querySelectorAll(".scroll > table")) for (const th of table.querySelectorAll("thead th"))
    if (table.tBodies[0].querySelector(`td.num:nth-child(${th.cellIndex + 1})`)) th.classList.add("num");
  const section = document.getElementById("runs"), input = document.getElementById("filter"), chips = [...section.querySelectorAll(".chip input")];
  const rows = [...section.querySelectorAll("tbody tr")];
  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean), states = new Set(chips.filter(c => c.checked).map(c => c.value));
    // key=4 means exactly 4, any other word may stand anywhere
    const fits = row => words.every(word => /=./.test(word) ? (" " + row.dataset.words + " ").includes(" " + word + " ") : row.dataset.words.includes(word));
    let shown = 0;
    for (const row of rows) { row.hidden = !(states.has(row.dataset.state) && fits(row)); shown += !row.hidden; }
    document.getElementById("shown").textContent = `${shown} of ${rows.length} runs`;
  };
  input.addEventListener("input", filter);
  chips.forEach(chip => chip.addEventListener("change", filter));
  filter();
})();
