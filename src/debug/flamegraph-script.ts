/** What runs in the browser: shows, zooms and searches the boxes of a flame graph. Lengths are in the SVG's units. */
export function flamegraphScript({ width, letter }: { width: number; letter: number }): string {
  return `
const WIDTH = ${width}, LETTER = ${letter};
const details = document.getElementById('details');
const boxes = Array.from(document.querySelectorAll('g[data-x]'), (g) => ({
  g, rect: g.querySelector('rect'), text: g.querySelector('text'), title: g.querySelector('title').textContent,
  name: g.dataset.name, x: Number(g.dataset.x), w: Number(g.dataset.w), d: Number(g.dataset.d),
}));

function zoom(to) {
  const end = to.x + to.w;
  for (const box of boxes) {
    const left = Math.max(box.x, to.x), right = Math.min(box.x + box.w, end);
    const width = (right - left) / to.w * WIDTH;
    box.g.classList.toggle('hidden', width < 0.1);
    if (width < 0.1) continue;
    const x = (left - to.x) / to.w * WIDTH;
    box.rect.setAttribute('x', x);
    box.rect.setAttribute('width', width);
    box.rect.setAttribute('opacity', box.d < to.d ? 0.5 : 1);
    box.text.setAttribute('x', x + 3);
    const letters = Math.floor((width - 6) / LETTER);
    box.text.textContent = letters < 3 ? '' : box.name.length <= letters ? box.name : box.name.slice(0, letters - 1) + '…';
  }
}

/** Boxes within boxes that are found count once. */
function search() {
  const wanted = prompt('Search the names of functions (a regular expression)', '');
  if (wanted === null) return;
  let pattern;
  try { pattern = new RegExp(wanted, 'i'); } catch (error) { details.textContent = error.message; return; }
  let share = 0, end = 0;
  for (const box of boxes) {
    const found = wanted !== '' && pattern.test(box.name);
    box.g.classList.toggle('found', found);
    if (found && box.x >= end - 1e-5) { share += box.w; end = box.x + box.w; }
  }
  details.textContent = wanted === '' ? '' : 'Found: ' + (share * 100).toFixed(2) + ' %';
}

for (const box of boxes) {
  box.g.addEventListener('click', () => zoom(box));
  box.g.addEventListener('mouseenter', () => { details.textContent = box.title; });
}
document.getElementById('all').addEventListener('click', () => zoom(boxes[0]));
document.getElementById('search').addEventListener('click', search);
addEventListener('keydown', (event) => {
  if (event.key !== 'f' || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  search();
});
`;
}
