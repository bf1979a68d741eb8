/** Makes a function that returns the fraction of the time since its last call, 0 to 1, in which this thread's event loop was busy. */
export function loopUtilization(): () => number {
  let last = performance.eventLoopUtilization();
  return () => {
    const before = last;
    last = performance.eventLoopUtilization();
    return performance.eventLoopUtilization(last, before).utilization;
  };
}
