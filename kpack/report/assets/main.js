const spilling = I.spills.filter(Boolean).length, code = sum(I.stored);
document.getElementById("subtitle").textContent = `pack ${D.pack.name}, for ${D.pack.host} hosts, ${size(D.bytes)}`;
const tiles = [
  [number(D.kernels.length), D.kernels.length === 1 ? "kernel" : "kernels"],
  [number(sum(D.kernels.map((kernel) => kernel.variants.length))), "variants"],
  [number(COUNT), COUNT === 1 ? "image" : "images"],
  [number(D.targets.length), D.targets.length === 1 ? "target" : "targets"],
  [size(code), "of code"],
  [number(spilling), spilling === 1 ? "image that spills" : "images that spill"],
  ...(D.missing.length ? [[number(D.missing.length), "missing"]] : []),
];
document.getElementById("main").append(make("ul", { class: "tiles" }, ...tiles.map(([value, what]) => make("li", {}, make("b", {}, value), make("span", {}, what)))));
drawSizes();
drawVariants();
drawMissing();
drawTuning();
drawDifference();
