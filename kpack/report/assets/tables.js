// Tables that sort by any column and show a part of many rows at a time.
// columns: {title, number, value(row) -> what sorts (null: last), cell(row) -> td, help}
const PART = 250;

function sortable(caption, columns, rows) {
  let shown = rows, limit = PART, by = null, down = false;
  const body = make("tbody"), more = make("div", { class: "more" });
  const heads = columns.map((column, at) => {
    const arrow = make("span", { class: "arrow", "aria-hidden": "true" });
    const button = make("button", { type: "button", title: column.help, onclick: () => sortBy(at) }, ...(column.number ? [arrow, column.title] : [column.title, arrow]));
    return make("th", { scope: "col", class: column.number ? "number sorts" : "sorts" }, button);
  });

  function sortBy(at) {
    // What is large is what one looks for: numbers begin with the largest, and the third click is the archive's order.
    const first = Boolean(columns[at].number);
    if (by !== at) [by, down] = [at, first];
    else if (down === first) down = !first;
    else by = null;
    heads.forEach((head, other) => {
      if (other === by) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
      head.querySelector(".arrow").textContent = other === by ? (down ? "▼" : "▲") : "";
    });
    draw();
  }
  const order = new Intl.Collator("en", { numeric: true }).compare;
  function sorted() {
    if (by === null) return shown;
    const value = columns[by].value, sign = down ? -1 : 1;
    return [...shown].sort((one, other) => {
      const a = value(one), b = value(other);
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (typeof a === "number" ? a - b : order(a, b));
    });
  }
  function draw() {
    const all = sorted();
    body.replaceChildren(...all.slice(0, limit).map((row) => make("tr", {}, ...columns.map((column) => column.cell(row)))));
    more.replaceChildren();
    more.hidden = all.length <= limit;
    if (!more.hidden)
      more.append(
        make("button", { type: "button", class: "plain", onclick: () => { limit += 4 * PART; draw(); } }, `Show more: ${number(limit)} of ${number(all.length)} are shown`),
      );
  }
  draw();
  const table = make("table", { "aria-label": caption }, make("thead", {}, make("tr", {}, ...heads)), body);
  const element = make("div", { class: "card" }, make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, table), more);
  return { element, filter(keep) { shown = rows.filter(keep); limit = PART; draw(); return shown.length; } };
}

const textCell = (text, kind) => make("td", { class: kind }, name(text));
const numberCell = (text) => make("td", { class: "number" }, text);
function barCell(text, share, facts = {}) {
  const kind = `number bar${facts.warn ? " warn" : ""}`;
  return make("td", { class: kind, title: facts.title, style: { "--share": `${(100 * share).toFixed(1)}%` } }, text);
}

// ---- the variants
function drawVariants() {
  const rows = Array.from({ length: COUNT }, (_, at) => at);
  const most = (values) => Math.max(1, ...values.map((value) => value || 0).reduce((two, value) => [Math.max(two[0], value)], [0]));
  const top = { bytes: most(I.bytes), registers: most(I.registers), spills: most(I.spills), shared: most(I.shared) };
  const fact = (key, title, help, cell) => ({ title, help, number: true, value: (at) => I[key][at], cell });
  const unknown = () => numberCell("–");
  const columns = [
    { title: "Kernel", value: (at) => D.kernels[I.kernel[at]].name, cell: (at) => textCell(D.kernels[I.kernel[at]].name) },
    { title: "Variant", value: variantName, cell: (at) => textCell(variantName(at), "variant") },
    { title: "Target", value: (at) => D.targets[I.target[at]], cell: (at) => textCell(D.targets[I.target[at]]) },
    fact("bytes", "Code", "Bytes of machine code", (at) => barCell(number(I.bytes[at]), I.bytes[at] / top.bytes)),
    fact("warps", "Warps", "Of a block; AMD: waves of a group", (at) => numberCell(number(I.warps[at]))),
    fact("registers", "Registers", "Of a thread; AMD: vector registers", (at) =>
      I.registers[at] === null ? unknown() : barCell(number(I.registers[at]), I.registers[at] / top.registers)),
    fact("spills", "Spills", "Bytes of a thread that did not fit into registers", (at) =>
      I.spills[at] === null ? unknown() : I.spills[at] ? barCell(`⚠ ${number(I.spills[at])}`, I.spills[at] / top.spills, { warn: true }) : numberCell("0")),
    fact("shared", "Shared", "Bytes of shared memory of a block; AMD: LDS", (at) => barCell(number(I.shared[at]), I.shared[at] / top.shared)),
    fact("occupancy", "Occupancy", "Resident warps of the most that there can be; by published limits, not measured. –: not known, for the reason beside it", occupancyCell),
    { title: "Limited by", help: "What allows no more blocks at a time", value: (at) => (I.occupancy[at] === null ? null : limitedBy(at)), cell: (at) => make("td", { class: I.occupancy[at] === null ? "why soft" : "why" }, limitedBy(at)) },
  ];
  const table = sortable("Variants", columns.slice(D.kernels.length > 1 ? 0 : 1), rows);
  const search = make("input", { type: "search", placeholder: "Filter by name", "aria-label": "Filter by kernel, variant or target", spellcheck: "false" });
  const target = make("select", { "aria-label": "Target" }, make("option", { value: "" }, "All targets"), ...D.targets.map((text, at) => make("option", { value: at }, text)));
  const spills = make("input", { type: "checkbox" });
  const status = make("span", { class: "soft", role: "status" });
  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const count = table.filter((at) => {
      if (target.value !== "" && I.target[at] !== Number(target.value)) return false;
      if (spills.checked && !I.spills[at]) return false;
      const text = `${D.kernels[I.kernel[at]].name} ${variantName(at)} ${D.targets[I.target[at]]}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    status.textContent = count === COUNT ? many(COUNT, "image") : `${number(count)} of ${many(COUNT, "image")}`;
  }
  for (const input of [search, target, spills]) input.addEventListener("input", filter);
  filter();
  section("variants", "Variants",
    make("p", {}, "One row an image: a variant, compiled for a target. Click a heading to sort."),
    make("div", { class: "tools" }, search, target, make("label", {}, spills, "only what spills"), status), table.element);
}
const variantName = (at) => D.kernels[I.kernel[at]].variants[I.variant[at]];

const limitedBy = (at) => D.texts[I.why[at]];
function occupancyCell(at) {
  if (I.occupancy[at] === null) return numberCell("–");
  const title = `${many(I.blocks[at], "block")} of ${many(I.warps[at], "warp")} at a time, of the ${I.most[at]} warps that there can be`;
  return barCell(`${(I.occupancy[at] / 10).toFixed(0)} %`, I.occupancy[at] / 1000, { title });
}

function drawMissing() {
  if (!D.missing.length) return;
  const columns = [
    ["Kernel", ([kernel]) => D.kernels[kernel].name], ["Variant", (row) => row[1]], ["Target", (row) => D.targets[row[2]]], ["Reason", (row) => row[3]],
  ].map(([title, value]) => ({ title, value, cell: (row) => textCell(value(row)) }));
  section("missing", "Missing", make("p", {}, "What was asked for and did not compile. The archive remembers why."), sortable("Missing", columns, D.missing).element);
}
