// What has changed since the archive that this one was compared with.
const SIGNS = { added: "+ added", removed: "− removed", changed: "± changed" };
// Texts come as [number] of a list that has each once.
const revived = (value) => (!Array.isArray(value) ? value : value.length === 1 && typeof value[0] === "number" ? D.changes.words[value[0]] : value.map(revived));

function delta(before, after) {
  const by = after - before;
  return by ? `${by > 0 ? "+" : "−"}${number(Math.abs(by))}` : "0";
}
function factText([what, before, after]) {
  const side = (value) => (value === null ? "none" : typeof value === "number" ? number(value) : value);
  return `${what} ${side(before)} → ${side(after)}`;
}

function drawDifference() {
  if (D.changes === null) return;
  const changes = D.changes.rows.map(revived);
  if (!changes.length) {
    section("difference", "Difference", make("p", { class: "card empty" }, "None: all kernels, variants and images are the same."));
    return;
  }
  const count = (kind) => changes.filter((change) => change[0] === kind).length;
  const all = sum(changes.filter(whole).map(([, , , , before, after]) => after - before));
  const most = Math.max(1, ...changes.map(([, , , , before, after]) => Math.abs(after - before)));
  const columns = [
    { title: "What", value: (row) => row[0], cell: (row) => make("td", {}, make("span", { class: "tag" }, SIGNS[row[0]])) },
    { title: "Kernel", value: (row) => row[1], cell: (row) => textCell(row[1]) },
    { title: "Variant", value: (row) => row[2], cell: (row) => (row[2] ? textCell(row[2], "variant") : make("td", { class: "soft" }, "the kernel")) },
    { title: "Target", value: (row) => row[3], cell: (row) => textCell(row[3]) },
    { title: "Bytes", number: true, help: "Of code; and by how much it grew", value: (row) => row[5] - row[4],
      cell: (row) => barCell(delta(row[4], row[5]), Math.abs(row[5] - row[4]) / most, { warn: row[5] > row[4], title: `${number(row[4])} → ${number(row[5])}` }) },
    { title: "From → to", value: (row) => row[6].map(factText).join(", "), cell: (row) => make("td", { class: "facts" }, ...row[6].map((fact) => name(factText(fact)))) },
  ];
  section("difference", "Difference",
    make("p", {}, `${number(count("added"))} added, ${number(count("removed"))} removed, ${number(count("changed"))} changed; ${all ? `${all > 0 ? "+" : "−"}${size(Math.abs(all))}` : "no change"} of code in all.`),
    sortable("Difference", columns, changes).element);
}
// A kernel's own row repeats the sizes of what is listed below it.
const whole = (row) => row[2] !== "" || row[0] !== "changed";
