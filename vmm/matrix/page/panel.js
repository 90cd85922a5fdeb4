// The panel: all that is known of one cell.

const panel = { element: document.getElementById("panel"), cell: null, beside: [] };

const section = (title, ...children) =>
  element("section", {}, element("h3", {}, title), ...children);
const code = (text) => element("code", {}, text);

function facts(pairs) {
  const list = element("dl");
  for (const [name, value] of pairs)
    if (value !== "" && value !== null && value !== undefined)
      list.append(element("dt", {}, name), element("dd", {}, value));
  return list.childElementCount ? list : null;
}

// Only the web is linked to: a "javascript:" in a matrix stays text.
function link(address) {
  if (!/^https?:\/\/[^\s]+$/i.test(address)) return address ? element("span", {}, address) : null;
  return element("a", { href: address, rel: "noopener noreferrer", target: "_blank" }, address);
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages from a file have no clipboard in some browsers.
    const area = element("textarea", { class: "sr" });
    area.value = text;
    panel.element.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

function commandBox(command) {
  const button = element("button", { type: "button", class: "quiet", onclick: () => copy(command, button) }, "Copy");
  return element("div", { class: "command" }, element("pre", {}, command), button);
}

function digest(value) {
  return value ? element("code", { class: "digest", title: value }, value) : "";
}

function ownResults(results) {
  const parts = [["passed", results.passed], ["failed", results.failed],
                 ["failed as expected", results.expected], ["skipped", results.skipped]]
    .filter(([, count]) => count).map(([name, count]) => count + " " + name);
  const box = section("The guest's own results",
    element("p", {}, [parts.join(", "), results.problem].filter(Boolean).join(": ")));
  if (results.failures.length) {
    const list = element("ul", { class: "names" });
    for (const name of results.failures) list.append(element("li", {}, name));
    const more = results.failed - results.failures.length;
    if (more > 0) list.append(element("li", { class: "more" }, "and " + more + " more"));
    box.append(list);
  }
  return box;
}

function attemptsTable(attempts) {
  const table = element("table", { class: "attempts" }, element("thead", {}, element("tr", {},
    ...["", "ending", "exit code", "time", "files"].map((name) => element("th", { scope: "col" }, name)))));
  const body = element("tbody");
  for (const attempt of attempts) {
    const ending = [attempt.kind, attempt.rule && attempt.rule !== attempt.kind ? attempt.rule : "",
                    attempt.phase ? "in " + attempt.phase : ""].filter(Boolean).join(", ");
    body.append(element("tr", {},
      element("td", {}, badge(attempt.verdict)),
      element("td", {}, ending || "\u2013", attempt.reason && attempts.length > 1
        ? element("div", { class: "why" }, attempt.reason) : null),
      element("td", { class: "number" }, String(attempt.code)),
      element("td", { class: "number" }, duration(attempt.seconds)),
      element("td", {}, attempt.directory ? code(attempt.directory) : "\u2013")));
  }
  table.append(body);
  return section(attempts.length > 1 ? plural(attempts.length, "attempt") : "How it ended",
    element("div", { class: "wide" }, table));
}

function logBox(title, log, path) {
  const note = log.cut ? "the end of " + size(log.size) + ", all of it in " : size(log.size) + " in ";
  return section(title, element("p", { class: "note" }, note, code(path)),
    element("pre", { class: "log tail", tabindex: "0" }, log.text));
}

function filesOf(files) {
  const path = (name) => files.directory + "/" + name;
  const boxes = [];
  if (files.card) boxes.push(section("Crash card", element("pre", { class: "log card", tabindex: "0" }, files.card.join("\n"))));
  if (files.serial) boxes.push(logBox("Serial console", files.serial, path("serial.log")));
  if (files.screen)
    boxes.push(section("Screen", element("img", {
      src: "data:image/png;base64," + files.screen, alt: "The screen when the guest ended", class: "screen",
    })));
  if (files.screen_text)
    boxes.push(section("Screen", element("pre", { class: "log", tabindex: "0" }, files.screen_text.join("\n"))));
  if (files.report) boxes.push(logBox("What vmm said", files.report, path("report.txt")));
  for (const left of files.left_out || [])
    boxes.push(element("p", { class: "note" }, left.file + " (" + size(left.size) + ") has no room on this page: ",
      code(path(left.file))));
  return boxes;
}

function besideBox(cell) {
  const others = panel.beside.filter((other) => other !== cell);
  if (!others.length) return null;
  const list = element("ul", { class: "cells" });
  for (const other of others.slice(0, 100)) list.append(element("li", {}, cellLink(other)));
  return section("In the same place of the grid", list);
}

function cellLink(cell) {
  const space = (cell.id + " ").indexOf(" ");
  return element("button", { type: "button", class: "cell-link", onclick: () => openCell(cell, [cell]) },
    badge(cell.verdict), " ", cell.id.slice(0, space), element("span", { class: "rest" }, cell.id.slice(space)));
}

function panelContent(cell) {
  const close = element("button", { type: "button", class: "quiet close", "aria-label": "Close", onclick: closeCell }, "\u00d7");
  const step = (by, label, sign) => element("button",
    { type: "button", class: "quiet", "aria-label": label, title: label, onclick: () => stepCell(by) }, sign);
  const chips = element("p", { class: "values" });
  axes.forEach((axis, i) => {
    if (cell.values[i] >= 0 && axis.name !== "guest")
      chips.append(element("span", { class: "value" }, element("span", { class: "name" }, axis.name),
        " " + valueText(cell.values[i])));
  });
  const guest = data.axes.indexOf("guest");
  const last = cell.attempts[cell.attempts.length - 1];
  const missing = cell.missing.length
    ? element("span", { class: "bits" }, ...cell.missing.map(code)) : "";
  const dates = cell.started ? new Date(cell.started * 1000).toISOString().slice(0, 19).replace("T", " ") + " UTC" : "";
  return [
    element("div", { class: "head" }, badge(cell.verdict),
      element("span", { class: "number" }, duration(cell.seconds)), element("span", { class: "gap" }),
      step(-1, "Previous cell", "\u2191"), step(1, "Next cell", "\u2193"), close),
    element("h2", { id: "panel-title", tabindex: "-1" }, guest < 0 ? cell.id : valueText(cell.values[guest])),
    chips.childElementCount ? chips : null,
    cell.reason ? element("p", { class: "reason" }, cell.reason) : null,
    facts([["expected", cell.expected], ["see", link(cell.link)], ["missing here", missing]]),
    cell.command ? section("To repeat it", commandBox(cell.command)) : null,
    last.results ? ownResults(last.results) : null,
    ...(cell.files ? filesOf(cell.files) : []),
    attemptsTable(cell.attempts),
    section("Where", facts([
      ["cell", code(cell.id)], ["CPU", cell.model ? code(cell.model) : ""], ["model digest", digest(cell.modelDigest)],
      ["guest digest", digest(cell.guestDigest)], ["host", cell.host],
      ["groups", cell.groups.join(", ")], ["started", dates],
    ])),
    besideBox(cell),
  ];
}

function openCell(cell, beside) {
  panel.cell = cell;
  panel.beside = beside || [cell];
  panel.element.replaceChildren(...panelContent(cell).filter(Boolean));
  panel.element.hidden = false;
  panel.element.scrollTop = 0;
  for (const end of panel.element.querySelectorAll(".tail")) end.scrollTop = end.scrollHeight;
  document.body.classList.add("has-panel");
  history.replaceState(null, "", "#cell=" + (cell.index + 1));
  markOpen();
  const button = buttonAt(placeOf(cell));
  if (button && !grid.element.hidden) button.scrollIntoView({ block: "nearest", inline: "nearest" });
  document.getElementById("panel-title").focus({ preventScroll: true });
}

function closeCell() {
  const cell = panel.cell;
  if (!cell) return;
  panel.cell = null;
  panel.element.hidden = true;
  document.body.classList.remove("has-panel");
  history.replaceState(null, "", location.pathname + location.search);
  markOpen();
  const place = placeOf(cell);
  if (place && !grid.element.hidden) moveTo(place.row, place.column, true);
}

// The cell before or after this one, of those that are shown.
function stepCell(by) {
  const shown = cells.filter((cell) => matches(cell) || cell === panel.cell);
  const next = shown[shown.indexOf(panel.cell) + by];
  if (next) openCell(next, [next]);
}
