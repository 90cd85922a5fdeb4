// The grid: rows and columns of cells, and how the keyboard moves in it.

const grid = { element: document.getElementById("grid"), buttons: [], at: null };

function headerRows(columns, columnAxes, rowAxes) {
  const rows = [];
  const depth = Math.max(columnAxes.length, 1);
  for (let level = 0; level < depth; ++level) {
    const row = element("tr");
    if (level === depth - 1)
      rowAxes.forEach((axis, at) => row.append(
        element("th", { scope: "col", class: "axis side" + (at ? "" : " outer"), "data-level": at }, axis.name)));
    else if (rowAxes.length)
      row.append(element("td", { colspan: rowAxes.length, class: "corner" }));
    if (!columnAxes.length) {
      row.append(element("th", { scope: "col" }, "verdict"), element("th", { scope: "col", class: "why" }, "reason"));
    } else {
      for (let i = 0; i < columns.length;) {
        let span = 1;
        while (i + span < columns.length && samePrefix(columns[i], columns[i + span], level)) ++span;
        row.append(element("th", {
          scope: span > 1 ? "colgroup" : "col", colspan: span,
          class: beginsGroup(columns, i) ? "first" : null, title: columnAxes[level].name,
        }, (columnAxes[level].bare ? columnAxes[level].name + " " : "") + valueText(columns[i].values[level])));
        i += span;
      }
    }
    rows.push(row);
  }
  return rows;
}

function samePrefix(a, b, level) {
  for (let i = 0; i <= level; ++i) if (a.values[i] !== b.values[i]) return false;
  return true;
}

// A line between what differs in the outermost axis, where there are several.
const beginsGroup = (lines, i) =>
  i > 0 && lines[i].values.length > 1 && lines[i].values[0] !== lines[i - 1].values[0];

function cellButton(list, row, column) {
  const shown = list.filter(matches);
  const cell = gravest(shown.length ? shown : list);
  const button = element("button", {
    type: "button", tabindex: "-1",
    class: "v v-" + cell.verdict.toLowerCase() + (shown.length ? "" : " dim"),
    title: cell.reason || null,
    "aria-label": cell.id + ": " + cell.verdict + (cell.reason ? ", " + cell.reason : ""),
    onclick: () => openCell(cell, list),
    onfocus: () => moveTo(row, column, false),
  }, cell.verdict);
  if (list.length > 1) button.append(element("small", {}, "of " + list.length));
  button.cells = list;
  return button;
}

function buildGrid() {
  const rowAxes = placed("rows"), columnAxes = placed("columns");
  const shown = cells.filter(matches);
  const rows = linesOf(shown, rowAxes), columns = linesOf(shown, columnAxes);
  const byPlace = new Map();
  const rowKeys = new Set(rows.map((row) => row.key));
  for (const cell of cells) {
    const rowKey = lineKey(cell, rowAxes);
    if (!rowKeys.has(rowKey)) continue;
    const key = rowKey + "/" + lineKey(cell, columnAxes);
    if (!byPlace.has(key)) byPlace.set(key, []);
    byPlace.get(key).push(cell);
  }
  const body = element("tbody");
  grid.buttons = rows.map((row, y) => {
    const line = element("tr", { class: beginsGroup(rows, y) ? "first" : null });
    rowAxes.forEach((axis, level) => {
      if (y > 0 && samePrefix(rows[y - 1], row, level)) return;
      let span = 1;
      while (y + span < rows.length && samePrefix(row, rows[y + span], level)) ++span;
      line.append(element("th", {
        scope: span > 1 ? "rowgroup" : "row", rowspan: span, title: axis.name,
        class: "side" + (level ? "" : " outer"), "data-level": level,
      }, valueText(row.values[level])));
    });
    const buttons = columns.map((column, x) => {
      const list = byPlace.get(row.key + "/" + column.key);
      const button = list ? cellButton(list, y, x) : null;
      line.append(element("td", { class: beginsGroup(columns, x) ? "first" : null }, button));
      return button;
    });
    // With a single column there is room to say why.
    if (!columnAxes.length) {
      const list = byPlace.get(row.key + "/");
      line.append(element("td", { class: "why" }, gravest(list.filter(matches)).reason));
    }
    body.append(line);
    return buttons;
  });
  const table = element("table", {}, element("thead", {}, ...headerRows(columns, columnAxes, rowAxes)), body);
  grid.element.replaceChildren(shown.length ? table : element("p", { class: "none" }, "No cell matches."));
  keepSides();
  grid.at = null;
  const first = firstButton();
  if (first) moveTo(first.row, first.column, false);
  markOpen();
}

// Names of rows stay in sight when the columns are scrolled, each beside the one before it.
function keepSides() {
  const lefts = [];
  let left = 0;
  for (const name of grid.element.querySelectorAll("th.axis")) {
    lefts.push(left + "px");
    left += name.getBoundingClientRect().width;
  }
  for (const side of grid.element.querySelectorAll("th.side")) side.style.left = lefts[side.dataset.level];
}

function firstButton() {
  for (let row = 0; row < grid.buttons.length; ++row)
    for (let column = 0; column < grid.buttons[row].length; ++column)
      if (grid.buttons[row][column]) return { row, column };
  return null;
}

const buttonAt = (place) => place && grid.buttons[place.row] && grid.buttons[place.row][place.column];

// One button of the grid takes part in the order of the Tab key.
function moveTo(row, column, focus) {
  const old = buttonAt(grid.at);
  if (old) old.tabIndex = -1;
  grid.at = { row, column };
  const button = buttonAt(grid.at);
  button.tabIndex = 0;
  if (focus) {
    button.focus({ preventScroll: true });
    button.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
}

const STEPS = {
  ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -1], End: [0, 1],
};

function gridKey(event) {
  const step = STEPS[event.key];
  if (!step || !grid.at || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const far = event.key === "Home" || event.key === "End";
  let { row, column } = grid.at, found = null;
  while (grid.buttons[row + step[0]] && column + step[1] >= 0 &&
         column + step[1] < grid.buttons[row].length) {
    row += step[0];
    column += step[1];
    if (!buttonAt({ row, column })) continue;
    found = { row, column };
    if (!far) break;
  }
  if (found) moveTo(found.row, found.column, true);
}

// Where a cell stands; nothing when the filter hides it.
function placeOf(cell) {
  for (let row = 0; row < grid.buttons.length; ++row)
    for (let column = 0; column < grid.buttons[row].length; ++column)
      if (grid.buttons[row][column] && grid.buttons[row][column].cells.includes(cell)) return { row, column };
  return null;
}

function markOpen() {
  for (const old of grid.element.querySelectorAll("[aria-current]")) old.removeAttribute("aria-current");
  const button = panel.cell && buttonAt(placeOf(panel.cell));
  if (button) button.setAttribute("aria-current", "true");
}

grid.element.addEventListener("keydown", gridKey);
