/** Width of a character at the flame graph's font size, in px. */
const CHARACTER_WIDTH = 7.25;

/** The width, row height and top margin of a flame graph, in px, as drawn without the script. */
export const WIDTH = 1200;
export const ROW = 19;
export const TOP = 84;

/** Shortens a function's name to a box's width in px: without its folder, without its file, or cut. Runs here and in the browser. */
export function shortened(name: string, width: number, characterWidth: number = CHARACTER_WIDTH): string {
  const characters = Math.floor((width - 6) / characterWidth);
  if (characters < 3) return '';
  const last = name.slice(name.lastIndexOf('.') + 1);
  const fitting = [name, name.slice(name.lastIndexOf('/') + 1), last].find(({ length }) => length <= characters);
  return fitting ?? `${last.slice(0, characters - 1)}…`;
}

/**
 * The script of the flame graph in the browser: lays out the boxes for the width of the window, zooms and searches. It moves the
 * header while the page is scrolled: an SVG has no fixed positions.
 */
export const flamegraphScript = `
'use strict';
const CHARACTER_WIDTH = ${CHARACTER_WIDTH};
const shortened = ${shortened.toString()};
const byId = (id) => document.getElementById(id);
const svg = document.documentElement;
const boxes = Array.from(document.querySelectorAll('g[data-x]'), (g) => ({
  g, rect: g.querySelector('rect'), text: g.querySelector('text'), title: g.querySelector('title').textContent,
  name: g.dataset.name, x: Number(g.dataset.x), w: Number(g.dataset.w), d: Number(g.dataset.d),
}));
const all = { x: 0, w: 1, d: 0 };
const isTouched = matchMedia('(pointer: coarse)').matches;
let zoomed = all;

function layout() {
  const row = isTouched ? 28 : ${ROW};
  const width = svg.getBoundingClientRect().width;
  const end = zoomed.x + zoomed.w;
  const top = byId('head').offsetHeight + 4;
  let last = 0;
  for (const { g, rect, text, name, x, w, d } of boxes) {
    const left = (Math.max(x, zoomed.x) - zoomed.x) / zoomed.w * width;
    const right = (Math.min(x + w, end) - zoomed.x) / zoomed.w * width;
    const isHidden = right - left < 0.3;
    g.classList.toggle('hidden', isHidden);
    if (isHidden) continue;
    last = Math.max(last, d);
    rect.setAttribute('x', left);
    rect.setAttribute('width', right - left);
    rect.setAttribute('y', top + d * row);
    rect.setAttribute('height', row - 1);
    g.classList.toggle('outer', d < zoomed.d);
    text.setAttribute('x', left + 4);
    text.setAttribute('y', top + d * row + row / 2 + 4);
    text.textContent = shortened(name, right - left, CHARACTER_WIDTH);
  }
  const height = Math.max(top + (last + 1) * row + 8, innerHeight);
  svg.setAttribute('viewBox', '0 0 ' + width + ' ' + height);
  svg.setAttribute('height', height);
  byId('frame').setAttribute('height', top);
  byId('all').disabled = zoomed === all;
  follow();
}

function follow() {
  byId('frame').setAttribute('y', scrollY);
}

function zoom(to) {
  zoomed = to.d === 0 ? all : to;
  layout();
}

/** Highlights the functions that match. Boxes within a matching box are not counted again. */
function search() {
  const wanted = byId('search').value;
  let pattern;
  try { pattern = new RegExp(wanted, 'i'); } catch (error) { byId('details').textContent = error.message; return; }
  let share = 0, end = 0;
  for (const { g, name, x, w } of boxes) {
    const isFound = wanted !== '' && pattern.test(name);
    g.classList.toggle('found', isFound);
    if (isFound && x >= end - 1e-5) { share += w; end = x + w; }
  }
  byId('details').textContent = wanted === '' ? '' : 'Found: ' + (share * 100).toFixed(2) + ' %';
}

for (const box of boxes) {
  box.g.addEventListener('click', () => { byId('details').textContent = box.title; zoom(box); });
  box.g.addEventListener('mouseenter', () => { byId('details').textContent = box.title; });
}
byId('all').addEventListener('click', () => zoom(all));
byId('search').addEventListener('input', search);
addEventListener('scroll', follow);
addEventListener('resize', layout);
addEventListener('keydown', (event) => {
  if (event.key === 'Escape') zoom(all);
  if (event.key !== 'f' || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  byId('search').focus();
  byId('search').select();
});
if (isTouched) byId('details').textContent = 'Tap a box to see its share and to zoom in.';
layout();
`;
