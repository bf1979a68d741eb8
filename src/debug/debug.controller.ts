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

/** Profiles of the running collector, on demand, under the paths that Go's net/http/pprof has. */
@Controller('/debug/pprof')
@UseGuards(ProfilingGuard)
export class DebugController {
  constructor(private readonly profiler: Profiler) {}

  /** What there is here. Nest takes the last slash off a path, and this one has to end in one, too. */
  @Get(['/', '//'])
  @RouteConstraints({ port: 'admin' })
  @Header('content-type', 'text/html; charset=utf-8')
  @Header('content-security-policy', indexPolicy)
  @Header('x-content-type-options', 'nosniff')
  index(): string {
    return indexPage();
  }

  /** Processor time by function, for `go tool pprof`. */
  @Get('profile')
  @RouteConstraints({ port: 'admin' })
  @Header('content-disposition', 'attachment; filename="cpu.pb.gz"')
  async profile(
    @Query(new ParametersPipe(cpuParameters)) { seconds, frequency }: CpuParameters,
    @Gone() gone: AbortSignal,
  ): Promise<Buffer> {
    return encodePprof(await this.profiler.cpu(seconds, frequency, gone));
  }

  /** The same to look at. */
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

  /** What is allocated meanwhile and still in use at the end, by function, for `go tool pprof`. */
  @Get('heap')
  @RouteConstraints({ port: 'admin' })
  @Header('content-disposition', 'attachment; filename="heap.pb.gz"')
  async heap(@Query(new ParametersPipe(heapParameters)) { seconds }: HeapParameters, @Gone() gone: AbortSignal): Promise<Buffer> {
    return encodePprof(await this.profiler.heap(seconds, 'inuse_space', gone));
  }

  /** What is allocated meanwhile, collected or not. */
  @Get('allocs')
  @RouteConstraints({ port: 'admin' })
  @Header('content-disposition', 'attachment; filename="allocs.pb.gz"')
  async allocs(@Query(new ParametersPipe(heapParameters)) { seconds }: HeapParameters, @Gone() gone: AbortSignal): Promise<Buffer> {
    return encodePprof(await this.profiler.heap(seconds, 'alloc_space', gone));
  }

  /** Where the memory is, at this moment. */
  @Get('stats')
  @RouteConstraints({ port: 'admin' })
  stats(): Promise<MemoryStats> {
    return memoryStats(this.profiler.threads);
  }
}
