"use strict";
// Sorting, filters, folding and tooltips. Without this script the page is whole: nothing here adds a figure.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (name, given = {}, ...children) => {
    const element = Object.assign(document.createElement(name), given);
    element.append(...children);
    return element;
  };
  const seen = (element) => !element.closest(".filtered");

  // Sorting: by the first measured figure that is shown; what has none follows, by what is published.

  const number = (cell) => {
    const shown = all(".timed", cell).find(seen) ?? cell;
    const text = (shown.querySelector("b") ?? shown).textContent.trim();
    return parseFloat(text.replaceAll("\u2212", "-").replaceAll(",", "")) / (text.endsWith(" M") ? 1e3 : 1);
  };

  // Counted from the end: heads may span rows, so that only the first of these has them all; cells may span columns.
  const cellAt = (row, fromEnd) => {
    const cells = [...row.cells].reverse();
    return cells.find((cell) => (fromEnd -= cell.colSpan) <= 0);
  };

  const key = (unit, at, width, isLabel) => {
    const rows = unit.matches("tr") ? [unit] : [...unit.rows];
    const cells = (some) => some.map((row) => cellAt(row, width - at)).filter(Boolean);
    const first = cells([rows.find((row) => row.cells.length === width) ?? rows[0]])[0];
    if (isLabel) return { rank: 0, text: first?.textContent.trim() ?? "" };
    const own = cells(rows.filter((row) => "key" in row.dataset && seen(row))).map(number).find((n) => !isNaN(n));
    if (own !== undefined) return { rank: 0, value: own };
    const printed = first ? number(first) : NaN;
    return isNaN(printed) ? { rank: 2 } : { rank: 1, value: printed };
  };

  const compare = (one, other, sign) => {
    if (one.rank !== other.rank) return one.rank - other.rank;
    if (one.text !== undefined) return sign * one.text.localeCompare(other.text, "en", { numeric: true });
    return one.value === other.value ? 0 : sign * (one.value - other.value);
  };

  const sortable = (table) => {
    const heads = all("thead th", table);
    const units = table.dataset.unit === "row" ? all("tbody > tr", table) : [...table.tBodies];
    const sort = (head, order) => {
      heads.forEach((each) => each.hasAttribute("aria-sort") && each.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", order);
      const [at, isLabel] = [heads.indexOf(head), head.classList.contains("label")];
      const keys = new Map(units.map((unit) => [unit, key(unit, at, heads.length, isLabel)]));
      const sign = order === "descending" ? -1 : 1;
      const sorted = order === "none" ? units : [...units].sort((a, b) => compare(keys.get(a), keys.get(b), sign));
      sorted.forEach((unit) => unit.parentNode.append(unit));
    };
    for (const head of heads.filter((each) => each.textContent.trim())) {
      const next = { none: "ascending", ascending: "descending", descending: "none" };
      const button = make("button", { type: "button", className: "sort" }, ...head.childNodes);
      button.addEventListener("click", () => sort(head, next[head.getAttribute("aria-sort")]));
      head.setAttribute("aria-sort", "none");
      head.append(button);
    }
  };

  // Folding: rows in which nothing was run.

  const unrun = (body) => !all("tr[data-key]", body).some(seen);

  const folding = (table) => {
    const button = make("button", { type: "button", className: "fold" });
    const update = () => {
      const bodies = all("tbody.row", table);
      bodies.forEach((body) => body.classList.toggle("unrun", unrun(body)));
      const hidden = bodies.filter((body) => body.classList.contains("unrun") && seen(body));
      const notes = all("tr.unrun", table).filter((row) => seen(row) && !hidden.includes(row.parentNode));
      const folded = table.classList.contains("folded");
      const what = hidden.length ? `${hidden.length} row${hidden.length > 1 ? "s" : ""} not run` : "what was not run, and why";
      button.textContent = `${folded ? "Show" : "Hide"} ${what}`;
      button.setAttribute("aria-expanded", String(!folded));
      button.hidden = !(hidden.length || notes.length);
      table.classList.toggle("nothing", folded && bodies.every((body) => !seen(body) || hidden.includes(body)));
    };
    table.classList.add("folded");
    button.addEventListener("click", () => { table.classList.toggle("folded"); update(); });
    table.parentNode.after(button);
    return update;
  };

  // Filters, kept in the fragment: #table1&block=...&method=...

  const NAMES = ["block", "method", "machine"];
  const form = document.getElementById("filters");
  const state = { block: "", method: "", machine: "" };
  const updates = [];

  const options = (name) => {
    const values = new Set(all(`[data-${name}]`).map((element) => element.dataset[name]).filter(Boolean));
    form.elements[name].append(...[...values].sort().map((value) => make("option", { value }, value)));
    form.elements[name].closest("label").hidden = values.size < 2;
  };

  const apply = () => {
    const marked = all(NAMES.map((name) => `[data-${name}]`).join());
    for (const element of marked) {
      const other = (name) => state[name] && name in element.dataset && element.dataset[name] !== state[name];
      element.classList.toggle("filtered", NAMES.some(other));
    }
    updates.forEach((update) => update());
    for (const section of all("section.table, .question")) {
      const parts = all("[data-method]", section);
      section.classList.toggle("nothing", parts.length > 0 && !parts.some(seen));
      all(`nav a[href="#${section.id}"]`).forEach((link) => link.classList.toggle("away", section.matches(".nothing")));
    }
    const rows = all("tr[data-key]");
    const any = NAMES.some((name) => state[name]);
    form.querySelector("output").textContent = any ? `${rows.filter(seen).length} of ${rows.length} measured rows` : "";
    NAMES.forEach((name) => { form.elements[name].value = state[name]; });
  };

  const fragment = (anchor) => {
    const chosen = NAMES.filter((name) => state[name]).map((name) => `${name}=${encodeURIComponent(state[name])}`);
    return "#" + [anchor, ...chosen].filter(Boolean).join("&");
  };

  const read = () => {
    const parts = location.hash.slice(1).split("&");
    const given = parts.filter((part) => part.includes("=")).map((part) => part.split("="));
    if (given.length) {
      NAMES.forEach((name) => { state[name] = ""; });
      for (const [name, value] of given) {
        const known = NAMES.includes(name) && [...form.elements[name].options].map((option) => option.value);
        if (known && known.includes(decoded(value))) state[name] = decoded(value);
      }
    }
    apply();
    reveal(parts.find((part) => !part.includes("=")) ?? "");
  };

  const decoded = (value) => {
    try { return decodeURIComponent(value); } catch { return value; }
  };

  const reveal = (anchor) => {
    history.replaceState(null, "", fragment(anchor));
    const target = document.getElementById(decoded(anchor));
    if (!target) return;
    for (let at = target; at; at = at.parentElement) if (at.matches("details")) at.open = true;
    const table = target.closest("table.folded");
    if (table && target.closest(".unrun")) table.parentNode.nextElementSibling.click();
    target.scrollIntoView();
  };

  // Tooltips: where a figure comes from, on hover, focus and touch; Escape closes.

  const tip = make("div", { id: "tip", role: "tooltip", hidden: true });
  let later = 0;

  const show = (place, at) => {
    clearTimeout(later);
    const source = document.getElementById(place.dataset.source);
    const head = heading(at);
    tip.replaceChildren(...(head ? [make("b", {}, head)] : []), ...source.cloneNode(true).childNodes);
    tip.hidden = false;
    const [box, own] = [at.getBoundingClientRect(), tip.getBoundingClientRect()];
    const below = box.bottom + own.height + 8 < innerHeight ? box.bottom + 4 : Math.max(4, box.top - own.height - 4);
    tip.style.top = `${below + scrollY}px`;
    tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - own.width - 8)) + scrollX}px`;
  };

  const heading = (at) => {
    const cell = at.closest("td");
    const table = cell?.closest("table");
    if (!table) return "";
    const heads = all("thead th", table);
    const head = heads[heads.length - cell.parentNode.cells.length + cell.cellIndex];
    return head ? [...head.querySelector(".sort, th")?.childNodes ?? []].map((node) => node.textContent).join(" ").trim() : "";
  };

  const hide = () => { clearTimeout(later); tip.hidden = true; };
  const soon = (act, wait) => { clearTimeout(later); later = setTimeout(act, wait); };

  const tooltips = () => {
    document.body.append(tip);
    for (const link of all("a.source")) link.setAttribute("aria-describedby", "tip");
    document.addEventListener("mouseover", (event) => {
      if (tip.contains(event.target)) return clearTimeout(later);
      const place = event.target.closest("[data-source]");
      const cell = event.target.closest("td, th");
      if (place && cell) soon(() => show(place, cell), 350);
      else if (!tip.hidden) soon(hide, 250);
    });
    document.addEventListener("focusin", (event) => {
      const link = event.target.closest("a.source");
      if (link) show(link.closest("[data-source]"), link);
      else if (!tip.contains(event.target)) hide();
    });
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a.source");
      if (link) { event.preventDefault(); show(link.closest("[data-source]"), link); }
      else if (!tip.contains(event.target)) hide();
    });
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  };

  // The contents: which part is being read.

  const contents = () => {
    const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
    const mark = (link) => {
      links.forEach((each) => each.removeAttribute("aria-current"));
      link.setAttribute("aria-current", "true");
      const strip = document.querySelector("nav ol");
      strip.scrollLeft = link.offsetLeft - strip.clientWidth / 3;
    };
    const inView = new Set();
    const reading = (entries) => {
      for (const { isIntersecting, target } of entries) inView[isIntersecting ? "add" : "delete"](target.id);
      const first = [...links.keys()].find((id) => inView.has(id));
      if (first) mark(links.get(first));
    };
    const observer = new IntersectionObserver(reading, { rootMargin: "0px 0px -60% 0px" });
    [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean).forEach((part) => observer.observe(part));
  };

  // What is wider than its place says that there is more.

  const widths = () => {
    const parts = all(".scroll, figure").map((part) => [part, part.scrollWidth > part.clientWidth + 1]);
    parts.forEach(([part, wide]) => part.classList.toggle("wide", wide));
  };

  // In print everything is unfolded.

  const printing = () => {
    let opened = [];
    addEventListener("beforeprint", () => {
      hide();
      opened = all("details:not([open])");
      opened.forEach((each) => { each.open = true; });
    });
    addEventListener("afterprint", () => opened.forEach((each) => { each.open = false; }));
  };

  all("table.sortable").forEach(sortable);
  all("table.sortable").filter((table) => table.querySelector("tbody.row")).forEach((table) => updates.push(folding(table)));
  NAMES.forEach(options);
  form.hidden = false;
  form.addEventListener("change", (event) => {
    state[event.target.name] = event.target.value;
    apply();
    history.replaceState(null, "", fragment(location.hash.slice(1).split("&").find((part) => !part.includes("=")) ?? ""));
  });
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    NAMES.forEach((name) => { state[name] = ""; });
    apply();
    history.replaceState(null, "", fragment(""));
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", read);
  addEventListener("resize", widths);
  document.addEventListener("toggle", widths, true);
  updates.push(widths);
  tooltips();
  contents();
  printing();
  read();
})();
