/** Makes the function that returns which part of the time since its last call this thread's event loop was busy: 0 to 1. */
export function loopUtilization(): () => number {
  let last = performance.eventLoopUtilization();
  return () => {
    const before = last;
    last = performance.eventLoopUtilization();
    return performance.eventLoopUtilization(last, before).utilization;
  };
}
