import { setTimeout as delay } from 'node:timers/promises';

/** A thread of a process that was started with `--inspect`. */
export interface InspectedThread {
  readonly title: string;
  /** Runs JavaScript in the thread, without waiting for the result. */
  run(expression: string): void;
  /** The value of JavaScript that is run in it. */
  valueOf(expression: string): Promise<unknown>;
}

/** A connection to the debugger of a process (Chrome DevTools Protocol), with which a test can cause faults in its threads. */
export interface Inspector extends Disposable {
  /** The threads that run now: `main`, and the worker threads. */
  readonly threads: readonly InspectedThread[];
}

interface Message {
  readonly id?: number;
  readonly result?: Evaluated;
  readonly method?: string;
  readonly params?: { readonly sessionId: string; readonly workerInfo: { readonly title: string }; readonly message: string };
}

interface Evaluated {
  readonly result?: { readonly value: unknown };
}

/** Connects to the debugger. @param port of `--inspect` @throws Error when it does not answer within 5 s */
export async function inspect(port: number): Promise<Inspector> {
  const socket = new WebSocket(await debuggerUrl(port));
  const threads = new Map<string, InspectedThread>();
  const waiting = new Map<number, (value: unknown) => void>();
  let last = 0;
  const post = (method: string, params: object): number => {
    socket.send(JSON.stringify({ id: ++last, method, params }));
    return last;
  };
  const answer = (id: number, evaluated?: Evaluated) => {
    waiting.get(id)?.(evaluated?.result?.value);
    waiting.delete(id);
  };
  const threadOf = (title: string, run: (expression: string) => number): InspectedThread => ({
    title,
    run,
    valueOf: (expression) => new Promise((resolve) => waiting.set(run(expression), resolve)),
  });
  socket.addEventListener('message', ({ data }) => {
    const { method, params, id: answered, result: ofMain } = JSON.parse(String(data)) as Message;
    if (answered !== undefined) answer(answered, ofMain);
    if (params === undefined) return;
    const { sessionId, workerInfo } = params;
    if (method === 'NodeWorker.receivedMessageFromWorker') {
      const { id, result } = JSON.parse(params.message) as { id: number; result?: Evaluated };
      answer(id, result);
    }
    if (method === 'NodeWorker.detachedFromWorker') threads.delete(sessionId);
    if (method !== 'NodeWorker.attachedToWorker') return;
    const run = (expression: string): number => {
      const id = ++last;
      const message = JSON.stringify({ id, method: 'Runtime.evaluate', params: { expression } });
      post('NodeWorker.sendMessageToWorker', { sessionId, message });
      return id;
    };
    threads.set(sessionId, threadOf(workerInfo.title, run));
  });
  threads.set(
    'main',
    threadOf('main', (expression) => post('Runtime.evaluate', { expression })),
  );
  await new Promise((resolve, reject) => {
    socket.addEventListener('open', resolve, { once: true });
    socket.addEventListener('error', reject, { once: true });
  });
  post('NodeWorker.enable', { waitForDebuggerOnStart: false });
  return {
    get threads() {
      return [...threads.values()];
    },
    [Symbol.dispose]: () => socket.close(),
  };
}

async function debuggerUrl(port: number): Promise<string> {
  for (let attempt = 0; ; attempt++) {
    try {
      const [{ webSocketDebuggerUrl }] = (await (await fetch(`http://127.0.0.1:${port}/json/list`)).json()) as {
        webSocketDebuggerUrl: string;
      }[];
      return webSocketDebuggerUrl;
    } catch (error) {
      if (attempt === 100) throw error;
      await delay(50);
    }
  }
}
