/** Whether several threads can listen on one port, and the kernel spreads the connections (SO_REUSEPORT). */
export function hasReusePort(platform = process.platform): boolean {
  return platform === 'linux';
}
