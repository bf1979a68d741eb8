//! Sends the spans of a file (an ExportTraceServiceRequest) with the OpenTelemetry SDK for Rust.
//!
//! Usage: sender FILE
//! Where to, with what protocol, headers and compression, the SDK's own environment variables say.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as ProtoValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue as ProtoKeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor};
use prost::Message;

fn main() {
    let path = std::env::args().nth(1).expect("a file");
    let bytes = std::fs::read(path).expect("a readable file");
    let request = ExportTraceServiceRequest::decode(bytes.as_slice()).expect("a request");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");

    for resource_spans in request.resource_spans {
        let mut processor = BatchSpanProcessor::builder(exporter(&runtime)).build();
        let attributes = attributes(&resource_spans.resource.unwrap_or_default().attributes);
        processor.set_resource(&Resource::builder_empty().with_attributes(attributes).build());
        for scope_spans in resource_spans.scope_spans {
            let scope = scope_spans.scope.unwrap_or_default();
            let mut builder = InstrumentationScope::builder(scope.name);
            if !scope.version.is_empty() {
                builder = builder.with_version(scope.version);
            }
            let scope = builder.build();
            for span in &scope_spans.spans {
                processor.on_end(span_data(span, scope.clone()));
            }
        }
        processor.shutdown().expect("all spans sent");
    }
}

fn exporter(runtime: &tokio::runtime::Runtime) -> SpanExporter {
    let protocol = match std::env::var("OTEL_EXPORTER_OTLP_PROTOCOL").as_deref() {
        Ok("grpc") => {
            let _inside = runtime.enter();
            return SpanExporter::builder().with_tonic().build().expect("an exporter");
        }
        Ok("http/json") => Protocol::HttpJson,
        _ => Protocol::HttpBinary,
    };
    SpanExporter::builder().with_http().with_protocol(protocol).build().expect("an exporter")
}

fn span_data(span: &Span, instrumentation_scope: InstrumentationScope) -> SpanData {
    let mut events = SpanEvents::default();
    events.events = span
        .events
        .iter()
        .map(|event| Event::new(event.name.clone(), time(event.time_unix_nano), attributes(&event.attributes), 0))
        .collect();
    let mut links = SpanLinks::default();
    links.links = span
        .links
        .iter()
        .map(|link| Link::new(context(&link.trace_id, &link.span_id, &link.trace_state), attributes(&link.attributes), 0))
        .collect();
    let status = span.status.clone().unwrap_or_default();
    SpanData {
        span_context: context(&span.trace_id, &span.span_id, &span.trace_state),
        parent_span_id: span_id(&span.parent_span_id),
        parent_span_is_remote: false,
        span_kind: match span.kind {
            2 => SpanKind::Server,
            3 => SpanKind::Client,
            4 => SpanKind::Producer,
            5 => SpanKind::Consumer,
            _ => SpanKind::Internal,
        },
        name: span.name.clone().into(),
        start_time: time(span.start_time_unix_nano),
        end_time: time(span.end_time_unix_nano),
        attributes: attributes(&span.attributes),
        dropped_attributes_count: 0,
        events,
        links,
        status: match status.code {
            1 => Status::Ok,
            2 => Status::error(status.message),
            _ => Status::Unset,
        },
        instrumentation_scope,
    }
}

fn context(trace_id: &[u8], id: &[u8], trace_state: &str) -> SpanContext {
    let members = trace_state.split(',').filter_map(|member| member.split_once('='));
    let trace_state = TraceState::from_key_value(members).expect("a trace state");
    let trace_id = TraceId::from_bytes(trace_id.try_into().expect("16 bytes"));
    SpanContext::new(trace_id, span_id(id), TraceFlags::SAMPLED, false, trace_state)
}

fn span_id(bytes: &[u8]) -> SpanId {
    bytes.try_into().map_or(SpanId::INVALID, SpanId::from_bytes)
}

fn time(unix_nano: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(unix_nano)
}

fn attributes(pairs: &[ProtoKeyValue]) -> Vec<KeyValue> {
    pairs
        .iter()
        .filter_map(|pair| Some(KeyValue::new(pair.key.clone(), value(pair.value.as_ref()?)?)))
        .collect()
}

/// None for what the SDK has no type for: bytes, maps, lists of several types, nothing.
fn value(any: &AnyValue) -> Option<Value> {
    match any.value.as_ref()? {
        ProtoValue::StringValue(text) => Some(text.clone().into()),
        ProtoValue::BoolValue(value) => Some((*value).into()),
        ProtoValue::IntValue(value) => Some((*value).into()),
        ProtoValue::DoubleValue(value) => Some((*value).into()),
        ProtoValue::ArrayValue(list) => {
            let values: Vec<Value> = list.values.iter().map(value).collect::<Option<_>>()?;
            array(&values).map(Value::Array)
        }
        _ => None,
    }
}

fn array(values: &[Value]) -> Option<Array> {
    fn all<T>(values: &[Value], one: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
        values.iter().map(one).collect()
    }
    let texts = all(values, |value| if let Value::String(text) = value { Some::<StringValue>(text.clone()) } else { None });
    let integers = || all(values, |value| if let Value::I64(number) = value { Some(*number) } else { None });
    let doubles = || all(values, |value| if let Value::F64(number) = value { Some(*number) } else { None });
    let booleans = || all(values, |value| if let Value::Bool(flag) = value { Some(*flag) } else { None });
    texts
        .map(Array::String)
        .or_else(|| integers().map(Array::I64))
        .or_else(|| doubles().map(Array::F64))
        .or_else(|| booleans().map(Array::Bool))
}
