// The page: counts, filters, what is where, and the address of a cell.

const byId = (id) => document.getElementById(id);
const counts = new Map(GRAVEST.map((verdict) => [verdict, 0]));
for (const cell of cells) counts.set(cell.verdict, counts.get(cell.verdict) + 1);

function buildBar() {
  const order = [...GRAVEST].reverse();
  for (const verdict of order) {
    if (!counts.get(verdict)) continue;
    const part = element("span", { class: "b-" + verdict.toLowerCase() });
    part.style.flexGrow = counts.get(verdict);
    byId("bar").append(part);
  }
  if (data.not_run.length) {
    const part = element("span", { class: "b-not-run" });
    part.style.flexGrow = data.not_run.length;
    byId("bar").append(part);
  }
}

function buildChips() {
  for (const verdict of data.verdicts) {
    if (!counts.get(verdict)) continue;
    const chip = element("button", { type: "button", class: "chip", "aria-pressed": "false" },
      badge(verdict), element("b", {}, counts.get(verdict).toLocaleString("en")));
    chip.addEventListener("click", () => {
      if (!filter.verdicts.delete(verdict)) filter.verdicts.add(verdict);
      chip.setAttribute("aria-pressed", String(filter.verdicts.has(verdict)));
      update();
    });
    byId("chips").append(chip);
  }
  if (data.not_run.length)
    byId("chips").append(element("span", { class: "chip" }, badge("NOT RUN"),
      element("b", {}, data.not_run.length.toLocaleString("en"))));
}

function buildAxes() {
  for (const axis of axes) {
    if (!places.has(axis)) continue;
    const select = element("select", { "aria-label": "Where " + axis.name + " is shown" });
    for (const place of ["rows", "columns", "folded"])
      select.append(element("option", { value: place, selected: places.get(axis) === place }, place));
    select.addEventListener("change", () => {
      places.set(axis, select.value);
      buildGrid();
    });
    byId("axes").append(element("label", {}, element("span", {}, axis.name), select));
  }
}

// Cells that did not pass, together where they have one reason.
function buildReasons() {
  const groups = new Map();
  for (const cell of cells) {
    if (!matches(cell)) continue;
    const key = cell.verdict + "\n" + cell.reason;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(cell);
  }
  const boxes = [...groups.values()]
    .sort((a, b) => gravity(a[0]) - gravity(b[0]) || b.length - a.length || a[0].index - b[0].index)
    .map(reasonBox);
  if (data.not_run.length) boxes.push(notRunBox());
  byId("reasons").replaceChildren(...boxes);
  if (!boxes.length) byId("reasons").append(element("p", { class: "none" }, "No cell matches."));
}

const FIRST_CELLS = 8;

function reasonBox(group) {
  const list = element("ul", { class: "cells" });
  const add = (some) => some.forEach((cell) => list.append(element("li", {}, cellLink(cell))));
  const quiet = group[0].verdict === "PASS";
  add(quiet ? [] : group.slice(0, FIRST_CELLS));
  const rest = group.slice(quiet ? 0 : FIRST_CELLS);
  if (rest.length) {
    const more = element("button", { type: "button", class: "quiet", onclick: () => {
      more.parentElement.remove();
      add(rest);
    } }, quiet ? "show " + plural(rest.length, "cell") : "and " + rest.length + " more");
    list.append(element("li", {}, more));
  }
  return element("section", { class: "group" },
    element("h2", {}, badge(group[0].verdict), element("span", {}, group[0].reason || "ended as expected"),
      element("small", {}, plural(group.length, "cell"))), list);
}

function notRunBox() {
  const list = element("ul", { class: "cells" });
  for (const id of data.not_run.slice(0, 500)) list.append(element("li", {}, id));
  if (data.not_run.length > 500)
    list.append(element("li", {}, "and " + (data.not_run.length - 500) + " more"));
  return element("section", { class: "group" }, element("h2", {}, badge("NOT RUN"),
    element("span", {}, "the run was interrupted"), element("small", {}, plural(data.not_run.length, "cell"))), list);
}

function show(view) {
  byId("grid").hidden = view !== "grid";
  byId("reasons").hidden = view !== "reasons";
  byId("view-grid").setAttribute("aria-pressed", String(view === "grid"));
  byId("view-reasons").setAttribute("aria-pressed", String(view === "reasons"));
  byId("axes").classList.toggle("off", view !== "grid");
  if (view === "grid") keepSides();
}

function update() {
  const shown = cells.filter(matches).length;
  const all = shown === cells.length;
  byId("shown").textContent = all ? "" : plural(shown, "cell") + " of " + cells.length;
  buildGrid();
  buildReasons();
}

function openFromAddress() {
  const match = /^#cell=([0-9]{1,9})$/.exec(location.hash);
  const cell = match && cells[Number(match[1]) - 1];
  if (cell && cell !== panel.cell) openCell(cell, [cell]);
}

function pageKey(event) {
  const typing = event.target === byId("filter") || event.target.tagName === "SELECT";
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    byId("filter").focus();
    byId("filter").select();
  } else if (event.key === "Escape") {
    if (panel.cell) closeCell();
    else if (typing) event.target.blur();
  }
}

let waiting = 0;
byId("filter").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    filter.words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    update();
  }, 120);
});
byId("view-grid").addEventListener("click", () => show("grid"));
byId("view-reasons").addEventListener("click", () => show("reasons"));
document.addEventListener("keydown", pageKey);
window.addEventListener("hashchange", openFromAddress);

byId("app").hidden = false;
buildBar();
buildChips();
buildAxes();
update();
show("grid");
document.body.classList.add("scripted");
openFromAddress();
