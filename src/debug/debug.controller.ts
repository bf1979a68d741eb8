import { Controller, Get, Header, Query, UseGuards } from '@nestjs/common';
import { RouteConstraints } from '@nestjs/platform-fastify';
import { flamegraph, flamegraphPolicy } from './flamegraph.ts';
import { Gone } from './gone.ts';
import { indexPage, indexPolicy } from './index-page.ts';
import { memoryStats, type MemoryStats } from './memory-stats.ts';
import { cpuParameters, type CpuParameters, heapParameters, type HeapParameters, ParametersPipe } from './parameters.ts';
import { encodePprof } from './pprof.ts';
import { Profiler } from './profiler.service.ts';
import { ProfilingGuard } from './profiling.guard.ts';

/** Profiles of the running collector on demand, under the paths of Go's net/http/pprof. */
@Controller('/debug/pprof')
@UseGuards(ProfilingGuard)
export class DebugController {
  constructor(private readonly profiler: Profiler) {}

  /** The list of endpoints. Nest removes the last slash of a path: '//' makes the path with a slash match. */
  @Get(['/', '//'])
  @RouteConstraints({ port: 'admin' })
  @Header('content-type', 'text/html; charset=utf-8')
  @Header('content-security-policy', indexPolicy)
  @Header('x-content-type-options', 'nosniff')
  index(): string {
    return indexPage();
  }

  /** CPU time by function, for `go tool pprof`. */
  @Get('profile')
  @RouteConstraints({ port: 'admin' })
  @Header('content-disposition', 'attachment; filename="cpu.pb.gz"')
  async profile(
    @Query(new ParametersPipe(cpuParameters)) { seconds, frequency }: CpuParameters,
    @Gone() gone: AbortSignal,
  ): Promise<Buffer> {
    return encodePprof(await this.profiler.cpu(seconds, frequency, gone));
  }

  /** CPU time by function, as a flame graph for the browser. */
  @Get('flamegraph')
  @RouteConstraints({ port: 'admin' })
  @Header('content-type', 'image/svg+xml')
  @Header('content-security-policy', flamegraphPolicy)
  @Header('x-content-type-options', 'nosniff')
  async flamegraph(
    @Query(new ParametersPipe(cpuParameters)) { seconds, frequency }: CpuParameters,
    @Gone() gone: AbortSignal,
  ): Promise<string> {
    return flamegraph(await this.profiler.cpu(seconds, frequency, gone));
  }

  /** Memory allocated during the profile and still in use at its end, by function, for `go tool pprof`. */
  @Get('heap')
  @RouteConstraints({ port: 'admin' })
  @Header('content-disposition', 'attachment; filename="heap.pb.gz"')
  async heap(@Query(new ParametersPipe(heapParameters)) { seconds }: HeapParameters, @Gone() gone: AbortSignal): Promise<Buffer> {
    return encodePprof(await this.profiler.heap(seconds, 'inuse_space', gone));
  }

  /** All memory allocated during the profile, by function, for `go tool pprof`. */
  @Get('allocs')
  @RouteConstraints({ port: 'admin' })
  @Header('content-disposition', 'attachment; filename="allocs.pb.gz"')
  async allocs(@Query(new ParametersPipe(heapParameters)) { seconds }: HeapParameters, @Gone() gone: AbortSignal): Promise<Buffer> {
    return encodePprof(await this.profiler.heap(seconds, 'alloc_space', gone));
  }

  /** The memory of the process and of its threads now. */
  @Get('stats')
  @RouteConstraints({ port: 'admin' })
  stats(): Promise<MemoryStats> {
    return memoryStats(this.profiler.threads);
  }
}
