"""Sends the spans of a file (an ExportTraceServiceRequest) with the OpenTelemetry SDK for Python.

Usage: sender.py FILE
Where to, with what protocol, headers and compression, the SDK's own environment variables say.
"""

import os
import sys

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode


def main(path):
    if os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    with open(path, "rb") as file:
        request = ExportTraceServiceRequest.FromString(file.read())
    processor = BatchSpanProcessor(OTLPSpanExporter())
    for span in readable_spans(request):
        processor.on_end(span)
    processor.shutdown()


def readable_spans(request):
    for resource_spans in request.resource_spans:
        resource = Resource(attributes(resource_spans.resource.attributes))
        for scope_spans in resource_spans.scope_spans:
            scope = InstrumentationScope(scope_spans.scope.name, scope_spans.scope.version or None)
            for span in scope_spans.spans:
                yield readable_span(span, scope, resource)


def readable_span(span, scope, resource):
    return ReadableSpan(
        name=span.name,
        context=context(span.trace_id, span.span_id, span.trace_state),
        parent=context(span.trace_id, span.parent_span_id) if span.parent_span_id else None,
        resource=resource,
        attributes=attributes(span.attributes),
        events=[Event(event.name, attributes(event.attributes), event.time_unix_nano) for event in span.events],
        links=[
            Link(context(link.trace_id, link.span_id, link.trace_state), attributes(link.attributes))
            for link in span.links
        ],
        # The SDK's kinds begin at INTERNAL.
        kind=SpanKind(span.kind - 1),
        status=Status(StatusCode(span.status.code), span.status.message or None),
        start_time=span.start_time_unix_nano,
        end_time=span.end_time_unix_nano,
        instrumentation_scope=scope,
    )


def context(trace_id, span_id, trace_state=""):
    return SpanContext(
        int.from_bytes(trace_id, "big"),
        int.from_bytes(span_id, "big"),
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState.from_header([trace_state]),
    )


def attributes(pairs):
    return {pair.key: plain_value(pair.value) for pair in pairs}


def plain_value(value):
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [plain_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes(value.kvlist_value.values)
    return getattr(value, kind)


if __name__ == "__main__":
    main(sys.argv[1])
