// Heat maps: contenders down, calls across. Each box says its time; the colour repeats it.
const STEPS = {
  // by how much slower than the best; the best is the darkest
  trials: { limits: [1.02, 1.1, 1.25, 1.5, 2], steps: [5, 4, 3, 2, 1, 0], words: ["up to 1.02 × the best", "1.1 ×", "1.25 ×", "1.5 ×", "2 ×", "more"] },
  // by how much faster than what runs without tuning
  table: { limits: [1.02, 1.1, 1.25, 1.5, 2], steps: [0, 1, 2, 3, 4, 5], words: ["up to 1.02 × as fast as without tuning", "1.1 ×", "1.25 ×", "1.5 ×", "2 ×", "more"] },
};
function stepOf(kind, ratio) {
  const { limits, steps } = STEPS[kind];
  const at = limits.findIndex((limit) => ratio <= limit + 1e-9);
  return steps[at < 0 ? limits.length : at];
}
const microseconds = (value) => (value >= 100 ? number(Math.round(value)) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

function heatMap(map) {
  const grid = map.rows.map(() => []);
  for (const cell of map.cells) grid[cell[0]][cell[1]] = cell;
  const head = make("tr", {}, make("th", { scope: "col" }, "contender"), ...map.columns.map((call) => make("th", { scope: "col", class: "name" }, call.split(" ").join("\n") || "all")));
  const body = map.rows.map((row, down) => make("tr", {}, make("th", { scope: "row", title: row }, name(row)), ...map.columns.map((call, across) => heatCell(map, row, call, grid[down][across]))));
  const title = `${map.kernel}${map.device ? ` on ${map.device}` : ""}`;
  const what = map.kind === "table" ? "microseconds of what was chosen for each call" : "microseconds of every contender for each call";
  return [
    make("h3", {}, name(title)),
    make("p", { class: "note" }, `${map.kind === "table" ? "Chosen" : "All medians"}: ${what}. `, make("code", {}, map.group)),
    make("div", { class: "card scroll", tabindex: "0", role: "region", "aria-label": `${title}: ${what}` }, make("table", { class: "heat", "aria-label": title }, make("thead", {}, head), make("tbody", {}, ...body))),
  ];
}

function heatCell(map, row, call, cell) {
  if (!cell) return make("td", {}, "·");
  const [, , chosen, median, ratio, note] = cell;
  if (!median) return tipped(make("td", { class: chosen ? "chosen" : "out", tabindex: "0" }, `${chosen ? "★ " : ""}${note ? note.split(/[ :(]/)[0] : "not timed"}`), `${row}\n${call}\n${note || "not timed"}`);
  const text = `${microseconds(median)}`;
  const said = map.kind === "trials" ? `${ratio.toFixed(2)} × the best` : ratio ? `${ratio.toFixed(2)} × as fast as without tuning` : "what runs without tuning was not timed";
  const kind = ratio ? `timed g${stepOf(map.kind, ratio)}` : "";
  const label = `${row}\n${call}\n${text} µs, ${said}${chosen ? "\nchosen" : ""}${note ? `\n${note}` : ""}`;
  return tipped(make("td", { class: `${kind}${chosen ? " chosen" : ""}`, "aria-label": label.replaceAll("\n", ", ") }, chosen ? "★ " : "", text, note ? " …" : ""), label);
}

function drawTuning() {
  if (!D.maps.length && !D.remarks.length) return;
  const legend = (kind) => make("ul", { class: "legend heat", "aria-label": "Colours" },
    ...STEPS[kind].words.map((word, at) => make("li", {}, make("span", { class: `swatch g${STEPS[kind].steps[at]}` }), word)),
    make("li", {}, "★ chosen"), kind === "trials" ? make("li", {}, "… given up early") : null);
  const parts = [];
  for (const kind of ["table", "trials"]) {
    const maps = D.maps.filter((map) => map.kind === kind);
    if (maps.length) parts.push(...maps.flatMap(heatMap), legend(kind));
  }
  const remarks = D.remarks.length ? make("div", { class: "remark" }, make("ul", { class: "remarks" }, ...D.remarks.map((text) => make("li", {}, text)))) : null;
  section("tuning", "Tuning", ...parts, remarks);
}
