import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { INTERNALS } from '../../src/runtime/internals.ts';
import { run } from '../support/servers/run.ts';

/* What the collector uses of Node and V8 that is not public API is there in the Node that runs this, and can be done without. */

const MODULES = ['reused-reads', 'stop-parsing', 'zstd', 'v8-memory', 'malloc', 'reuse-port'];

/** The fallbacks in use after all modules were loaded, and what is found by use was used. */
async function fallbacks(setting: string): Promise<unknown> {
  const load = MODULES.map((name) => `const { ...${name.replace('-', '_')} } = await import('./src/runtime/${name}.ts');`).join('\n');
  const script = `${load}
    v8_memory.growHeapFreely();
    v8_memory.collectGarbage();
    malloc.trimMalloc();
    const server = (await import('node:net')).createServer();
    await new Promise((done) => server.listen({ port: 0, host: '127.0.0.1', reusePort: true }, done));
    reuse_port.steerConnections(server, [0]);
    server.close();
    const { fallbacksInUse } = await import('./src/runtime/internals.ts');
    console.log(JSON.stringify(fallbacksInUse()));`;
  const { stdout, stderr } = await run(process.execPath, ['--input-type=module', '--eval', script], { NODE_INTERNALS_OFF: setting });
  expect(stderr).toBe('');
  return JSON.parse(stdout);
}

test('this Node has all of them', async () => {
  expect(await fallbacks('')).toEqual([]);
});

test('each can be turned off, and all together', async () => {
  expect(await fallbacks('all')).toEqual(INTERNALS);
  expect(await fallbacks('zstd-reuse, heap-growth')).toEqual(['zstd-reuse', 'heap-growth']);
});

test('this V8 has the flag that lets the heap double', () => {
  expect(execFileSync(process.execPath, ['--v8-options'], { encoding: 'utf8' })).toMatch(/^ +--heap-growing-percent/m);
});
