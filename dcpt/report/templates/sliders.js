// The sliders of the page. Every position has an answer that dcpt computed; this script looks it up
// and draws it. It computes no answer, and it loads nothing.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("what-if-data").textContent);
  const answers = unpack(data.answers);
  const curves = unpack(data.curves);
  const inputs = data.names.map((name) => document.getElementById("slider-" + name));
  const firstCurves = []; // of each cell: how many curves the cells before it have
  data.cells.reduce((before, cell) => (firstCurves.push(before), before + cell.rates.length), 0);

  document.getElementById("sliders").hidden = false;
  for (const input of inputs) {
    if (input) input.addEventListener("input", show);
  }
  show();

  function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  }

  function show() {
    const found = lookUp(inputs.map((input) => (input ? Number(input.value) : 0)));
    for (const input of inputs) {
      if (!input) continue;
      const label = JSON.parse(input.dataset.labels)[Number(input.value)];
      input.setAttribute("aria-valuetext", label);
      input.nextElementSibling.textContent = label;
    }
    document.getElementById("what-if-answer").replaceChildren(...describe(found));
    document.getElementById("what-if-curves").replaceChildren(...draw(found));
  }

  // The answer at a position: numbers by name, the cell, and the curves at the chosen rate.
  function lookUp([size, tokens, text, limit, confidence]) {
    const [, nTokens, nTexts, nLimits, nConfidences] = data.shape;
    const number = (size * nTokens + tokens) * nTexts + text;
    const cell = data.cells[number];
    const start = ((number * nLimits + limit) * nConfidences + confidence) * data.fields.length;
    const found = { cell, allowed: cell.allowed[limit] };
    data.fields.forEach((field, i) => (found[field] = answers[start + i]));
    found.possible = !cell.refusal && !Number.isNaN(found.share);
    if (found.possible) {
      const width = 6 * data.ratio.length;
      const curve = firstCurves[number] + cell.rates.indexOf(found.rate);
      found.curves = curves.subarray(curve * width, (curve + 1) * width);
    }
    return found;
  }

  function describe(found) {
    if (found.cell.refusal) return [element("p", "verdict", `No answer: ${found.cell.refusal}`)];
    const { level, reasons } = data.evidence[found.evidence];
    const words = element("p", "", [...reasons, about(found)].join(" "));
    if (!found.possible) {
      return [element("p", "verdict", "No share of domain text keeps the limit at these odds."), words];
    }
    const prefix = {
      recommended: "Train with ",
      tentative: "Tentative: train with ",
      "not enough evidence": "Estimate, not a recommendation: ",
    }[level];
    const rate = data.rates[found.rate];
    const at = rate === null ? "" : ` at a peak learning rate of ${rate}`;
    const answer = element("p", "verdict", `${prefix}${share(found.share)} domain text${at}.`);
    for (const field of data.fields) answer.dataset[field] = found[field];
    const tiles = element("dl", "tiles", "");
    tiles.append(tile(`Best share, ${data.level} interval`, shares(found.share_low, found.share_high), ""));
    if (data.general) tiles.append(tile(`Loss of ${data.general}`, nats(found.general), losses(found, "general")));
    tiles.append(tile(`Loss of ${data.domain}`, nats(found.domain), losses(found, "domain")));
    if (!Number.isNaN(found.probability)) {
      tiles.append(tile("Chance of staying within the limit", chance(found.probability), ""));
    }
    return [answer, tiles, words];
  }

  function about(found) {
    const base = found.cell.base === null ? "" : `The base's general loss is ${nats(found.cell.base)}. `;
    return found.allowed === null ? base : `${base}The limit is ${nats(found.allowed)}.`;
  }

  function tile(name, value, more) {
    const box = document.createElement("div");
    box.append(element("dt", "", name), element("dd", "", value), element("dd", "", more));
    return box;
  }

  function element(tag, style, text) {
    const made = document.createElement(tag);
    if (style) made.className = style;
    made.textContent = text;
    return made;
  }

  function share(value) {
    return (100 * value).toFixed(1).replace(/\.0$/, "") + " %";
  }
  function shares(low, high) {
    return Number.isNaN(low) ? "no interval" : `${(100 * low).toFixed(0)} to ${(100 * high).toFixed(0)} %`;
  }
  function nats(value) {
    return Number.isNaN(value) ? "unknown" : value.toFixed(3).replace("-", "\u2212");
  }
  function losses(found, side) {
    const [low, high] = [found[side + "_low"], found[side + "_high"]];
    return Number.isNaN(low) || Number.isNaN(high) ? "no interval" : `${nats(low)} to ${nats(high)}`;
  }
  // Rounded first: 0.99 as float32 is above 0.99.
  function chance(value) {
    const percent = Math.round(100 * value);
    if (percent > 99) return "over 99 %";
    return percent < 1 ? "under 1 %" : `${percent} %`;
  }

  // Two panels, as those of the trade-off: the rise of the general loss, and the domain loss.
  function draw(found) {
    if (!found.possible) return [];
    const n = data.ratio.length;
    const part = (i) => Array.from(found.curves.subarray(i * n, (i + 1) * n));
    const domain = [3, 4, 5].map(part);
    const seen = domain.map((losses) => losses.filter((_, i) => data.ratio[i] >= 0.1));
    const window = [least(seen[1]), most(seen[2])];
    const panels = [panel(found, "domain", "domain loss (nats per token)", domain, window, null, found.domain)];
    const base = found.cell.base;
    if (base === null) return panels;
    const rise = [0, 1, 2].map((i) => part(i).map((loss) => loss - base));
    const limit = found.allowed === null ? null : found.allowed - base;
    const title = "general loss, rise over the base (nats)";
    return [panel(found, "general", title, rise, riseWindow(rise, limit), limit, found.general - base), ...panels];
  }

  // From the lowest rise to a few times the limit: not the cliff near a share of 1.
  function riseWindow(rise, limit) {
    const enough = limit === null ? Infinity : Math.max(4 * Math.abs(limit), 0.02);
    const top = Math.max(1.15 * (limit || 0), Math.min(most(rise[2]), enough));
    return [Math.max(Math.min(least(rise[1]), 0), -top), top];
  }

  function most(values) {
    return Math.max(...values.filter((value) => !Number.isNaN(value)));
  }
  function least(values) {
    return Math.min(...values.filter((value) => !Number.isNaN(value)));
  }

  function panel(found, side, title, [middle, low, high], [bottom, top], limit, height) {
    const pad = 0.05 * (top - bottom || 1);
    const [y0, y1] = [bottom - pad, top + pad];
    const x = (ratio) => 46 + 324 * ratio;
    const y = (value) => 250 - (232 * (value - y0)) / (y1 - y0);
    const svg = shape("svg", { viewBox: "0 0 380 290", role: "img" });
    const marked = `${share(found.share)} domain text is marked`;
    svg.setAttribute("aria-label", `${title} against the share of domain text; ${marked}.`);
    svg.append(...axes(x, y, y0, y1, title));
    const points = (line) => line.map((value, i) => [x(data.ratio[i]), y(value)]);
    const known = (line) => points(line).filter(([, height]) => !Number.isNaN(height));
    const band = [...known(low), ...known(high).reverse()];
    // Curves are cut at the window's edge, not bent along it.
    const window = shape("clipPath", { id: `window-${side}` });
    window.append(shape("rect", { x: x(0), y: y(y1), width: x(1) - x(0), height: y(y0) - y(y1) }));
    const inner = shape("g", { "clip-path": `url(#window-${side})` });
    inner.append(
      shape("polygon", { points: band.join(" "), class: `band ${side}` }),
      shape("polyline", { points: known(middle).join(" "), class: `line ${side}` }),
    );
    svg.append(window, inner);
    if (limit !== null) {
      svg.append(shape("line", { x1: x(0), x2: x(1), y1: y(limit), y2: y(limit), class: "limit" }));
      svg.append(label(x(0) + 5, y(limit) - 4, "limit"));
    }
    if (!Number.isNaN(found.share_low)) {
      const width = x(found.share_high) - x(found.share_low);
      svg.append(shape("rect", { x: x(found.share_low), width, y: y(y1), height: y(y0) - y(y1), class: "band pick" }));
    }
    const [px, py] = [x(found.share), y(height)];
    svg.append(shape("path", { d: `M${px} ${py - 6}l6 6l-6 6l-6 -6z`, class: "mark" }));
    const box = document.createElement("div");
    box.append(svg);
    return box;
  }

  function axes(x, y, y0, y1, title) {
    const made = [label(x(0), 10, title, "title"), label(x(0.5), 286, "domain text in training (%)", "middle")];
    const step = niceStep((y1 - y0) / 5);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    for (let k = Math.ceil(y0 / step); k * step <= y1; k++) {
      made.push(shape("line", { x1: x(0), x2: x(1), y1: y(k * step), y2: y(k * step), class: "grid" }));
      made.push(label(x(0) - 5, y(k * step) + 4, (k * step).toFixed(digits).replace("-", "\u2212"), "end"));
    }
    for (let percent = 0; percent <= 100; percent += 20) {
      made.push(label(x(percent / 100), 266, String(percent), "middle"));
    }
    return made;
  }

  function niceStep(rough) {
    const power = 10 ** Math.floor(Math.log10(rough));
    return power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  }

  function label(x, y, text, style) {
    const made = shape("text", { x, y, class: style || "" });
    made.textContent = text;
    return made;
  }

  function shape(name, attributes) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }
})();
