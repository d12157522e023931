// What the other parts use. Every text goes into the page as text: nothing here makes HTML of a string.
const D = JSON.parse(document.getElementById("data").textContent);
const I = D.images, COUNT = I.kernel.length;

function make(tag, facts, ...children) {
  const { dataset, style, ...rest } = facts || {};
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(rest)) {
    if (value === undefined || value === null) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  for (const [name, value] of Object.entries(style || {})) element.style.setProperty(name, value);
  Object.assign(element.dataset, dataset || {});
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}
const name = (text) => make("span", { class: "name", dir: "auto" }, text);
const number = (value) => value.toLocaleString("en-US");
const many = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
const sum = (values) => values.reduce((total, value) => total + value, 0);

function size(bytes) {
  for (const [unit, scale] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]])
    if (Math.abs(bytes) >= scale) return `${(bytes / scale).toFixed(1)} ${unit}`;
  return `${bytes} B`;
}
function percent(part, whole) {
  const value = whole ? (100 * part) / whole : 0;
  return `${value.toFixed(value < 10 ? 1 : 0)} %`;
}

// A section with its entry in the navigation.
function section(id, title, ...children) {
  document.getElementById("sections").append(make("a", { href: `#${id}` }, title));
  const found = make("section", { id, "aria-labelledby": `${id}-title` }, make("h2", { id: `${id}-title` }, title), ...children);
  document.getElementById("main").append(found);
  return found;
}

// ---- a tip that follows the pointer or the focus; what it says, the element's label says, too
const tip = document.getElementById("tip");
function showTip(element, text) {
  tip.textContent = text;
  tip.hidden = false;
  const at = element.getBoundingClientRect(), mine = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, at.left + at.width / 2 - mine.width / 2), innerWidth - mine.width - 8);
  const above = at.top - mine.height - 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 50 ? above : Math.min(at.bottom + 8, innerHeight - mine.height - 8)}px`;
}
function hideTip() { tip.hidden = true; }
function tipped(element, text) {
  for (const event of ["pointerenter", "focus"]) element.addEventListener(event, () => showTip(element, text));
  for (const event of ["pointerleave", "blur"]) element.addEventListener(event, hideTip);
  return element;
}
addEventListener("scroll", hideTip, { passive: true });

// ---- light and dark
const theme = document.getElementById("theme"), dark = matchMedia("(prefers-color-scheme: dark)");
function setTheme(mode) {
  document.documentElement.dataset.theme = mode;
  theme.textContent = mode === "dark" ? "Light" : "Dark";
  theme.setAttribute("aria-label", `Switch to ${mode === "dark" ? "light" : "dark"} colours`);
}
setTheme(dark.matches ? "dark" : "light");
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
theme.addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
