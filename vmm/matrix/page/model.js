"use strict";
// The run's data, decoded, and what is asked of it. The format is page_data.h's.

const data = JSON.parse(document.getElementById("data").textContent);

// The gravest first.
const GRAVEST = ["FAIL", "CRASH", "TIMEOUT", "XPASS", "INFRA", "FLAKY", "XFAIL", "SKIP", "PASS"];

const string = (index) => data.strings[index || 0];
const strings = (indices) => (indices || []).map(string);

function decodeAttempt(a) {
  const own = a[8];
  return {
    verdict: data.verdicts[a[0]],
    reason: string(a[1]),
    kind: string(a[2]),
    code: a[3],
    rule: string(a[4]),
    phase: string(a[5]),
    seconds: a[6],
    directory: a[7],
    results: own && {
      passed: own[0], failed: own[1], skipped: own[2], expected: own[3],
      problem: string(own[4]), failures: strings(own[5]),
    },
  };
}

const cells = data.cells.map((c, index) => ({
  index,
  id: c.id,
  verdict: data.verdicts[c.v],
  reason: string(c.r),
  values: c.x,
  expected: string(c.e),
  link: string(c.l),
  model: string(c.m[0]),
  modelDigest: string(c.m[1]),
  guestDigest: string(c.m[2]),
  missing: strings(c.b),
  host: string(c.h),
  command: strings(c.c).join(" "),
  groups: strings(c.g),
  started: c.t,
  seconds: c.s,
  attempts: c.a.map(decodeAttempt),
  files: c.f === undefined ? null : data.files[c.f],
}));

for (const cell of cells)
  cell.haystack = [cell.id, cell.reason, cell.verdict, cell.model, ...cell.missing, ...cell.groups]
    .join("\n").toLowerCase();

const gravity = (cell) => GRAVEST.indexOf(cell.verdict);
const gravest = (list) => list.reduce((a, b) => (gravity(b) < gravity(a) ? b : a));

// An axis: its values in the order in which the matrix has them, each with its rank.
const axes = data.axes.map((name, index) => {
  const ranks = new Map();
  for (const cell of cells)
    if (!ranks.has(cell.values[index])) ranks.set(cell.values[index], ranks.size);
  // Of a column, "2" says nothing and "smp 2" does; rows have the name above them.
  const bare = [...ranks.keys()].some((value) => /^([0-9].*|)$/.test(value < 0 ? "" : string(value)));
  return { name, index, ranks, bare };
});

function valueText(value) {
  if (value < 0) return "\u2013";
  return string(value) === "" ? "none" : string(value);
}

// Who the reader sees: cells that match the words and, where some were chosen, the verdicts.
const filter = { words: [], verdicts: new Set() };

function matches(cell) {
  if (filter.verdicts.size && !filter.verdicts.has(cell.verdict)) return false;
  return filter.words.every((word) => cell.haystack.includes(word));
}

// Which axes make the rows and which the columns. To begin with, columns are as many as fit on a
// screen; the axes with the reader's question, CPUs and hosts, come first.
const COLUMNS_FIRST = ["cpu-model", "on", "kvm-param", "cpu-policy", "irqchip", "smp", "mem", "boot"];
const MOST_COLUMNS = 12;

function defaultPlaces() {
  const rank = (axis) => {
    const place = COLUMNS_FIRST.indexOf(axis.name);
    return place < 0 ? COLUMNS_FIRST.length : place;
  };
  const open = axes.filter((axis) => axis.ranks.size > 1);
  const columns = new Set();
  let product = 1;
  for (const axis of [...open].sort((a, b) => rank(a) - rank(b) || a.index - b.index)) {
    if (axis.name === "guest" && open.length > 1) continue;
    if (open.length === 1 || product * axis.ranks.size > MOST_COLUMNS) continue;
    product *= axis.ranks.size;
    columns.add(axis);
  }
  const others = open.filter((axis) => axis.name !== "guest");
  if (!columns.size && open.length > 1)
    columns.add(others.reduce((a, b) => (b.ranks.size < a.ranks.size ? b : a)));
  // One row is no grid: the hosts stand at its left then, or the last axis where there is one host.
  if (columns.size === open.length && open.length > 1) {
    const hosts = open.filter((axis) => axis.name === "on" || axis.name === "kvm-param");
    const left = hosts.length > 0 && hosts.length < open.length ? hosts : open.slice(-1);
    for (const axis of left) columns.delete(axis);
  }
  return new Map(open.map((axis) => [axis, columns.has(axis) ? "columns" : "rows"]));
}

const places = defaultPlaces();
const placed = (place) => axes.filter((axis) => places.get(axis) === place);

// Lines of the grid: cells with the same values of these axes, in the axes' order.
function linesOf(list, lineAxes) {
  const lines = new Map();
  for (const cell of list) {
    const values = lineAxes.map((axis) => cell.values[axis.index]);
    const key = values.join();
    if (!lines.has(key)) lines.set(key, { key, values });
  }
  const rank = (line, i) => lineAxes[i].ranks.get(line.values[i]);
  return [...lines.values()].sort((a, b) => {
    for (let i = 0; i < lineAxes.length; ++i)
      if (rank(a, i) !== rank(b, i)) return rank(a, i) - rank(b, i);
    return 0;
  });
}

const lineKey = (cell, lineAxes) => lineAxes.map((axis) => cell.values[axis.index]).join();

function duration(seconds) {
  if (seconds < 9.95) return seconds.toFixed(1) + " s";
  if (seconds < 59.5) return Math.round(seconds) + " s";
  const whole = Math.round(seconds);
  if (whole < 3600) return Math.floor(whole / 60) + " min " + (whole % 60) + " s";
  return Math.floor(whole / 3600) + " h " + (Math.floor(whole / 60) % 60) + " min";
}

function size(bytes) {
  if (bytes < 1024) return bytes + " bytes";
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let value = bytes, unit = -1;
  while (value >= 1024 && unit < 3) value /= 1024, ++unit;
  return value.toFixed(value < 10 ? 1 : 0) + " " + units[unit];
}

const plural = (count, noun) => count + " " + noun + (count === 1 ? "" : "s");

// Elements are only ever made here, and text only ever becomes text.
function element(tag, properties, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const badge = (verdict) =>
  element("span", { class: "v v-" + verdict.toLowerCase().replace(" ", "-") }, verdict);
