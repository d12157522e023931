// The boxes of the treemap, as they are drawn: bytes, size in pixels, and share of the whole.
(() => {
  const map = document.querySelector(".treemap").getBoundingClientRect();
  return [...document.querySelectorAll(".cell")].map((cell) => {
    const at = cell.getBoundingClientRect();
    return {
      bytes: Number(cell.dataset.bytes), width: at.width, height: at.height,
      share: (at.width * at.height) / (map.width * map.height),
      inside: at.left >= map.left - 1 && at.right <= map.right + 1 && at.top >= map.top - 1 && at.bottom <= map.bottom + 1,
    };
  });
})()
