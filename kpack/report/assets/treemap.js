// Sizes as areas. All kernels, by target; a closer look at one has its images. Boxes come laid out; here they are placed.
const UNIT = 1000; // coordinates are thousandths of a percent
const targetClass = (target) => `t${target % 7}`;

function drawSizes() {
  const stored = sum(I.stored);
  const map = make("div", { class: "treemap", role: "group" });
  const trail = make("div", { class: "trail" });
  const legend = make("ul", { class: "legend", "aria-label": "Targets" },
    ...D.targets.map((target, at) => make("li", {}, make("span", { class: `swatch ${targetClass(at)}` }), name(target),
      make("span", { class: "soft" }, size(sum(I.stored.filter((_, image) => I.target[image] === at)))))));
  section("sizes", "Sizes", make("p", {}, "The area is the size of the code in the archive."), trail, map, legend, sizeTable());

  const place = ([x, y, width, height]) => ({ left: `${x / UNIT}%`, top: `${y / UNIT}%`, width: `${width / UNIT}%`, height: `${height / UNIT}%` });
  function cell(box, target, label, text, open) {
    const found = make("button", { type: "button", class: `cell ${targetClass(target)}${open ? " low" : ""}`, style: place(box), tabindex: "-1", "aria-label": text.replaceAll("\n", ", "), onclick: open,});
    found.label = label;
    return tipped(found, text);
  }
  function show(cells, frames, label, focus) {
    hideTip();
    map.setAttribute("aria-label", `${label}. Arrow keys move${cells.some((each) => each.opens) ? ", Enter opens a kernel" : ", Escape goes back"}.`);
    map.replaceChildren(...cells, ...frames);
    if (cells.length) cells[0].tabIndex = 0;
    labels();
    if (focus && cells.length) cells[0].focus({ preventScroll: true });
  }
  function overview(focus) {
    const frames = [], cells = [];
    for (const [x, y, width, height, kernel, target] of D.overview) {
      const box = [x, y, width, height], of = D.kernels[kernel];
      if (target < 0) {
        const frame = make("div", { class: "frame", style: place(box), "aria-hidden": "true" });
        frame.label = of.name;
        frames.push(frame);
        continue;
      }
      const images = imagesOf(kernel).filter((at) => I.target[at] === target), bytes = sum(images.map((at) => I.stored[at]));
      const text = `${of.name}\n${D.targets[target]}: ${number(bytes)} bytes, ${percent(bytes, stored)} of all\n${many(images.length, "image")}`;
      const found = cell(box, target, D.targets[target], text, () => closeup(kernel, true));
      found.opens = true;
      found.dataset.bytes = bytes;
      cells.push(found);
    }
    trail.replaceChildren(make("span", { class: "facts" }, `${many(D.kernels.length, "kernel")}, ${size(stored)} of code. Click one for its variants.`));
    show(cells, frames, "Sizes by kernel and target", focus);
  }
  function closeup(kernel, focus) {
    const of = D.kernels[kernel], images = imagesOf(kernel), all = sum(images.map((at) => I.stored[at]));
    const cells = D.closeups[kernel].map((box) => {
      const at = box[4];
      const text = `${variantName(at)}\n${D.targets[I.target[at]]}: ${number(I.stored[at])} bytes, ${percent(I.stored[at], all)} of ${of.name}` +
        (I.registers[at] === null ? "" : `\n${many(I.registers[at], "register")}, ${number(I.spills[at])} bytes of spills`);
      const found = cell(box, I.target[at], variantName(at), text);
      found.dataset.bytes = I.stored[at];
      return found;
    });
    const back = D.kernels.length > 1 ? make("button", { type: "button", class: "plain", onclick: () => overview(true) }, "← All kernels") : null;
    const facts = [of.source && `from ${of.source}`, `${many(images.length, "image")} of ${many(of.variants.length, "variant")}`, size(all), of.guard && `guard ${of.guard}`, of.grid && `grid ${of.grid}`];
    trail.replaceChildren(...[back].filter(Boolean), make("strong", {}, name(of.name)), make("span", { class: "facts" }, facts.filter(Boolean).join(" · ")));
    show(cells, [], `Sizes of the images of ${of.name}`, focus);
  }

  // Labels where there is room, which may break after a dot or an underscore.
  const broken = (text) => text.split(/(?<=[._])/).flatMap((part, at) => (at ? [document.createElement("wbr"), part] : [part]));
  function labels() {
    const { width, height } = map.getBoundingClientRect();
    for (const each of map.children) {
      const wide = (parseFloat(each.style.width) / 100) * width, high = (parseFloat(each.style.height) / 100) * height;
      const isFrame = each.className === "frame", fits = isFrame ? wide > 64 && high > 46 : wide > 48 && high > (each.opens ? 40 : 18);
      each.replaceChildren(...(fits ? [make("span", { class: "label name", dir: "auto" }, ...(isFrame ? [each.label] : broken(each.label)))] : []));
    }
  }
  new ResizeObserver(labels).observe(map);

  map.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === "Escape" && D.kernels.length > 1) overview(true);
    const step = steps[event.key], from = document.activeElement;
    if (!step || !from.classList.contains("cell")) return;
    event.preventDefault();
    const to = nearest(from, step);
    if (!to) return;
    from.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  });
  function nearest(from, [across, along]) {
    const middle = (element) => { const at = element.getBoundingClientRect(); return [at.left + at.width / 2, at.top + at.height / 2]; };
    const [x, y] = middle(from);
    let best = null, least = Infinity;
    for (const each of map.querySelectorAll(".cell")) {
      const [to_x, to_y] = middle(each);
      const ahead = (to_x - x) * across + (to_y - y) * along, aside = Math.abs((to_x - x) * along + (to_y - y) * across);
      if (each !== from && ahead > 0.5 && ahead + 2 * aside < least) [best, least] = [each, ahead + 2 * aside];
    }
    return best;
  }
  if (D.kernels.length === 1) closeup(0);
  else overview();
}

const FIRST = [];
I.kernel.forEach((kernel, at) => { if (FIRST[kernel] === undefined) FIRST[kernel] = at; });
function imagesOf(kernel) {
  const first = FIRST[kernel];
  return first === undefined ? [] : Array.from({ length: D.kernels[kernel].images }, (_, at) => first + at);
}

// The same as numbers.
function sizeTable() {
  const rows = D.kernels.map((kernel, at) => {
    const by = D.targets.map(() => 0);
    for (const image of imagesOf(at)) by[I.target[image]] += I.stored[image];
    return { name: kernel.name, by, all: sum(by) };
  });
  const most = Math.max(1, ...rows.map((row) => row.all));
  const columns = [
    { title: "Kernel", value: (row) => row.name, cell: (row) => textCell(row.name) },
    ...D.targets.map((target, at) => ({ title: target, number: true, value: (row) => row.by[at], cell: (row) => numberCell(number(row.by[at])) })),
    { title: "All", number: true, value: (row) => row.all, cell: (row) => barCell(number(row.all), row.all / most) },
  ];
  return make("details", {}, make("summary", {}, "The same as a table"), make("p", { class: "note" }, "Bytes of code in the archive."), sortable("Sizes by kernel and target", columns, rows).element);
}
