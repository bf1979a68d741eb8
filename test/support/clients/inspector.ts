import { setTimeout as delay } from 'node:timers/promises';

/** A thread of a process that was started with `--inspect`. */
export interface InspectedThread {
  readonly title: string;
  /** Runs JavaScript in the thread, without waiting for the result. */
  run(expression: string): void;
}

/** A connection to the debugger of a process (Chrome DevTools Protocol), with which a test can cause faults in its threads. */
export interface Inspector extends Disposable {
  /** The worker threads that run now. */
  readonly threads: readonly InspectedThread[];
}

interface Attached {
  readonly method?: string;
  readonly params?: { readonly sessionId: string; readonly workerInfo: { readonly title: string } };
}

/** Connects to the debugger. @param port of `--inspect` @throws Error when it does not answer within 5 s */
export async function inspect(port: number): Promise<Inspector> {
  const socket = new WebSocket(await debuggerUrl(port));
  const threads = new Map<string, InspectedThread>();
  let last = 0;
  const post = (method: string, params: object) => socket.send(JSON.stringify({ id: ++last, method, params }));
  socket.addEventListener('message', ({ data }) => {
    const { method, params } = JSON.parse(String(data)) as Attached;
    if (params === undefined) return;
    const { sessionId, workerInfo } = params;
    if (method === 'NodeWorker.detachedFromWorker') threads.delete(sessionId);
    if (method !== 'NodeWorker.attachedToWorker') return;
    const run = (expression: string) => {
      const message = JSON.stringify({ id: ++last, method: 'Runtime.evaluate', params: { expression } });
      post('NodeWorker.sendMessageToWorker', { sessionId, message });
    };
    threads.set(sessionId, { title: workerInfo.title, run });
  });
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
