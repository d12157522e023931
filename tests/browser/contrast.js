// Every text that is shown, and those that do not stand out from what is behind them: WCAG 2.1 asks for 4.5.
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  function rgba(colour) {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  }
  const light = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  function contrast(a, b) {
    const [x, y] = [light(a), light(b)].sort((one, other) => other - one);
    return (x + 0.05) / (y + 0.05);
  }
  const low = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let count = 0;
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement, style = getComputedStyle(element);
    if (!walk.currentNode.data.trim() || !element.getClientRects().length) continue;
    if (element.closest("script, noscript, style, .skip, [hidden]")) continue;
    count += 1;
    let behind = element;
    const ground = (of) => getComputedStyle(of).backgroundColor;
    while (behind !== document.documentElement && rgba(ground(behind))[3] < 255) behind = behind.parentElement;
    const grounds = [ground(behind)];
    const bar = element.closest("td.bar");
    const of = bar && (bar.classList.contains("warn") ? "--bar-warn" : "--bar");
    if (bar) grounds.push(getComputedStyle(document.documentElement).getPropertyValue(of));
    for (const colour of grounds) {
      const found = contrast(rgba(style.color), rgba(colour));
      if (found < 4.5) low.push([walk.currentNode.data.slice(0, 40), style.color, colour, found.toFixed(2)]);
    }
  }
  return { count, low, ground: getComputedStyle(document.body).backgroundColor };
})()
