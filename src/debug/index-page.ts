import type { Variable } from '../config/variable.ts';
import { pagePolicy } from '../http/page-policy.ts';
import { cpuParameters, heapParameters } from './parameters.ts';

interface Endpoint {
  readonly path: string;
  readonly summary: string;
  readonly parameters: Readonly<Record<string, Variable<unknown>>>;
}

const ENDPOINTS: readonly Endpoint[] = [
  {
    path: 'flamegraph',
    summary: 'CPU time by function, as a picture (SVG). Point at a box to see its share, click to zoom, search with <kbd>Ctrl-F</kbd>.',
    parameters: cpuParameters,
  },
  { path: 'profile', summary: 'The same, for <code>go tool pprof</code> and other viewers.', parameters: cpuParameters },
  {
    path: 'heap',
    summary:
      "Memory allocated on V8's heaps during the profile and still in use at its end, by function, for <code>go tool pprof</code>. " +
      'To find a leak, take a long one.',
    parameters: heapParameters,
  },
  { path: 'allocs', summary: 'All memory allocated during the profile, in use or not, by function.', parameters: heapParameters },
  {
    path: 'stats',
    summary: 'Memory now: resident memory, heaps and buffers of each thread, and jemalloc where it is preloaded (JSON).',
    parameters: {},
  },
];

const STYLE = `
:root {
  color-scheme: light dark; --page: #f4f5f8; --card: #fff; --text: #1b2230; --quiet: #5b6576; --line: #dfe3ea; --link: #2463c9;
  font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
}
@media (prefers-color-scheme: dark) {
  :root { --page: #10141a; --card: #1a2029; --text: #e6e9ef; --quiet: #9aa4b5; --line: #2c3440; --link: #7fb0ff; }
}
body { max-width: 50rem; margin: 0 auto; padding: 1.2rem 1rem; }
h1 { font-size: 1.3rem; margin: .3rem 0 1rem; }
h2 { font-size: 1rem; margin: 0; }
p { margin: .3rem 0 0; }
a { color: var(--link); }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; margin-bottom: .8rem; }
dl {
  display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .1rem 1rem;
  margin: .5rem 0 0; font-size: .85rem; color: var(--quiet);
}
dd { margin: 0; }
code, pre, kbd { font: .9em ui-monospace, Menlo, Consolas, monospace; white-space: nowrap; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .5rem 0 0; }
`;

/** The Content-Security-Policy of the page. */
export const indexPolicy = pagePolicy({ style: STYLE });

/** Makes the HTML page /debug/pprof/, with the list of endpoints. */
export function indexPage(): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Profiles</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>
<body>
<h1>Profiles of this collector</h1>
${ENDPOINTS.map(describe).join('\n')}
<section>
<h2>How to read them</h2>
<p>The answer comes when the profile is done, after 10 s by default. Only one profile runs at a time. Closing the connection ends it.</p>
<p>All threads are included: <code>main</code>, the <code>ingest</code> threads (<code>INGEST_THREADS</code>), and the
<code>transcoder</code> threads, which parse large bodies. In pprof they are the label <code>thread</code>
(<code>-tagroot thread</code>). A CPU profile adds up to the CPU time that the kernel counted for the process.</p>
<p><code>(program)</code> and <code>(outside JavaScript)</code> are Node's native code and system calls. <code>(garbage collector)</code> is
the part of garbage collection that runs on the thread itself. Functions without a name are mostly long loops that V8 had compiled before
the profile started.</p>
<pre>go tool pprof -top 'http://127.0.0.1:9090/debug/pprof/profile?seconds=10'
go tool pprof -http : -tagroot thread 'http://127.0.0.1:9090/debug/pprof/allocs?seconds=10'</pre>
</section>
</body>
</html>
`;
}

function describe({ path, summary, parameters }: Endpoint): string {
  const list = Object.entries(parameters).map(
    ([name, { allowed, fallback, help }]) => `<dt><code>${name}</code></dt>\n<dd>${help} ${String(fallback)} by default; ${allowed}.</dd>`,
  );
  const parameterList = list.length > 0 ? `<dl>\n${list.join('\n')}\n</dl>\n` : '';
  return `<section>\n<h2><a href="/debug/pprof/${path}">${path}</a></h2>\n<p>${summary}</p>\n${parameterList}</section>`;
}
