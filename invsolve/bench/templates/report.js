"use strict";
(() => {
  const all = (query, from) => Array.from((from || document).querySelectorAll(query));
  const one = (query, from) => (from || document).querySelector(query);
  const root = document.documentElement;
  const say = (text) => { one("#said").textContent = text; };
  const state = { m: 0, o: 0, c: 0, grid: 0, view: "picture", zoom: 1, x: 0.5, y: 0.5 };
  root.classList.add("js");
  all(".js-only").forEach((part) => { part.hidden = false; });

  // What belongs to another metric, operator or cost is hidden.
  const show = () => {
    all("[data-m], [data-o][data-c]").forEach((part) => {
      const { m, o, c } = part.dataset;
      part.hidden = (m !== undefined && +m !== state.m) || (o !== undefined && +o !== state.o) || (c !== undefined && +c !== state.c);
    });
    all(".card").forEach((card) => card.classList.toggle("picked", +card.dataset.pick === state.o));
    all("select.operator").forEach((part) => { part.value = state.o; });
    all("select.cost").forEach((part) => { part.value = state.c; });
  };
  const metric = one("#metric");
  if (metric) metric.addEventListener("change", () => { state.m = +metric.value; show(); });
  all("select.cost").forEach((part) => part.addEventListener("change", () => { state.c = +part.value; show(); }));
  all("select.operator").forEach((part) => part.addEventListener("change", () => choose(+part.value)));
  all(".card").forEach((card) => card.addEventListener("click", () => choose(+card.dataset.pick)));
  const first = one("select.operator");
  const operators = first ? Array.from(first.options, (option) => option.textContent) : [];
  const choose = (index) => {
    state.o = index;
    show();
    const same = grids.findIndex((grid) => grid.dataset.operator === operators[index] && grid.dataset.picture === (current() || { dataset: {} }).dataset.picture);
    const any = grids.findIndex((grid) => grid.dataset.operator === operators[index]);
    if (same >= 0 || any >= 0) open(same >= 0 ? same : any);
  };

  // Light and dark; what was chosen is kept where the browser lets a file keep something.
  const theme = one("#theme");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  const name = () => { theme.textContent = dark() ? "Light" : "Dark"; };
  try { const kept = localStorage.getItem("invsolve-theme"); if (kept === "dark" || kept === "light") root.dataset.theme = kept; } catch { /* not kept */ }
  theme.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("invsolve-theme", root.dataset.theme); } catch { /* not kept */ }
    name();
  });
  name();

  // Tables: sort by a heading, filter by name and by sort of method, save as CSV.
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v === undefined ? cell.textContent.trim() : cell.dataset.v;
    const number = { inf: Infinity, "-inf": -Infinity, "": NaN }[text];
    return number === undefined && text.trim() && !Number.isNaN(+text) ? +text : number === undefined ? text.toLowerCase() : number;
  };
  const ordered = (a, b) => {
    const lost = (part) => typeof part === "number" && Number.isNaN(part);
    if (lost(a) || lost(b)) return lost(a) - lost(b);
    return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  };
  all(".sort").forEach((button) => button.addEventListener("click", () => {
    const head = button.closest("th"), table = button.closest("table"), body = table.tBodies[0];
    const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : !head.matches(".name, .text");
    all("th", table.tHead).forEach((part) => part.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = Array.from(body.rows).map((row) => [value(row, head.cellIndex), row]);
    const missing = (part) => typeof part === "number" && Number.isNaN(part);
    rows.sort((a, b) => (missing(a[0]) || missing(b[0]) ? ordered(a[0], b[0]) : down ? ordered(b[0], a[0]) : ordered(a[0], b[0])));
    rows.forEach(([, row]) => { row.classList.remove("first"); body.append(row); });
    say(`Sorted by ${button.textContent}, ${down ? "largest" : "smallest"} first`);
  }));
  const filter = { text: "", kinds: new Set(all(".kind").map((part) => part.value)) };
  const sift = () => {
    const kept = new Set();
    all(".matrix tbody tr, .filtered tbody tr, .chart g[data-solver], .shots figure").forEach((part) => {
      const fits = filter.kinds.has(part.dataset.kind) && part.dataset.solver.toLowerCase().includes(filter.text);
      if (part instanceof SVGElement) part.style.display = fits ? "" : "none"; else part.hidden = !fits;
      if (fits) kept.add(part.dataset.solver);
    });
    all(".filter").forEach((part) => { if (part !== document.activeElement) part.value = filter.text; });
    all(".kind").forEach((part) => { part.checked = filter.kinds.has(part.value); });
    say(`${kept.size} solvers shown`);
  };
  all(".filter").forEach((part) => part.addEventListener("input", () => { filter.text = part.value.trim().toLowerCase(); sift(); }));
  all(".kind").forEach((part) => part.addEventListener("change", () => { filter.kinds[part.checked ? "add" : "delete"](part.value); sift(); }));
  const quoted = (text) => {
    const safe = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
    return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  all("table[data-csv]").forEach((table) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "csv";
    button.textContent = "CSV";
    button.setAttribute("aria-label", "Save this table as CSV");
    button.addEventListener("click", () => {
      const text = Array.from(table.rows).filter((row) => !row.hidden).map((row) => Array.from(row.cells).map((cell) => quoted((cell.dataset.v || cell.textContent).replace(/\s+/g, " ").trim())).join(",")).join("\n");
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([`${text}\n`], { type: "text/csv" }));
      link.download = `${table.dataset.csv}.csv`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
    const head = table.closest(".panel");
    if (head) one(".filters", head).append(button); else table.closest(".scroll").after(button);
  });
  const hot = (solver) => all(".chart").forEach((chart) => {
    let found = false;
    all("g[data-solver]", chart).forEach((mark) => { const same = mark.dataset.solver === solver; found = found || same; mark.classList.toggle("hot", same); });
    chart.classList.toggle("dim", found);
  });
  all(".matrix tbody tr").forEach((row) => {
    row.addEventListener("pointerenter", () => hot(row.dataset.solver));
    row.addEventListener("pointerleave", () => hot(null));
  });

  // Pictures: one grid at a time, one cursor and one zoom for all of them.
  const grids = all(".grid");
  const current = () => grids[state.grid];
  const picks = { operator: one("#g-operator"), picture: one("#g-picture"), a: one("#a-what"), b: one("#b-what") };
  const fill = (select, pairs, chosen) => {
    select.replaceChildren(...pairs.map(([key, text]) => { const option = document.createElement("option"); option.value = key; option.textContent = text; return option; }));
    select.value = chosen;
    if (select.selectedIndex < 0 && select.options.length) select.selectedIndex = 0;
  };
  const frames = () => [...all(".frame:not(.none)", current()), one(".ab")].filter(Boolean);
  const move = () => frames().forEach((frame) => {
    all("img", frame).forEach((image) => {
      image.style.transformOrigin = `${100 * state.x}% ${100 * state.y}%`;
      image.style.transform = state.zoom > 1 ? `scale(${state.zoom})` : "";
    });
    let cross = one(".cross", frame);
    if (!cross) { cross = document.createElement("span"); cross.className = "cross"; frame.append(cross); }
    cross.hidden = !state.pointed;
    cross.style.left = `${100 * state.x}%`;
    cross.style.top = `${100 * state.y}%`;
  });
  const zoom = (factor) => {
    state.zoom = Math.min(8, Math.max(1, factor));
    all(".zoom").forEach((button) => button.setAttribute("aria-pressed", String(+button.dataset.zoom === state.zoom)));
    move();
  };
  const pictures = new Map();
  const pixels = async (uri) => {
    if (!pictures.has(uri)) {
      const image = new Image();
      image.src = uri;
      await image.decode();
      const canvas = document.createElement("canvas");
      canvas.width = image.naturalWidth;
      canvas.height = image.naturalHeight;
      const brush = canvas.getContext("2d", { willReadFrequently: true });
      brush.drawImage(image, 0, 0);
      if (pictures.size > 64) pictures.clear();
      pictures.set(uri, brush.getImageData(0, 0, canvas.width, canvas.height));
    }
    return pictures.get(uri);
  };
  // Black over violet and orange to pale yellow, even in lightness.
  const stops = [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]];
  const colour = (share) => {
    const place = Math.min(0.9999, Math.max(0, share)) * (stops.length - 1), low = Math.floor(place), part = place - low;
    return stops[low].map((start, index) => start + part * (stops[low + 1][index] - start));
  };
  const drawn = (width, height, at) => {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const brush = canvas.getContext("2d"), image = brush.createImageData(width, height);
    for (let index = 0; index < width * height; index += 1) {
      const [red, green, blue] = colour(at(index));
      image.data.set([red, green, blue, 255], 4 * index);
    }
    brush.putImageData(image, 0, 0);
    return canvas;
  };
  const brightest = parseFloat((one("#scale-end") || { textContent: "0.25" }).textContent);
  const seen = async (image, truth) => {
    if (state.view === "spread") {
      if (!image.dataset.spread) return null;
      const grey = await pixels(image.dataset.spread);
      return drawn(grey.width, grey.height, (index) => grey.data[4 * index] / 255).toDataURL();
    }
    const [mine, wanted] = [await pixels(image.dataset.plain), truth ? await pixels(truth) : null];
    if (!wanted || mine.width !== wanted.width || mine.height !== wanted.height) return null;
    const off = (index) => (Math.abs(mine.data[index] - wanted.data[index]) + Math.abs(mine.data[index + 1] - wanted.data[index + 1]) + Math.abs(mine.data[index + 2] - wanted.data[index + 2])) / (3 * 255);
    return drawn(mine.width, mine.height, (index) => off(4 * index) / brightest).toDataURL();
  };
  const paint = async () => {
    const grid = current(), view = state.view;
    if (!grid) return;
    all(".view").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.view === view)));
    one(".scale").hidden = view === "picture";
    one("#scale-what").textContent = view === "spread" ? "standard deviation over samples, mean over channels" : "|x − truth|, mean over channels";
    if (view !== "picture") one("#scale").getContext("2d").drawImage(drawn(160, 10, (index) => (index % 160) / 159), 0, 0);
    const images = all("img", grid), truth = one('[data-what="truth"] img', grid);
    images.forEach((image) => { image.dataset.plain = image.dataset.plain || image.getAttribute("src"); });
    for (const image of images) {
      const map = view === "picture" || image === truth ? null : await seen(image, truth && truth.dataset.plain);
      if (state.view !== view || current() !== grid) return;
      image.src = map || image.dataset.plain;
    }
    stage();
  };
  const shots = () => all(".shot", current());
  const stage = () => {
    [["a", picks.a], ["b", picks.b]].forEach(([place, select]) => {
      const found = shots()[+select.value], image = found && one("img", found), target = one(`#${place}`);
      target.hidden = !image;
      if (image) { target.src = image.getAttribute("src"); target.alt = image.alt; } else target.removeAttribute("src");
    });
    shots().forEach((shot, index) => shot.setAttribute("aria-pressed", String(index === +picks.b.value)));
    wipe();
    move();
  };
  const wipe = () => {
    const share = one("#wipe").value;
    one("#over").style.clipPath = `inset(0 0 0 ${share}%)`;
    one("#edge").style.left = `${share}%`;
  };
  const open = (index) => {
    if (!grids.length) return;
    const held = [picks.a, picks.b].map((select) => select.selectedOptions[0] && select.selectedOptions[0].textContent);
    state.grid = index;
    grids.forEach((grid, place) => { grid.hidden = place !== index; });
    const grid = current(), names = shots().map((shot, place) => [place, shot.dataset.what]);
    fill(picks.operator, [...new Set(grids.map((part) => part.dataset.operator))].map((part) => [part, part]), grid.dataset.operator);
    fill(picks.picture, grids.map((part, place) => [place, part]).filter(([, part]) => part.dataset.operator === grid.dataset.operator).map(([place, part]) => [place, part.dataset.title]), index);
    const best = names.findIndex(([, known]) => known === grid.dataset.best);
    const place = (text, other) => { const found = names.findIndex(([, known]) => known === text); return found >= 0 ? found : Math.min(other, names.length - 1); };
    fill(picks.a, names, place(held[0], 0));
    fill(picks.b, names, place(held[1], best >= 0 ? best : 2));
    paint();
  };
  const see = (operator, picture, solver) => {
    const found = grids.findIndex((grid) => grid.dataset.operator === operator && grid.dataset.picture === picture);
    if (found < 0) { say("This picture is not in the page"); return; }
    open(found);
    const index = shots().findIndex((shot) => shot.dataset.what === solver);
    if (index >= 0) { picks.b.value = index; stage(); shots()[index].focus({ preventScroll: true }); }
    one("#pictures").scrollIntoView();
  };
  all(".see").forEach((button) => button.addEventListener("click", () => { const row = button.closest("tr").dataset; see(row.operator, row.picture, row.solver); }));
  if (grids.length) {
    picks.operator.addEventListener("change", () => open(grids.findIndex((grid) => grid.dataset.operator === picks.operator.value)));
    picks.picture.addEventListener("change", () => open(+picks.picture.value));
    [picks.a, picks.b].forEach((select) => select.addEventListener("change", stage));
    one("#wipe").addEventListener("input", wipe);
    all(".zoom").forEach((button) => button.addEventListener("click", () => zoom(+button.dataset.zoom)));
    all(".view").forEach((button) => button.addEventListener("click", () => { state.view = button.dataset.view; paint(); }));
    all(".shot").forEach((shot) => shot.addEventListener("click", () => { picks.b.value = shots().indexOf(shot); stage(); }));
    const point = (event) => {
      const frame = event.target.closest && event.target.closest(".frame:not(.none)");
      if (!frame) return;
      const box = frame.getBoundingClientRect();
      state.x = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      state.y = Math.min(1, Math.max(0, (event.clientY - box.top) / box.height));
      state.pointed = true;
      move();
    };
    const look = one(".look");
    look.addEventListener("pointermove", point);
    look.addEventListener("pointerdown", point);
    look.addEventListener("pointerleave", () => { state.pointed = false; move(); });
    look.addEventListener("keydown", (event) => {
      if (event.target.matches("select, input") || event.ctrlKey || event.metaKey || event.altKey) return;
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      const side = Array.from(picks.picture.options, (option) => +option.value), place = side.indexOf(state.grid);
      if (steps) {
        state.x = Math.min(1, Math.max(0, state.x + 0.04 * steps[0] / state.zoom));
        state.y = Math.min(1, Math.max(0, state.y + 0.04 * steps[1] / state.zoom));
        state.pointed = true;
        move();
      } else if (event.key === "+" || event.key === "=") zoom(2 * state.zoom);
      else if (event.key === "-") zoom(state.zoom / 2);
      else if (event.key === "]" && place < side.length - 1) { open(side[place + 1]); shots()[0].focus(); }
      else if (event.key === "[" && place > 0) { open(side[place - 1]); shots()[0].focus(); }
      else if (event.key.toLowerCase() === "e") { state.view = state.view === "error" ? "picture" : "error"; paint(); }
      else return;
      event.preventDefault();
    });
    open(0);
  }
  show();
})();
