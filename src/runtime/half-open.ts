import type { Server } from 'node:http';

/**
 * Lets clients close their sending side before they have the answer, as RFC 9112 allows (9.6). Without it, Node closes such a connection
 * at once: the spans may be stored, and the sender does not know. Node has this as an undocumented property of its servers.
 * If Node drops it, test/unit/half-open.test.ts fails.
 */
export function allowHalfOpen(server: Server): void {
  (server as Server & { httpAllowHalfOpen?: boolean }).httpAllowHalfOpen = true;
}
