import type { Variable } from '../config/variable.ts';
import { cpuParameters, heapParameters } from './parameters.ts';

interface Endpoint {
  readonly path: string;
  readonly says: string;
  readonly parameters: Readonly<Record<string, Variable<unknown>>>;
}

const ENDPOINTS: readonly Endpoint[] = [
  { path: 'flamegraph', says: 'Where the processor time goes, as a picture (SVG): point at a function to read its share, click to zoom, search with <kbd>Ctrl-F</kbd>.', parameters: cpuParameters },
  { path: 'profile', says: 'The same for <code>go tool pprof</code> and other viewers.', parameters: cpuParameters },
  { path: 'heap', says: "Who allocates on V8's heaps what is still in use at the end, for <code>go tool pprof</code>. Longer is better for a leak.", parameters: heapParameters },
  { path: 'allocs', says: 'Who allocates, whether it is still in use or not.', parameters: heapParameters },
  { path: 'stats', says: 'Where the memory is now: resident, heaps and buffers by thread, and jemalloc where it is preloaded (JSON).', parameters: {} },
];

/** What is under /debug/pprof/, for a browser. */
export function indexPage(): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Profiles</title>
<link rel="icon" href="data:,">
<base href="/debug/pprof/">
<style>body { font: 16px/1.5 sans-serif; max-width: 46em; margin: 2em auto; padding: 0 1em } dd { margin: 0 0 1em 2em } pre { overflow-x: auto } small { color: #555 }</style>
</head>
<body>
<h1>Profiles of this collector</h1>
<dl>
${ENDPOINTS.map(describe).join('\n')}
</dl>
<p>There can be one profile at a time. It ends early when its connection is closed. Every thread is in it: <code>main</code>, and the
<code>transcoder</code>s, which parse large bodies; pprof has them as the label <code>thread</code> (<code>-tagroot thread</code>).
The sum of a CPU profile is the time that the kernel has counted for the process.
<code>(program)</code> and <code>(outside JavaScript)</code> are Node's own code and system calls, <code>(garbage collector)</code> what
of the collection is done on the thread itself. Functions without a name are mostly long loops that V8 had compiled before the profile began.</p>
<pre>go tool pprof -top 'http://127.0.0.1:9090/debug/pprof/profile?seconds=10'
go tool pprof -http : -tagroot thread 'http://127.0.0.1:9090/debug/pprof/allocs?seconds=10'</pre>
</body>
</html>
`;
}

function describe({ path, says, parameters }: Endpoint): string {
  const lines = Object.entries(parameters).map(([name, { allowed, fallback, help }]) => `<br><small><code>${name}</code>: ${allowed}, ${String(fallback)} by default. ${help}</small>`);
  return `<dt><a href="${path}">${path}</a></dt>\n<dd>${says}${lines.join('')}</dd>`;
}
